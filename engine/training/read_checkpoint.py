"""Checkpoints found and their manifests read, without torch: what a plan or a report needs to know of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from engine.errors import CheckpointMismatch, MissingInput, StorageError
from engine.storage import Store
from schemas.checkpoints import CheckpointManifest, CheckpointPointer

LATEST = "LATEST"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint, its manifest read and checked against LATEST; its files are checked when read."""

    store: Store
    manifest: CheckpointManifest

    def get(self, name: str) -> bytes:
        """A file's bytes. StorageError if they are not those the manifest names."""
        if name not in self.manifest.files:
            raise CheckpointMismatch(f"checkpoint {self.store.url}: its manifest names no {name}; it has {', '.join(self.manifest.files)}")
        return self.store.get_checked(name, self.manifest.files[name].sha256)

    def tensors(self, name: str) -> Any:
        """What torch.save wrote, tensors and containers alone. UnsafeInput if there is anything else."""
        from engine.models.pretrained import load_weights  # torch: whoever only wants the manifest does not wait for it

        return load_weights(self.get(name), f"{self.store.url}/{name}")


def latest(run: Store) -> Checkpoint | None:
    """The checkpoint a run goes on from, or None when there is none yet. StorageError if LATEST or the manifest is damaged."""
    data = pointer_bytes(run)
    if data is None:
        return None
    try:
        pointer = CheckpointPointer.from_bytes(data)
    except ValidationError:
        raise StorageError(
            f"{run.url}/{LATEST}: expected a checkpoint pointer, found {data[:80]!r}; restore it, or train in a new directory"
        ) from None
    folder = run.child(pointer.path)
    folder.get_checked(MANIFEST, pointer.manifest_sha256)
    return Checkpoint(folder, read_manifest(folder))


def open_checkpoint(url: str) -> Checkpoint:
    """The checkpoint at a URL: a run directory (its LATEST) or one checkpoint's folder. MissingInput if it is neither."""
    store = Store(url)
    if store.exists(MANIFEST):
        return Checkpoint(store, read_manifest(store))
    if (found := latest(store)) is None:
        raise MissingInput(
            f"{url}: no checkpoint there; expected a run directory with {LATEST}, or a checkpoint's folder with {MANIFEST}. "
            "Check the path, or train first"
        )
    return found


def pointer_bytes(run: Store) -> bytes | None:
    """LATEST as it is stored, None before the first checkpoint."""
    try:
        return run.get(LATEST)
    except MissingInput:
        return None


def read_manifest(folder: Store) -> CheckpointManifest:
    """The manifest in a checkpoint's folder. MissingInput without one, StorageError when it is damaged."""
    try:
        return CheckpointManifest.from_bytes(folder.get(MANIFEST))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "top level"
        raise StorageError(f"{folder.url}/{MANIFEST}: not a checkpoint's manifest: {key}: {first['msg']}") from None
