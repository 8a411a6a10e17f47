"""Where releases live below one root URL, and how they are opened and read.

    objects/<aa>/<sha256>.parquet             pseudo-GT shards, content-addressed
    runs/<plan digest>/plan.json              the work, without URLs
    runs/<plan digest>/shards/000000.json     one ShardCommit a finished shard
    runs/<plan digest>/collected/...          copies of many of them, a line each, to be read at once
    releases/<name>/v0001/manifest.json       with shards.parquet, quarantine.parquet, README.md; if derived, selection.parquet
    releases/<name>/HEAD                      which version is current
    releases/<name>/tags/<tag>                which version a tag means; HEAD and tags are the only objects that ever change

docs/FORMAT.md tells a reader without this code the same.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from engine.errors import ConfigError, MissingInput, ReleaseError, StorageError
from engine.releases.parallel import in_parallel
from engine.releases.reference import Reference, parse_reference
from engine.releases.selection import SELECTION_SCHEMA, kept_rows, stored_rows
from engine.releases.tables import QUARANTINE_SCHEMA, read_commits, shards_schema
from engine.storage import Store, join
from schemas.manifests import QuarantineRow, ReleaseManifest, ReleasePointer, ShardCommit, TableFile
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA

READ_THREADS = 16
FOLDERS = ("releases", "runs", "objects")


def object_key(sha256: str) -> str:
    return f"objects/{sha256[:2]}/{sha256}.parquet"


def plan_key(plan_digest: str) -> str:
    return f"runs/{plan_digest}/plan.json"


def commits_prefix(plan_digest: str) -> str:
    return f"runs/{plan_digest}/shards"


def commit_key(plan_digest: str, index: int) -> str:
    return f"{commits_prefix(plan_digest)}/{index:06d}.json"


def collected_prefix(plan_digest: str) -> str:
    return f"runs/{plan_digest}/collected"


def version_prefix(name: str, version: int) -> str:
    return f"releases/{name}/v{version:04d}"


def head_key(name: str) -> str:
    return f"releases/{name}/HEAD"


def tags_prefix(name: str) -> str:
    return f"releases/{name}/tags"


def tag_key(name: str, tag: str) -> str:
    return f"{tags_prefix(name)}/{tag}"


@dataclass(frozen=True)
class Release:
    """One version of a release, read-only. Every byte read is checked against its digest."""

    store: Store
    manifest: ReleaseManifest
    digest: str

    @cached_property
    def shards(self) -> pa.Table:
        """The table of shards, one row each, in the order of the plan. ReleaseError when it is missing or not what the manifest says."""
        bins = {name: len(figure.counts) for name, figure in self.manifest.figures.items()}
        return self._read_table(self.manifest.shards, shards_schema(bins))

    @cached_property
    def quarantined(self) -> pa.Table:
        """What could not be annotated (QUARANTINE_SCHEMA), in the order of the shards. ReleaseError as for `shards`."""
        return self._read_table(self.manifest.quarantine, QUARANTINE_SCHEMA)

    def _read_table(self, file: TableFile, schema: pa.Schema) -> pa.Table:
        key = f"{version_prefix(self.manifest.name, self.manifest.version)}/{file.path}"
        try:
            table = pq.read_table(io.BytesIO(self.store.get_checked(key, file.sha256)))
        except MissingInput as error:
            raise ReleaseError(f"{error}; if its publication was cut short, submit the job again") from None
        except (StorageError, pa.ArrowInvalid) as error:
            raise ReleaseError(str(error)) from None
        if not table.schema.equals(schema) or len(table) != file.rows:
            raise ReleaseError(
                f"{join(self.store.url, key)}: expected {file.rows} rows of {schema.names}, found {len(table)} of {table.schema.names}"
            )
        return table.combine_chunks()

    @cached_property
    def selection(self) -> pa.Table | None:
        """Of a derived release: which rows of the objects it keeps (SELECTION_SCHEMA), a row for each of `shards`. None: all of them."""
        if self.manifest.selection is None:
            return None
        selection = self._read_table(self.manifest.selection, SELECTION_SCHEMA)
        if not selection["index"].equals(self.shards["index"]):
            raise ReleaseError(f"{self.where}/{self.manifest.selection.path}: its shards are not those of {self.manifest.shards.path}")
        return selection

    @cached_property
    def _place_of(self) -> dict[int, int]:
        return {index: place for place, index in enumerate(self.shards["index"].to_pylist())}

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {source: row for row, source in enumerate(self.shards["source_sha256"].to_pylist())}

    def commit(self, source_sha256: str) -> ShardCommit:
        """The commit record of one image shard. ReleaseError when the release was not made from it."""
        try:
            row = self._row_of[source_sha256]
        except KeyError:
            raise ReleaseError(
                f"{self.where}: no pseudo-GT for the image shard {source_sha256}; "
                f"the release was made from the shard set {self.manifest.lineage.get('shard_set')}, so use that one"
            ) from None
        return next(read_commits(self.shards.slice(row, 1), self.quarantined, self.manifest.plan_digest))

    def commits(self) -> Iterator[ShardCommit]:
        """The commit record of every shard, in order."""
        return read_commits(self.shards, self.quarantined, self.manifest.plan_digest)

    def rows(self, source_sha256: str) -> pa.Table:
        """Pseudo-GT rows of one image shard (PSEUDO_GT_SCHEMA). ReleaseError when the shard is unknown or its rows are damaged."""
        return self.read(self.commit(source_sha256))

    def read(self, shard: ShardCommit, columns: Sequence[str] | None = None) -> pa.Table:
        """Rows of a shard of this release, or some columns of them. ReleaseError when they are damaged."""
        kept = self.kept(shard)
        if kept is None:
            return read_rows(self.store, shard, columns)
        if not len(kept):
            return PSEUDO_GT_SCHEMA.empty_table().select(list(columns or PSEUDO_GT_SCHEMA.names))
        return read_rows(self.store, shard, columns).take(pa.array(kept))

    def kept(self, shard: ShardCommit) -> np.ndarray | None:
        """Places in its object of the rows of a shard that are in this release, ascending; None: all are."""
        if self.selection is None:
            return None
        return kept_rows(self.selection, self._place_of[shard.index], shard.annotated, stored_rows(shard))

    def table(self) -> pa.Table:
        """All rows, in the order of the shards."""
        tables = list(in_parallel(self.read, self.commits(), READ_THREADS))
        return pa.concat_tables(tables) if tables else PSEUDO_GT_SCHEMA.empty_table()

    def quarantine(self) -> list[QuarantineRow]:
        """What could not be annotated, each with a reason."""
        return [QuarantineRow(**row) for row in self.quarantined.drop_columns(["shard"]).to_pylist()]

    @property
    def where(self) -> str:
        return join(self.store.url, version_prefix(self.manifest.name, self.manifest.version))


def read_rows(store: Store, shard: ShardCommit, columns: Sequence[str] | None = None) -> pa.Table:
    """Every row of the object that a commit names, or some columns of them. Its whole bytes are checked, whatever is decoded of them.

    ReleaseError when the object is missing or not what the commit says.
    """
    where = join(store.url, object_key(shard.sha256))
    try:
        data = store.get_checked(object_key(shard.sha256), shard.sha256)
        file = pq.ParquetFile(pa.BufferReader(data))
        schema, rows = file.schema_arrow, file.metadata.num_rows
        known = schema.equals(PSEUDO_GT_SCHEMA)
        table = file.read(columns=columns and list(columns), use_threads=False) if known else None
    except (StorageError, MissingInput, pa.ArrowInvalid, OSError) as error:
        raise ReleaseError(f"pseudo-GT of shard {shard.index}: {error}") from None
    if table is None or (rows, len(data)) != (stored_rows(shard), shard.size_bytes):
        raise ReleaseError(f"{where}: expected {stored_rows(shard)} rows of the pseudo-GT schema, found {rows} rows of {schema.names}")
    return table


def open_release(root_url: str, name: str, version: int | None = None) -> Release:
    """A release by name, at HEAD or at a version.

    Raises ReleaseError when there is none, or when HEAD's digest is not that of the manifest it points to.
    """
    store = Store(root_url)
    _, pointer = read_head(store, name)
    if pointer is None and version is None:
        known = ", ".join(release_names(existing_store(root_url))) or "none"
        raise ReleaseError(f"{root_url}: no release {name!r} (releases there: {known}); jobs/annotate.py makes one")
    manifest = read_manifest(store, name, pointer.version if version is None else version)
    release = Release(store, manifest, manifest.digest())
    if pointer is not None and pointer.version == manifest.version and pointer.release_digest != release.digest:
        raise ReleaseError(
            f"{release.where}/manifest.json: HEAD expects the digest {pointer.release_digest}, found {release.digest}; "
            "the manifest was edited or replaced"
        )
    return release


def open_reference(reference: str | Reference) -> Release:
    """The release that `ROOT#NAME`, `ROOT#NAME@v3` or `ROOT#NAME@TAG` names.

    Raises ConfigError when the text is no reference, ReleaseError when there is no such release or tag, or when the digest that
    HEAD or the tag expects is not that of the manifest.
    """
    ref = parse_reference(reference) if isinstance(reference, str) else reference
    if ref.tag is None:
        return open_release(ref.root, ref.name, ref.version)
    store = Store(ref.root)
    _, pointer = read_pointer(store, tag_key(ref.name, ref.tag))
    if pointer is None:
        known = ", ".join(tag_names(store, ref.name)) or "none"
        number = ref.tag.lstrip("vV")
        remedy = f"version {number} is @v{number}" if number.isdigit() else "jobs/releases.py tag makes one"
        raise ReleaseError(f"{ref.root}: release {ref.name!r} has no tag {ref.tag!r} (tags there: {known}); {remedy}")
    release = open_release(ref.root, ref.name, pointer.version)
    if pointer != point_at(release):
        raise ReleaseError(
            f"{release.where}/manifest.json: the tag {ref.tag!r} expects the digest {pointer.release_digest} at {pointer.manifest_path}, "
            f"found {release.digest}; the manifest or the tag was edited or replaced"
        )
    return release


def point_at(release: Release) -> ReleasePointer:
    """What HEAD or a tag that means this version holds."""
    m = release.manifest
    path = f"{version_prefix(m.name, m.version)}/manifest.json"
    return ReleasePointer(version=m.version, release_digest=release.digest, manifest_path=path)


def read_head(store: Store, name: str) -> tuple[bytes | None, ReleasePointer | None]:
    """HEAD of a release name as bytes and as pointer, both of one read; None before its first release."""
    return read_pointer(store, head_key(name))


def read_pointer(store: Store, key: str) -> tuple[bytes | None, ReleasePointer | None]:
    """HEAD or a tag as bytes and as pointer, both of one read; None where there is none. ReleaseError for bytes that are no pointer."""
    try:
        data = store.get(key)
        return data, ReleasePointer.from_bytes(data)
    except MissingInput:
        return None, None
    except ValidationError as error:
        raise ReleaseError(f"{join(store.url, key)}: not a release pointer: {first_problem(error)}") from None


def read_manifest(store: Store, name: str, version: int) -> ReleaseManifest:
    """The manifest of one version. ReleaseError when it is missing, unreadable, or speaks of another release."""
    key = f"{version_prefix(name, version)}/manifest.json"
    try:
        manifest = ReleaseManifest.from_bytes(store.get(key))
    except MissingInput:
        there = ", ".join(str(v) for v in release_versions(store, name)) or "none"
        raise ReleaseError(f"{store.url}: release {name!r} has no version {version} (versions there: {there})") from None
    except ValidationError as error:
        raise ReleaseError(f"{join(store.url, key)}: not a release manifest: {first_problem(error)}") from None
    if (manifest.name, manifest.version) != (name, version):
        raise ReleaseError(f"{join(store.url, key)}: says it is {manifest.name!r} version {manifest.version}; it was moved or edited")
    return manifest


def release_versions(store: Store, name: str) -> list[int]:
    """Versions of a release name that have a manifest, ascending."""
    found = (re.fullmatch(rf"releases/{re.escape(name)}/v(\d+)/manifest\.json", key) for key in store.list(f"releases/{name}"))
    return sorted(int(match.group(1)) for match in found if match)


def release_names(store: Store) -> list[str]:
    """Names below a root that have a HEAD."""
    return sorted(key.split("/")[1] for key in store.list("releases") if re.fullmatch(r"releases/[^/]+/HEAD", key))


def existing_store(root_url: str) -> Store:
    """The release store at a root. ConfigError for a release in place of a root, MissingInput where there is no store."""
    if "#" in root_url:
        raise ConfigError(f"{root_url}: expected ROOT, the URL of a release store, without #NAME")
    store = Store(root_url)
    if not any(next(store.scan(folder), None) for folder in FOLDERS):
        raise MissingInput(f"{root_url}: no release store there: nothing in {', '.join(FOLDERS)}; check the path")
    return store


def tag_names(store: Store, name: str) -> list[str]:
    """Tags of a release name, sorted."""
    return [key.rpartition("/")[2] for key in store.list(tags_prefix(name))]


def first_problem(error: ValidationError) -> str:
    """One line on the first thing wrong with a record."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'as a whole'}: {first['msg']}"
