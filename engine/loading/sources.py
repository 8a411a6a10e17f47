"""One source of training instances: a shard set, read at random from verified local copies, with a release joined to it or not.

The shard set's index says where each image lies in its tar, so one sample costs two positioned reads. Where a release is joined, only
instances that have a pseudo-GT row are used, found by (key, annotation id); the others are counted, never guessed. Annotations
are parsed once and kept as records (schemas -> INSTANCE), the first `cached_instances` of them.

Shapes: N usable instances of the source, S samples.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import defaultdict

import numpy as np
import pyarrow as pa
from pydantic import Field, ValidationError, model_validator

from engine.config import Config
from engine.errors import ConfigError, ReleaseError, ShardCorrupt
from engine.loading.crops import window_record
from engine.loading.instances import INSTANCE, Supervise, fill_instance
from engine.loading.order import SourceShape
from engine.loading.soundness import withdraw_nonfinite
from engine.loading.targets import GenderedShape, settle_gender
from engine.releases.expressions import Expression
from engine.releases.reference import parse_reference
from engine.releases.store import Release, open_reference
from engine.shards.reader import ShardSet, open_shard_set
from schemas.crops import CropSpec
from schemas.manifests import ShardEntry
from schemas.sample import Sample

log = logging.getLogger(__name__)

_JOINED = ("pose", "betas", "transl", "focal", "princpt")


class SourceConfig(Config):
    """A shard set to train on, and what may be learnt from it."""

    url: str = Field(description="URL of the shard set (the folder of its manifest.json)")
    weight: float = Field(default=1.0, gt=0, description="how often its instances are seen, against those of a source of weight 1")
    share: float | None = Field(
        default=None, gt=0, le=1, description="fraction of its half that comes from it, whatever its size; null: by weight and size"
    )
    supervise: Supervise = Field(default="full", description="'full': all the supervision there is; '2d': 2D joints alone, 3D is left out")
    gendered_shape: GenderedShape = Field(
        default="joints_only",
        description="fits to a male or female body (3DPW): 'joints_only': that body's joints and the pose are taught, its betas are not; "
        "'betas_too': its betas are the shape's target as well; 'neutral': pose and betas pose the neutral body",
    )
    release: str | None = Field(
        default=None,
        description="the release whose pseudo-GT supervises this source: ROOT#NAME, ROOT#NAME@v3 or ROOT#NAME@TAG; null: none. "
        "'{pseudo_gt}' in it stands for the training config's `pseudo_gt`",
    )
    take: str | None = Field(
        default=None, description="which rows of the release are used, e.g. 'score > 0.5 and valid_joints >= 8'; null: all"
    )
    loss_weight: str | None = Field(
        default=None,
        description="what a person's pseudo-GT counts in the losses, a number from the row's columns, e.g. 'score' or "
        "'where(score > 0.5, 1, 0.2)'; 2D truth counts in full; null: 1",
    )

    @model_validator(mode="after")
    def _release_is_whole(self) -> SourceConfig:
        if self.share is not None and self.weight != 1:
            raise ValueError("share and weight say the same thing in two ways: give one of them")
        if self.release is None and (self.take is not None or self.loss_weight is not None):
            raise ValueError("take and loss_weight speak of a release's rows, but no release is given")
        if self.release is not None and self.supervise == "2d":
            raise ValueError("a release is joined for its 3D pseudo-GT, which supervise='2d' would leave out")
        try:
            if self.release is not None:
                parse_reference(self.release.replace("{pseudo_gt}", "x"))
            for text, kind in ((self.take, "truth"), (self.loss_weight, "number")):
                if text is not None:
                    Expression(text, kind)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


class Source:
    """An open source. Safe to read from several threads."""

    def __init__(self, config: SourceConfig, cache_dir: str, crop: CropSpec, cached_instances: int) -> None:
        """Reads the manifest, the indexes and the release's rows; shards themselves are fetched when first needed."""
        self.config, self._crop = config, crop
        self.shard_set: ShardSet = open_shard_set(config.url)
        self.dataset = self.shard_set.manifest.dataset
        self.release: Release | None = None
        if config.release is not None:
            self.release = open_reference(config.release)
        self.not_taken = 0
        """Rows of the release that `take` leaves out."""
        self._cache_dir = cache_dir
        self._files: dict[int, int] = {}
        self._windows: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self.rejected: dict[str, str] = {}
        """Persons met so far whose annotation cannot be learnt from: "dataset/key/annotation_id" -> message."""
        self._read_index()
        self._start_S = np.cumsum(self._count_S) - self._count_S
        self._rows_N = np.zeros(min(cached_instances, self.instances), dtype=INSTANCE)
        self._ids_N: list[str | None] = [None] * len(self._rows_N)

    @property
    def instances(self) -> int:
        """Usable instances."""
        return int(self._count_S.sum())

    @property
    def shape(self) -> SourceShape:
        """What the order must know. With a release, its digest and what is taken of it are part of the identity."""
        digest = self.shard_set.digest if self.release is None else f"{self.shard_set.digest}+{self.release.digest}"
        digest += f"+{self.config.take}" if self.config.take else ""
        per_shard = np.split(self._count_S, np.cumsum(self._shard_sizes)[:-1])
        return SourceShape(digest, tuple(per_shard), self.config.weight, self.config.share)

    @property
    def digests(self) -> dict[str, str]:
        """What this source was read from: name -> digest."""
        manifest = self.shard_set.manifest
        found = {f"shard_set/{manifest.dataset}/{manifest.split}": self.shard_set.digest}
        if self.release is not None:
            found[f"release/{self.release.manifest.name}/v{self.release.manifest.version}"] = self.release.digest
        return found

    def key(self, sample: int) -> str:
        return self._keys[sample]

    def records(self, sample: int) -> tuple[np.ndarray, list[str]]:
        """The usable instances of a sample: INSTANCE records, and ids "dataset/key/annotation_id". Do not write to the records."""
        start, count = int(self._start_S[sample]), int(self._count_S[sample])
        if start + count <= len(self._ids_N) and self._ids_N[start + count - 1] is not None:
            return self._rows_N[start : start + count], self._ids_N[start : start + count]
        rows, ids = self._parse(sample)
        if start + count <= len(self._ids_N):
            self._rows_N[start : start + count] = rows
            self._ids_N[start : start + count] = ids  # after the rows: ids say that the rows are there
        return rows, ids

    def keep_fits(self, sample: int, rows: np.ndarray) -> None:
        """Remember the filled-in `fit_cam` of a sample's records, in the order of `records`."""
        start = int(self._start_S[sample])
        if start + len(rows) <= len(self._ids_N):
            self._rows_N[start : start + len(rows)] = rows

    def image(self, sample: int) -> bytes:
        """The sample's image as stored."""
        return self._read(sample, 0)

    def window(self, sample: int) -> np.ndarray | None:
        """WINDOW record of the part of the photograph that the image is; None: all of it. Known once `records` was asked for."""
        return self._windows.get(sample)

    def close(self) -> None:
        with self._lock:
            for descriptor in self._files.values():
                os.close(descriptor)
            self._files.clear()

    def _read_index(self) -> None:
        keys, offsets, counts, shards, sizes = [], [], [], [], []
        self._annotation_ids: list[list[str]] = []
        joined: list[dict[str, np.ndarray]] = []
        for number, entry in enumerate(self.shard_set.manifest.shards):
            index = self.shard_set.index(entry)
            sizes.append(len(index))
            keys.extend(row.key for row in index)
            offsets.extend((row.image_offset, row.image_size, row.json_offset, row.json_size) for row in index)
            shards.extend([number] * len(index))
            if self.release is None:
                counts.extend(row.instances for row in index)
            else:
                ids, arrays = self._join(self.release, entry, [row.key for row in index])
                counts.extend(map(len, ids))
                self._annotation_ids.extend(ids)
                joined.append(arrays)
        self._keys: list[str] = keys
        self._offset_S4 = np.array(offsets, dtype=np.int64).reshape(-1, 4)
        self._shard_S, self._shard_sizes = np.array(shards, dtype=np.int32), sizes
        self._count_S = np.array(counts, dtype=np.int32)
        self._pseudo_gt = {name: np.concatenate([arrays[name] for arrays in joined]) for name in joined[0]} if joined else None
        self.without_row = self.shard_set.manifest.instances - self.instances - self.not_taken
        """Instances of the shard set left out because the release has no row for them."""

    def _join(self, release: Release, entry: ShardEntry, keys: list[str]) -> tuple[list[list[str]], dict[str, np.ndarray]]:
        """Pseudo-GT of one shard in the order of its samples: annotation ids of each key, and the columns of their rows.

        Raises ReleaseError when the release has rows for a key that the shard has not, was not made from this shard, or has a row whose
        loss weight is not a finite number of 0 or more.
        """
        table = release.rows(entry.sha256)
        if strangers := set(table.column("key").to_pylist()) - set(keys):
            raise ReleaseError(f"{release.where}: has rows for {sorted(strangers)[0]!r}, which shard {entry.path} does not hold")
        if self.config.take is not None:
            taken = table.filter(pa.array(Expression(self.config.take, "truth")(table)))
            self.not_taken += table.num_rows - taken.num_rows
            table = taken
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, key in enumerate(table.column("key").to_pylist()):
            rows_of[key].append(row)
        annotation_ids = table.column("annotation_id").to_pylist()
        order = np.array([row for key in keys for row in rows_of.get(key, ())], dtype=np.int64)
        columns = {}
        for name in _JOINED:
            column = table.column(name).combine_chunks()
            columns[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, column.type.list_size)[order].astype(np.float32)
        columns["fit_weight"] = self._loss_weights(release, table)[order].astype(np.float32)
        return [[annotation_ids[row] for row in rows_of.get(key, ())] for key in keys], columns

    def _loss_weights(self, release: Release, table: pa.Table) -> np.ndarray:
        if self.config.loss_weight is None:
            return np.ones(table.num_rows)
        weights = Expression(self.config.loss_weight, "number")(table)
        wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
        if len(wrong):
            row = table.slice(wrong[0], 1).select(["key", "annotation_id"]).to_pylist()[0]
            raise ReleaseError(
                f"{release.where}: loss_weight {self.config.loss_weight!r} is {weights[wrong[0]]} for {row['key']}/{row['annotation_id']}, "
                f"one of {len(wrong)} such rows of its shard; expected a finite number of 0 or more: leave such rows out with `take`, or "
                "say what they count, as in where(isnan(x), 0, x)"
            )
        return weights

    def _parse(self, sample: int) -> tuple[np.ndarray, list[str]]:
        try:
            record = Sample.from_bytes(self._read(sample, 2))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "top level"
            raise ShardCorrupt(
                f"{self.config.url}: the annotation of {self._keys[sample]} is not a Sample: {field}: {first['msg']}; ingest again"
            ) from None
        count = int(self._count_S[sample])
        if self._pseudo_gt is None:
            chosen = record.instances
        else:
            by_id = {instance.annotation_id: instance for instance in record.instances}
            missing = [i for i in self._annotation_ids[sample] if i not in by_id]
            if missing:
                where = self.release.where if self.release else ""
                raise ReleaseError(f"{where}: has a row for instance {missing[0]!r} of {record.key}, unknown to {self.config.url}")
            chosen = [by_id[i] for i in self._annotation_ids[sample]]
        if record.key != self._keys[sample] or len(chosen) != count:
            expected, found = f"{self._keys[sample]} with {count} instances", f"{record.key} with {len(chosen)}"
            raise ShardCorrupt(f"{self.config.url}: its index says {expected}, its shard {found}; ingest again")
        if record.window is not None:
            self._windows[sample] = window_record(record)
        rows = np.zeros(count, dtype=INSTANCE)
        start = int(self._start_S[sample])
        for i, instance in enumerate(chosen):
            extra = None if self._pseudo_gt is None else {name: values[start + i] for name, values in self._pseudo_gt.items()}
            fill_instance(rows[i], instance, (record.width, record.height), self._crop, self.config.supervise, extra)
        settle_gender(rows, self.config.gendered_shape)
        names = [f"{record.dataset}/{record.key}/{instance.annotation_id}" for instance in chosen]
        for name, problem in withdraw_nonfinite(rows, names).items():
            if name not in self.rejected:
                self.rejected[name] = problem
                log.warning("%s: %s; it is trained on without supervision", name, problem)
        return rows, names

    def _read(self, sample: int, column: int) -> bytes:
        offset, size = (int(v) for v in self._offset_S4[sample, column : column + 2])
        data = os.pread(self._descriptor(int(self._shard_S[sample])), size, offset)
        if len(data) != size:
            raise ShardCorrupt(
                f"{self.config.url}: {self._keys[sample]}: expected {size} bytes at {offset} of its shard, found {len(data)}"
            )
        return data

    def _descriptor(self, shard: int) -> int:
        """File descriptor of a verified local copy; the first call for a shard fetches it."""
        descriptor = self._files.get(shard)
        if descriptor is None:
            with self._lock:
                if shard not in self._files:
                    path = self.shard_set.local_path(self.shard_set.manifest.shards[shard], self._cache_dir)
                    self._files[shard] = os.open(path, os.O_RDONLY)
                descriptor = self._files[shard]
        return descriptor
