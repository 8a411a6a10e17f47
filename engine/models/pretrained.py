"""Recipe 2: the backbone starts from a network that has already learned to see poses.

Reads what is out there by parameter name, wherever in the file the ResNet sits and whatever wrappers put before its names: a run's
model.pt and the file `jobs/export_backbone.py` makes, Simple Baselines' `.pth.tar` (flat, or below 'state_dict'), torchvision's ImageNet
files, 3D-pose checkpoints (SPIN's 'model', Pose2Pose's 'network'). What was left out is reported, and a file of another ResNet is
refused: a silent partial load is the commonest way not to reproduce the paper.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import CheckpointMismatch, UnsafeInput
from engine.models.backbone import ResNet
from engine.storage import split

WRAPPERS = ("module.", "model.", "backbone.")
"""Prefixes that DataParallel and the networks' own classes leave on a name."""
_ROOT = re.compile(r"((?:.*\.)?)layer1\.0\.conv1\.weight")
_DEPTHS = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
_COUNTER = "num_batches_tracked"
"""BatchNorm's counter of batches, which files older than PyTorch 0.4.1 lack."""


@dataclass(frozen=True)
class BackboneReport:
    """What `load_backbone` did: parameter names, without wrappers."""

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    """In the backbone, not in the file; BatchNorm's counters alone, and they keep their start."""
    ignored: tuple[str, ...]
    """In the file, not in the backbone: classifiers, deconvolutions, regressors."""
    found_at: str = ""
    """Where in the file the backbone was: keys of the containers, then the prefix of its names."""

    def __str__(self) -> str:
        place = f" at {self.found_at!r}" if self.found_at else ""
        total = len(self.taken) + len(self.missing)
        return f"{len(self.taken)}/{total} taken{place}; missing: {_by_group(self.missing, -1)}; ignored: {_by_group(self.ignored, 0)}"


class _Discarded:
    """Stands in for a NumPy scalar in a file (a score beside the weights), so that NumPy itself has not to be trusted."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_SCALARS = [(_Discarded, name) for name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")]


def load_backbone(backbone: ResNet, url: str) -> BackboneReport:
    """Copy the weights of a file at any URL into `backbone`, in place, whole or not at all; half precision is widened.

    Only BatchNorm's counters may be missing. Raises MissingInput if there is no file, UnsafeInput if it is not plain weights,
    CheckpointMismatch if it holds no ResNet, several, weights that are not finite, or another ResNet, saying which it looks like.
    """
    store, name = split(url)
    data = store.get(name)
    with torch.serialization.safe_globals(_SCALARS):
        content = load_weights(data, url)
    keys, state, prefix = _locate(content, url)
    found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    wanted = backbone.state_dict()
    _check_fit(found, wanted, url)
    backbone.load_state_dict({k: found.get(k, v) for k, v in wanted.items()})
    return BackboneReport(
        taken=tuple(k for k in wanted if k in found),
        missing=tuple(k for k in wanted if k not in found),
        ignored=tuple(_bare(k) for k in state if not (k.startswith(prefix) and k.removeprefix(prefix) in wanted)),
        found_at="/".join((*keys, prefix)) if keys or prefix else "",
    )


def load_weights(data: bytes, name: str) -> object:
    """`torch.load` of plain weights, onto the CPU. UnsafeInput if the bytes are damaged or hold more than tensors and containers."""
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files of torch's old format raise whatever their pickle runs into
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UnsafeInput(f"{name}: expected a torch file of tensors alone, refused: {reason}") from None


def architecture(state: dict[str, Tensor]) -> str:
    """What ResNet a state dict in torchvision's names looks like, in the words of a network's config, by its blocks and channels."""
    if any(k.startswith(("stage2.", "transition1.")) for k in state):
        return "HRNet"
    blocks = tuple(len({k.split(".")[1] for k in state if k.startswith(f"layer{stage}.")}) for stage in (1, 2, 3, 4))
    depth = _DEPTHS.get(("layer1.0.conv3.weight" in state, blocks), f"a network of {'-'.join(map(str, blocks))} blocks")
    stem = state.get("conv1.weight")
    return depth if stem is None else f"{depth} width {len(stem) / 64:g}"


def _check_fit(found: dict[str, Tensor], wanted: dict[str, Tensor], url: str) -> None:
    there, here = architecture(found), architecture(wanted)
    advice = f"the file looks like {there}, the backbone here is {here}; set model.backbone and model.width to the file's, or name another"
    if missing := [k for k in wanted if k not in found and not k.endswith(_COUNTER)]:
        raise CheckpointMismatch(
            f"backbone weights {url}: {len(missing)} of the backbone's {len(wanted)} entries are missing (first: {missing[0]} of shape "
            f"{tuple(wanted[missing[0]].shape)}); {advice}"
        )
    if wrong := [k for k in wanted if k in found and found[k].shape != wanted[k].shape]:
        shown = "; ".join(f"{k} is {tuple(found[k].shape)} in the file, {tuple(wanted[k].shape)} here" for k in wrong[:3])
        raise CheckpointMismatch(f"backbone weights {url}: {len(wrong)} shapes differ: {shown}; {advice}")
    if extra := [k for k in found if k not in wanted and re.match(r"layer\d+\.", k)]:
        raise CheckpointMismatch(f"backbone weights {url}: {len(extra)} entries are of layers not here (first: {extra[0]}); {advice}")
    if bad := [k for k in wanted if k in found and not torch.isfinite(found[k]).all()]:
        raise CheckpointMismatch(f"backbone weights {url}: {bad[0]} and {len(bad) - 1} others are not finite; take an earlier checkpoint")


def _locate(content: object, url: str) -> tuple[tuple[str, ...], dict[str, Tensor], str]:
    """Keys of the containers, state dict and prefix of the file's ResNet."""
    first: list[str] = []
    for keys, state in _state_dicts(content):
        roots = [match.group(1) for name in state if (match := _ROOT.fullmatch(name)) and f"{match.group(1)}conv1.weight" in state]
        plain = [root for root in roots if not _bare(root)] or roots
        if len(plain) > 1:
            raise CheckpointMismatch(
                f"backbone weights {url}: expected one ResNet, found several, at {', '.join(map(repr, plain))}; save the one to start from "
                "to a file of its own"
            )
        if plain:
            return keys, state, plain[0]
        first = first or list(state)[:3]
    names = first or (list(map(str, content))[:8] if isinstance(content, dict) else [type(content).__name__])
    raise CheckpointMismatch(
        f"backbone weights {url}: no ResNet in it; its first names are {', '.join(names) or 'none'}; expected torchvision's names "
        "(conv1.weight, layer1.0.conv1.weight, ...) at the top or below a key such as 'state_dict', 'model' or 'network'"
    )


def _state_dicts(content: object, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every mapping of names to tensors in a file, outermost first, down to two containers."""
    if not isinstance(content, dict):
        return
    if tensors := {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}:
        yield keys, tensors
    if len(keys) < 2:
        for key, value in content.items():
            yield from _state_dicts(value, (*keys, str(key)))


def _by_group(names: tuple[str, ...], position: int) -> str:
    """Counts by one part of the dotted names: 'fc 2, deconv_layers 18'."""
    return ", ".join(f"{group} {count}" for group, count in Counter(name.split(".")[position] for name in names).items()) or "none"


def _bare(name: str) -> str:
    while wrapper := next((w for w in WRAPPERS if name.startswith(w)), None):
        name = name.removeprefix(wrapper)
    return name
