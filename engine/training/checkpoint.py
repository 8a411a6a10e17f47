"""Checkpoints: committed by us, create-only and digested, and read back into networks.

Ray Train loses a checkpoint that is reported shortly before a crash, so the run directory is ours: files first, the manifest
last, then LATEST moves by compare-and-swap. A folder without a manifest is what a crash left and is written again. Two
runs in one directory meet at LATEST, and the second one stops.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import nn

from engine.body.pose_prior import PosePrior, PriorConfig, load_prior
from engine.body.smpl import Body, BodyConfig, load_body
from engine.config import validate
from engine.errors import CheckpointMismatch, CommitConflict
from engine.models.estimator import Network
from engine.models.registry import build, config_type
from engine.storage import Store
from engine.training.config import recorded_identity
from engine.training.read_checkpoint import LATEST, MANIFEST, Checkpoint, latest, open_checkpoint, pointer_bytes, read_manifest
from schemas.checkpoints import CheckpointFile, CheckpointManifest, CheckpointPart, CheckpointPointer
from schemas.records import sha256_hex


@dataclass(frozen=True)
class LoadedNetwork:
    """A trained network, in eval mode, with the body and prior it was trained with. `digest` is of its weights' file."""

    model: Network
    manifest: CheckpointManifest
    body: Body
    prior: PosePrior | None
    digest: str


def serialise(state: Any) -> bytes:
    """Bytes of a state dict, for `commit`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def part(component: Body | PosePrior, config: BodyConfig | PriorConfig) -> CheckpointPart:
    """How a checkpoint names a body or prior."""
    return CheckpointPart(name=component.name, digest=component.digest, config=config.model_dump(mode="json"))


def commit(run: Store, files: dict[str, bytes], keep: int, **fields: Any) -> CheckpointManifest:
    """Write a checkpoint and move LATEST to it; then drop all but the newest `keep`. `fields` are the manifest's others.

    A manifest that is there already (a crash came between it and LATEST) is adopted. CommitConflict if another run wrote here. Folders of
    later steps, which a crash may have left, stay until the run comes to them.
    """
    path = f"checkpoints/{fields['step']:08d}"
    folder = run.child(path)
    before, newest = pointer_bytes(run), latest(run)
    if newest is not None:
        _require_same_training(newest.manifest, fields, run)
    if newest is not None and newest.manifest.step > fields["step"]:
        raise CommitConflict(f"{run.url}: another run is ahead, at step {newest.manifest.step}; stop one of the two")
    if folder.exists(MANIFEST):
        manifest = read_manifest(folder)
        _require_same_training(manifest, fields, run)
    else:
        run.clear(path)
        for name, data in files.items():
            folder.create(name, data)
        entries = {name: CheckpointFile(sha256=sha256_hex(data), size_bytes=len(data)) for name, data in files.items()}
        manifest = CheckpointManifest(files=entries, created_at=datetime.now(UTC).isoformat(timespec="seconds"), **fields)
        folder.create(MANIFEST, manifest.to_bytes())
    pointer = CheckpointPointer(step=manifest.step, path=path, manifest_sha256=sha256_hex(folder.get(MANIFEST)))
    if before != pointer.to_bytes():
        run.swap(LATEST, before, pointer.to_bytes())
    _drop_old(run, keep, manifest.step)
    return manifest


def load_network(url: str, device: str = "cpu") -> LoadedNetwork:
    """The network of a run directory or checkpoint, ready to predict.

    Body and prior are loaded by the configs in the manifest. CheckpointMismatch if they are not the ones it was trained with,
    MissingInput for a wrong path, StorageError for damaged files, UnsafeInput for files that hold code.
    """
    checkpoint = open_checkpoint(url)
    manifest = checkpoint.manifest
    body = load_body(validate(BodyConfig, manifest.body.config, f"{url}, body"))
    prior = load_prior(validate(PriorConfig, manifest.prior.config, f"{url}, prior")) if manifest.prior is not None else None
    require_same_parts(checkpoint, body, prior)
    model = build(validate(config_type(manifest.model), manifest.model, f"{url}, model"), body, prior)
    load_state(model, checkpoint.tensors("model.pt"), f"{checkpoint.store.url}/model.pt")
    model.to(memory_format=torch.channels_last).to(device).eval().requires_grad_(False)
    return LoadedNetwork(model, manifest, body, prior, manifest.files["model.pt"].sha256)


def load_state(model: nn.Module, state: Any, name: str) -> None:
    """`load_state_dict`, whole or not at all. CheckpointMismatch says that it is of another network, and where they differ."""
    if not isinstance(state, dict):
        raise CheckpointMismatch(f"{name}: expected a state dict, found {type(state).__name__}")
    own = model.state_dict()
    both = [(key, _shape(state[key]), _shape(own[key])) for key in own if key in state]
    shapes = [f"{key} is {there} there, {here} here" for key, there, here in both if there != here]
    problems = [
        f"{len(keys)} {what} ({keys[0]})"
        for what, keys in (
            ("are missing", [key for key in own if key not in state]),
            ("are unknown here", [key for key in state if key not in own]),
            ("have another shape", shapes),
        )
        if keys
    ]
    if problems:
        raise CheckpointMismatch(
            f"{name}: of another network than this {type(model).__name__}: of its {len(own)} weights {'; '.join(problems)}; "
            "give a checkpoint of the same model config"
        )
    model.load_state_dict(state)


def history_bytes(rows: list[dict[str, float]]) -> bytes:
    """JSON lines of the history's rows; never empty, as a store refuses empty objects."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows) or b"\n"


def require_same_parts(checkpoint: Checkpoint, body: Body, prior: PosePrior | None) -> None:
    """CheckpointMismatch unless body and prior, which checkpoints do not contain, are those it was trained with. A prior is compared if
    there are two: a network may start from one with another head."""
    for kind, recorded, found in (("body", checkpoint.manifest.body, body), ("prior", checkpoint.manifest.prior, prior)):
        if recorded is not None and found is not None and recorded.digest != found.digest:
            raise CheckpointMismatch(
                f"checkpoint {checkpoint.store.url}: trained with {kind} {recorded.name!r} of digest {recorded.digest[:12]}, but the one "
                f"here, {found.name!r}, has {found.digest[:12]}; restore the {kind}'s files, or train again with these"
            )


def _require_same_training(there: CheckpointManifest, fields: dict[str, Any], run: Store) -> None:
    """CommitConflict if a checkpoint in this run's directory is of another config, or trained on other sets."""
    mine = fields["training_sets"]
    then = recorded_identity(there.role, there.config, there.training_sets)
    if then != recorded_identity(fields["role"], fields["config"], mine) or there.training_sets != mine:
        raise CommitConflict(f"{run.url}: holds checkpoints of another config or other training sets; give this run a directory of its own")


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def _drop_old(run: Store, keep: int, newest: int) -> None:
    """All but the last `keep` folders up to step `newest`. The manifest goes first, so that half a folder is no checkpoint."""
    folders = sorted({key.split("/")[1] for key in run.list("checkpoints")})
    for folder in [name for name in folders if int(name) <= newest][:-keep]:
        if run.exists(f"checkpoints/{folder}/{MANIFEST}"):
            run.delete(f"checkpoints/{folder}/{MANIFEST}")
        run.clear(f"checkpoints/{folder}")
