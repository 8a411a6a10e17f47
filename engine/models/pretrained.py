"""Recipe 2: the backbone starts from a network that has already learned to see 2D poses.

Reads what is out there by parameter name: torchvision's ImageNet state dicts, Simple Baselines' `.pth.tar` (flat, or below
'state_dict'), with the prefixes that wrappers leave behind. What belongs to other heads is named in the report, and
a file whose shapes are another network's is refused: a silent partial load is the commonest way not to reproduce the paper.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.errors import CheckpointMismatch, UnsafeInput
from engine.models.backbone import ResNet
from engine.storage import Store

PREFIXES = ("module.", "backbone.")


@dataclass(frozen=True)
class BackboneReport:
    """What `load_backbone` did: parameter names, in the backbone's spelling."""

    taken: tuple[str, ...]
    missing: tuple[str, ...]
    """In the backbone, not in the file; they keep their random start."""
    ignored: tuple[str, ...]
    """In the file, not in the backbone (fc, deconv_layers, final_layer)."""

    def __str__(self) -> str:
        return f"{len(self.taken)} weights taken, {len(self.missing)} missing, {len(self.ignored)} ignored"


def load_backbone(backbone: ResNet, url: str) -> BackboneReport:
    """Copy the weights that fit by name from a state dict at any URL into `backbone`, in place.

    BatchNorm's `num_batches_tracked` may be missing (files older than it). Raises MissingInput if there is no file, UnsafeInput if
    it is not plain weights, CheckpointMismatch if shapes differ or any other weight is missing, naming the shapes.
    """
    found = _state_dict(url)
    wanted = backbone.state_dict()
    if wrong := [k for k in wanted if k in found and found[k].shape != wanted[k].shape]:
        shown = "; ".join(f"{k} is {tuple(found[k].shape)} in the file, {tuple(wanted[k].shape)} here" for k in wrong[:3])
        raise CheckpointMismatch(
            f"backbone weights {url}: {len(wrong)} shapes differ: {shown}; set model.backbone and model.width to the file's network"
        )
    missing = tuple(k for k in wanted if k not in found)
    vital = [k for k in missing if not k.endswith("num_batches_tracked")]
    if vital:
        raise CheckpointMismatch(
            f"backbone weights {url}: {len(vital)} of the backbone's {len(wanted)} entries are missing (first: {vital[0]} "
            f"of shape {tuple(wanted[vital[0]].shape)}); the file's first names are {', '.join(list(found)[:3]) or 'none'}; "
            "expected torchvision's names, or set model.backbone to the file's network"
        )
    backbone.load_state_dict({k: found.get(k, v) for k, v in wanted.items()})
    return BackboneReport(tuple(k for k in wanted if k in found), missing, tuple(k for k in found if k not in wanted))


def _state_dict(url: str) -> dict[str, Tensor]:
    folder, _, name = url.rpartition("/")
    content = load_weights(Store(folder or ".").get(name), url)
    inner = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(inner, dict):
        raise CheckpointMismatch(f"backbone weights {url}: expected a dict of named tensors, found {type(content).__name__}")
    return {_bare(k): v for k, v in inner.items() if isinstance(k, str) and isinstance(v, Tensor)}


def load_weights(data: bytes, name: str) -> object:
    """`torch.load` of plain weights, onto the CPU. UnsafeInput if the bytes hold objects other than tensors and containers."""
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UnsafeInput(f"{name}: expected a torch file of tensors alone, refused: {reason}") from None


def _bare(name: str) -> str:
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            if name.startswith(prefix):
                name, stripped = name[len(prefix):], True
    return name
