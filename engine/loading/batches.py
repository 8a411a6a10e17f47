"""Batches for training, made in the background: half MoCap, half ITW, in the canonical order, for one rank.

A batch is a pure function of (sources, seed, epoch, step, rank, world size): worker threads make whole batches ahead of the
consumer, each with its own decoder, and hand them over in order. An image that cannot be used leaves its persons in
the batch as black crops without any supervision, so the order never depends on what is broken; it is counted and logged.

Shapes: B local batch, H x W crop, J = 33 joints.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from pydantic import Field

from engine.body.smpl import Body
from engine.config import Config
from engine.errors import ConfigError, ReleaseError, SampleRejected
from engine.loading.augmentation import AugmentConfig, draw
from engine.loading.counter_rng import stable_key
from engine.loading.crops import crop_affines
from engine.loading.cutter import Cutter
from engine.loading.instances import INSTANCE, mask_out
from engine.loading.order import HalfOrder, apply_shares, half_order, half_sizes, instances_per_half, rank_part, steps_per_epoch
from engine.loading.soundness import SourceWatch, withdraw_targets
from engine.loading.sources import Source, SourceConfig
from engine.loading.targets import build_targets, fit_joints
from schemas.crops import CropSpec

log = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor | list[str]]
Members = dict[tuple[int, int], list[tuple[int, int]]]
"""The samples of a batch: (source, sample) -> [(place in the batch, instance of the sample)]."""


class LoadingConfig(Config):
    """What to train on and how batches are made of it."""

    mocap: tuple[SourceConfig, ...] = Field(default=(), description="the 3D half: studio MoCap sets")
    itw: tuple[SourceConfig, ...] = Field(default=(), description="the in-the-wild half")
    batch_size: int = Field(default=192, ge=1, description="global batch over all ranks, instances; half from each half")
    seed: int = Field(default=0, description="of order and augmentation")
    augment: AugmentConfig = AugmentConfig()
    cache_dir: str = Field(default="/tmp/pseudogt-shards", description="folder for verified local copies of remote shards")
    threads: int = Field(default=1, ge=1, description="worker threads a rank; each decodes and crops whole batches")
    prefetch_batches: int = Field(default=3, ge=1, description="batches made ahead of the consumer, per rank")
    shuffle_window_shards: int = Field(default=16, ge=1, description="samples are shuffled within windows of this many (shuffled) shards")
    cached_instances: int = Field(default=200_000, ge=0, description="parsed annotations kept per source and rank, instances of 1.7 kB")
    decoded_cache_mib: int = Field(default=0, ge=0, description="decoded images kept in memory per rank, MiB; for sets that fit")


class BatchStream:
    """The training batches of one rank. Close it (or use it as a context manager) to end its threads."""

    def __init__(
        self,
        config: LoadingConfig,
        crop: CropSpec,
        body: Body,
        rank: int = 0,
        world_size: int = 1,
        hm_dhw: tuple[int, int, int] = (8, 8, 6),
    ) -> None:
        """Opens every source. ConfigError when the batch cannot be cut evenly, ReleaseError when a release is of another body."""
        self.config, self.crop, self.hm_dhw, self.rank, self.world_size = config, crop, hm_dhw, rank, world_size
        self._body = body
        self._sources = [Source(s, config.cache_dir, crop, config.cached_instances) for s in (*config.mocap, *config.itw)]
        for source in self._sources:
            _require_same_body(source, body)
        shapes = [source.shape for source in self._sources]
        self._shapes = apply_shares(tuple(shapes[: len(config.mocap)])), apply_shares(tuple(shapes[len(config.mocap) :]))
        for source in self._sources:
            _require_instances(source)
        sizes = half_sizes(*self._shapes)
        self._per_half = instances_per_half(sizes, config.batch_size, world_size)
        self.steps_per_epoch = steps_per_epoch(sizes, config.batch_size)
        self._rejected: dict[str, str] = {}
        self._watches = [SourceWatch(f"{s.dataset} ({s.config.url})", s.instances // world_size) for s in self._sources]
        self._cutter = Cutter(self._sources, crop, config.augment, config.decoded_cache_mib << 20)
        self._pool = ThreadPoolExecutor(config.threads, thread_name_prefix="loading")

    @property
    def rejected(self) -> dict[str, str]:
        """Images ("dataset/key") and persons ("dataset/key/annotation_id") met so far that could not be used, with the reason."""
        return {name: why for found in (self._rejected, *(s.rejected for s in self._sources)) for name, why in found.items()}

    @property
    def sources(self) -> tuple[Source, ...]:
        """The opened sources, MoCap first."""
        return tuple(self._sources)

    @property
    def digests(self) -> dict[str, str]:
        """Shard sets and releases the batches are made of: name -> digest. Of several with one name, the later carry their digest in it."""
        found: dict[str, str] = {}
        for source in self._sources:
            for name, digest in source.digests.items():
                found[name if found.get(name, digest) == digest else f"{name}@{digest[:12]}"] = digest
        return found

    @property
    def summary(self) -> list[dict[str, str | int | float]]:
        """One row a source: half, dataset, usable instances, those left out for want of a pseudo-GT row and by `take`, weight, share."""
        rows, sources = [], iter(self._sources)
        for half, shapes, size in zip(("mocap", "itw"), self._shapes, half_sizes(*self._shapes), strict=True):
            for shape in shapes:
                source = next(sources)
                rows.append(
                    {
                        "half": half,
                        "dataset": source.dataset,
                        "instances": source.instances,
                        "without_row": source.without_row,
                        "not_taken": source.not_taken,
                        "weight": source.config.weight,
                        "share": shape.weight * shape.instances / size,
                    }
                )
        return rows

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from a step on, in order; see `run`."""
        first = epoch * self.steps_per_epoch
        return self.run(first + start_step, first + self.steps_per_epoch)

    def run(self, start: int, stop: int) -> Iterator[Batch]:
        """The batches of steps `start` to `stop` - 1, numbered through all epochs. Leaving the loop early cancels the work ahead.

        The work ahead does not stop at the end of an epoch, which matters to small sets. Keys (float32 but for `image`): image
        (B, 3, H, W) uint8 RGB, channels last in memory; the targets of `build_targets`; ids, a list of "dataset/key/annotation_id". MoCap
        instances come first.
        """
        steps = iter(range(start, stop))
        pending: deque[Future[Batch]] = deque()
        ordered, halves = -1, []
        try:
            while True:
                while len(pending) < self.config.prefetch_batches and (step := next(steps, None)) is not None:
                    epoch, number = divmod(step, self.steps_per_epoch)
                    if epoch != ordered:
                        ordered, halves = epoch, self._halves(epoch)
                    parts = [(offset, rank_part(half, number, n, self.rank, self.world_size)) for half, n, offset in halves]
                    pending.append(self._pool.submit(self._make, epoch, parts))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _halves(self, epoch: int) -> list[tuple[HalfOrder, int, int]]:
        """Order, persons a step, and number of the first source of each half that there is."""
        return [
            (half_order(shapes, self.config.seed, epoch, self.steps_per_epoch * n, self.config.shuffle_window_shards), n, offset)
            for shapes, n, offset in zip(self._shapes, self._per_half, (0, len(self.config.mocap)), strict=True)
            if n
        ]

    def close(self) -> None:
        """End the worker threads and close the files."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        for source in self._sources:
            source.close()

    def __enter__(self) -> BatchStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self, epoch: int, parts: list[tuple[int, HalfOrder]]) -> Batch:
        members: Members = {}
        keys, ids = [], []
        size = sum(len(part) for _, part in parts)
        rows_B = np.empty(size, dtype=INSTANCE)
        for offset, part in parts:
            for source, sample, instance, number in part.tolist():
                records, names = self._sources[offset + source].records(sample)
                members.setdefault((offset + source, sample), []).append((len(ids), instance))
                rows_B[len(ids)] = records[instance]
                keys.append(stable_key(self.config.seed, epoch, number, names[instance]))
                ids.append(names[instance])
        if (rows_B["has_fit"].astype(bool) & ~rows_B["fitted"]).any():
            self._fit(members, rows_B)
        augmentation = draw(self.config.augment, np.array(keys, dtype=np.uint64))
        affine_B23 = crop_affines(rows_B["box"], self.crop.hw, augmentation)
        gains_B3 = augmentation.colour_B3 if self.config.augment.colour else None
        crops_BHW3 = self._crop(members, rows_B, affine_B23, gains_B3)
        targets = build_targets(rows_B, affine_B23, augmentation, self.crop.hw, self.hm_dhw)
        for name, problem in withdraw_targets(targets, ids).items():
            self._note(name, f"{problem}: its annotation is out of all proportion", "it is trained on without supervision")
        self._watch(members, rows_B, ids)
        batch: Batch = {name: torch.from_numpy(values) for name, values in targets.items()}
        batch["image"] = torch.from_numpy(crops_BHW3).permute(0, 3, 1, 2)
        batch["ids"] = ids
        return batch

    def _fit(self, members: Members, rows_B: np.ndarray) -> None:
        """Joints of the SMPL fits, computed for all persons of the samples at once and remembered."""
        wanted = [key for key, places in members.items() if not all(rows_B["fitted"][place] for place, _ in places)]
        records = [self._sources[source].records(sample)[0] for source, sample in wanted]
        together = np.concatenate(records)
        fit_joints(together, self._body)
        for (source, sample), rows in zip(wanted, np.split(together, np.cumsum([len(r) for r in records])[:-1]), strict=True):
            self._sources[source].keep_fits(sample, rows)
            for place, instance in members[source, sample]:
                rows_B[place] = rows[instance]

    def _crop(self, members: Members, rows_B: np.ndarray, affine_B23: np.ndarray, gains_B3: np.ndarray | None) -> np.ndarray:
        """Crops (B, H, W, 3) uint8; persons of images that cannot be used stay black and lose their masks."""
        places = {key: [place for place, _ in found] for key, found in members.items()}
        crops_BHW3, rejected = self._cutter.crops(places, rows_B, affine_B23, gains_B3)
        for (source, sample), problem in rejected.items():
            self._reject(self._sources[source], sample, problem)
            mask_out(rows_B, places[source, sample])
        return crops_BHW3

    def _watch(self, members: Members, rows_B: np.ndarray, ids: list[str]) -> None:
        """Stop at a source none of whose persons can be used."""
        for (source, sample), places in members.items():
            for place, _ in places:
                if rows_B["usable"][place]:
                    self._watches[source].met(ids[place], True, "")
                else:
                    opened = self._sources[source]
                    image = self._rejected.get(f"{opened.dataset}/{opened.key(sample)}")
                    self._watches[source].met(ids[place], False, image or opened.rejected.get(ids[place], "its box misses the image"))

    def _reject(self, source: Source, sample: int, rejection: SampleRejected) -> None:
        self._note(f"{source.dataset}/{source.key(sample)}", str(rejection), "its persons are trained on without image and supervision")

    def _note(self, name: str, problem: str, consequence: str) -> None:
        if name not in self._rejected:
            self._rejected[name] = problem
            log.warning("%s: %s; %s", name, problem, consequence)


def _require_instances(source: Source) -> None:
    if source.instances:
        return
    release = f"; release {source.release.where} has no row for {source.without_row} of them" if source.release else ""
    release += f", and take {source.config.take!r} leaves out the other {source.not_taken}" if source.not_taken else ""
    raise ConfigError(f"loading: shard set {source.config.url} has no persons to train on{release}; take it out, or make it again")


def _require_same_body(source: Source, body: Body) -> None:
    if source.release is None:
        return
    manifest = source.release.manifest
    digest = manifest.lineage.get("body", body.digest)
    if manifest.body != body.name or digest != body.digest:
        made, used = f"{manifest.body!r} ({digest[:12]})", f"{body.name!r} ({body.digest[:12]})"
        raise ReleaseError(f"{source.release.where}: made with the body {made}, but training uses {used}; use the same body")
