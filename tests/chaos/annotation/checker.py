"""Is anything lost or duplicated? `python -m tests.chaos.annotation.checker ROOT NAME [--shard_set URL]`, local paths or s3:// URLs.

Believes nothing but bytes, and nothing of the code that wrote them: it is written from docs/FORMAT.md alone and imports none of the
engine. Prints JSON: `lost` (persons of the image shards that are neither rows nor in quarantine), `duplicated` (persons accounted for
more often than they are planned), `orphans` (objects that no release and no commit record names), `unfinished` (versions beyond HEAD),
`leftovers` (files of interrupted local writes) and `problems`. Exit code 1 when something is lost, duplicated or a problem; orphans,
unfinished versions and leftovers are what crashes leave.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.exceptions import ClientError

Person = tuple[str, str]
"""(key, annotation_id)."""

VECTORS = {"bbox_xywh": 4, "pose": 72, "betas": 10, "transl": 3, "focal": 2, "princpt": 2, "latent": 32}
WORDS = ("dataset", "key", "annotation_id")
FIGURES = (
    "reprojection_error", "visible_fraction", "keypoint_similarity", "latent_norm", "flip_disagreement", "truncation", "score",
)  # fmt: skip
NEVER_NAN = ("bbox_xywh", "pose", "betas", "transl", "focal", "princpt", "truncation", "score")
WHOLE_SHARD = {"shard_corrupt", "process_died", "shard_failed"}


class Bucket:
    """Keys and bytes below a root: a folder, or s3://bucket/prefix (endpoint and credentials from the environment)."""

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")
        self.s3 = boto3.client("s3") if root.startswith("s3://") else None
        self.bucket, _, self.prefix = self.root.removeprefix("s3://").partition("/")

    def keys(self, below: str = "") -> list[str]:
        if self.s3 is None:
            folder = Path(self.root)
            return sorted(k for k in (str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) if k.startswith(below))
        start = f"{self.prefix}/" if self.prefix else ""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=start + below)
        return sorted(entry["Key"].removeprefix(start) for page in pages for entry in page.get("Contents", []))

    def get(self, key: str) -> bytes | None:
        try:
            if self.s3 is None:
                return (Path(self.root) / key).read_bytes()
            return self.s3.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}".lstrip("/"))["Body"].read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("NoSuchKey", "404"):
                raise
            return None

    def json(self, key: str) -> Any:
        """The object as JSON; None when it is absent or something else."""
        try:
            return json.loads(self.get(key) or b"")
        except ValueError:
            return None


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def release_digest(manifest: dict[str, Any]) -> str:
    kept = {key: value for key, value in manifest.items() if key not in ("name", "version", "created_at")}
    return sha256(json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def read_table(bucket: Bucket, folder: str, manifest: dict[str, Any], name: str, problems: list[str]) -> list[dict[str, Any]]:
    """Rows of the table `shards` or `quarantine` beside a manifest, which says what its bytes are. Maps become dictionaries."""
    said = manifest[name]
    data = bucket.get(f"{folder}/{said['path']}") or b""
    if (sha256(data), len(data)) != (said["sha256"], said["size_bytes"]):
        problems.append(f"{folder}/{said['path']}: expected {said['size_bytes']} bytes of sha256 {said['sha256']}, found {len(data)}")
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        problems.append(f"{folder}/{said['path']}: not Parquet: {error}")
        return []
    if table.num_rows != said["rows"]:
        problems.append(f"{folder}/{said['path']}: {table.num_rows} rows, the manifest says {said['rows']}")
    return table.to_pylist(maps_as_pydicts="strict")


def check(root: str, name: str, shard_set: str | None = None) -> dict[str, Any]:
    """Findings on HEAD of a release name and on the whole store; persons are compared with the image shards where they are given."""
    bucket, problems = Bucket(root), []
    keys = bucket.keys()
    found = {"root": root, "name": name, "lost": [], "duplicated": [], "orphans": [], "problems": problems}
    found["leftovers"] = [key for key in keys if "/.partial-" in f"/{key}"]
    objects = _check_objects(bucket, [key for key in keys if key.startswith("objects/") and key not in found["leftovers"]], problems)
    history, head = _check_history(bucket, keys, name, problems)
    found["unfinished"] = [version for version in history if head is None or version > head["version"]]
    found["orphans"] = sorted(set(objects.values()) - _named_objects(bucket, keys))
    if head is None:
        return found
    manifest = history.get(head["version"])
    if manifest is None:
        problems.append(f"HEAD points to version {head['version']}, which is not there")
        return found
    folder = f"releases/{name}/v{head['version']:04d}"
    if head["manifest_path"] != f"{folder}/manifest.json":
        problems.append(f"HEAD's manifest_path is {head['manifest_path']!r}")
    digest = release_digest(manifest)
    if digest != head["release_digest"]:
        problems.append(f"HEAD says the release is {head['release_digest']}, its manifest is {digest}")
    found |= {"version": head["version"], "release_digest": digest, "planned": manifest["planned"], "annotated": manifest["annotated"]}
    shards = read_table(bucket, folder, manifest, "shards", problems)
    rows = [_check_shard(bucket, i, shard, manifest, problems) for i, shard in enumerate(shards)]
    quarantine = read_table(bucket, folder, manifest, "quarantine", problems)
    _check_quarantine(quarantine, shards, problems)
    _check_totals(manifest, shards, problems)
    for person, count in Counter(person for part in rows for person in part).items():
        if count > 1:
            problems.append(f"{person} has {count} rows")
    if bucket.get(f"{folder}/README.md") is None:
        problems.append(f"{folder}/README.md is absent")
    if shard_set is None:
        found["lost"] = [None] * max(0, manifest["planned"] - sum(map(len, rows)) - sum(manifest["quarantined"].values()))
        found["duplicated"] = sorted(p for p, n in Counter(p for part in rows for p in part).items() if n > 1)
    else:
        _compare(Bucket(shard_set), manifest, shards, rows, quarantine, found)
    return found


def _check_objects(bucket: Bucket, keys: list[str], problems: list[str]) -> dict[str, str]:
    """sha256 of its bytes -> key, of every object; a name that is not its digest is a problem."""
    objects = {}
    for key in keys:
        data = bucket.get(key)
        digest = sha256(data or b"")
        if not data:
            problems.append(f"{key} is empty or gone")
        elif key != f"objects/{digest[:2]}/{digest}.parquet":
            problems.append(f"{key}: the sha256 of its bytes is {digest}")
        objects[digest] = key
    return objects


def _check_history(bucket: Bucket, keys: list[str], name: str, problems: list[str]) -> tuple[dict[int, dict], dict | None]:
    """Version -> manifest, and HEAD. One line of versions: 1, 2, 3 ..., none of them the one before it again."""
    pattern = re.compile(rf"releases/{re.escape(name)}/v(\d{{4,}})/manifest\.json")
    history: dict[int, dict] = {}
    for key, match in ((key, match) for key in keys if (match := pattern.fullmatch(key))):
        manifest, version = bucket.json(key), int(match[1])
        if not isinstance(manifest, dict) or (manifest.get("name"), manifest.get("version")) != (name, version):
            problems.append(f"{key} is not the manifest of {name} version {version}")
            continue
        history[version] = manifest
    if sorted(history) != list(range(1, len(history) + 1)):
        problems.append(f"versions of {name}: {sorted(history)}, not 1, 2, 3 ...")
    digests = {version: release_digest(manifest) for version, manifest in history.items()}
    problems.extend(f"version {v} is version {v - 1} again" for v in digests if digests.get(v - 1) == digests[v])
    head = bucket.json(f"releases/{name}/HEAD")
    if not isinstance(head, dict) or {"manifest_path", "release_digest", "version"} - head.keys():
        problems.append(f"releases/{name}/HEAD is absent or not a pointer")
        return history, None
    return history, head


def _named_objects(bucket: Bucket, keys: list[str]) -> set[str]:
    """Keys of objects that any release's manifest or any commit record names."""
    named = set()
    for key in keys:
        if match := re.fullmatch(r"(releases/[^/]+/v\d+)/manifest\.json", key):
            named |= {shard["sha256"] for shard in read_table(bucket, match[1], bucket.json(key), "shards", [])}
        elif re.fullmatch(r"runs/[0-9a-f]{64}/shards/\d+\.json", key):
            named.add((bucket.json(key) or {}).get("sha256", ""))
    return {f"objects/{digest[:2]}/{digest}.parquet" for digest in named}


def _check_shard(bucket: Bucket, place: int, shard: dict[str, Any], manifest: dict[str, Any], problems: list[str]) -> list[Person]:
    """The persons of a shard's rows."""
    where, digest = f"shard {place}", shard["sha256"]
    if shard["index"] != place:
        problems.append(f"{where} says it is {shard['index']}")
    data = bucket.get(f"objects/{digest[:2]}/{digest}.parquet")
    if data is None:
        problems.append(f"{where}: its object {digest} is absent")
        return []
    if (sha256(data), len(data)) != (digest, shard["size_bytes"]):
        problems.append(f"{where}: expected {shard['size_bytes']} bytes of sha256 {digest}, found {len(data)} of {sha256(data)}")
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        problems.append(f"{where}: not Parquet: {error}")
        return []
    problems.extend(f"{where}: {problem}" for problem in _check_table(table, manifest["dataset"]))
    if table.num_rows != shard["annotated"]:
        problems.append(f"{where}: {table.num_rows} rows, the manifest says {shard['annotated']}")
    if not {"key", "annotation_id"} <= set(table.column_names):
        return []
    persons = list(zip(table["key"].to_pylist(), table["annotation_id"].to_pylist(), strict=True))
    if persons != sorted(persons):
        problems.append(f"{where}: rows are not sorted")
    return persons


def _check_table(table: pa.Table, dataset: str) -> Iterator[str]:
    """The columns of docs/FORMAT.md: there, of their type, without nulls, and with numbers where numbers must be."""
    types = {name: f"float[{n}]" for name, n in VECTORS.items()} | dict.fromkeys(WORDS, "string") | dict.fromkeys(FIGURES, "float")
    types["valid_joints"] = "int16"
    for name, expected in types.items():
        if name not in table.column_names:
            yield f"no column {name}"
            continue
        column = table[name].combine_chunks()
        kind = f"{column.type.value_type}[{column.type.list_size}]" if pa.types.is_fixed_size_list(column.type) else str(column.type)
        if kind != expected or column.null_count:
            yield f"column {name} is {column.type} with {column.null_count} nulls, expected {expected}"
        elif name in NEVER_NAN:
            values = column.flatten() if name in VECTORS else column
            if not np.isfinite(values.to_numpy(zero_copy_only=False)).all():
                yield f"column {name} has NaN or infinite values"
        elif name == "dataset" and set(column.to_pylist()) - {dataset}:
            yield f"rows of another dataset than {dataset}"


def _check_quarantine(rows: list[dict], shards: list[dict], problems: list[str]) -> None:
    """The quarantine must count what the shards say, reason by reason."""
    counted: dict[int, Counter] = {}
    for row in rows:
        counted.setdefault(row["shard"], Counter())[row["reason"]] += row["instances"]
    for place, shard in enumerate(shards):
        there, said = counted.pop(place, Counter()), Counter(shard["quarantined"])
        if +there != +said:
            problems.append(f"shard {place}: quarantine.parquet counts {dict(there)}, the manifest says {dict(said)}")
    if counted:
        problems.append(f"quarantine.parquet has rows of shards {sorted(counted)}, which are not there")


def _check_totals(manifest: dict[str, Any], shards: list[dict], problems: list[str]) -> None:
    """planned = annotated + skipped + quarantined, for each shard and for the release."""
    for where, record in [*((f"shard {i}", shard) for i, shard in enumerate(shards)), ("the release", manifest)]:
        parts = record["annotated"] + sum(record["skipped"].values()) + sum(record["quarantined"].values())
        if record["planned"] != parts:
            problems.append(f"{where}: planned {record['planned']}, accounts for {parts}")
    for field in ("planned", "annotated"):
        if manifest[field] != (total := sum(shard[field] for shard in shards)):
            problems.append(f"the release has {field} {manifest[field]}, its shards {total}")
    for field in ("skipped", "quarantined"):
        if Counter(manifest[field]) != (total := sum((Counter(shard[field]) for shard in shards), Counter())):
            problems.append(f"the release has {field} {manifest[field]}, its shards {dict(total)}")


def _compare(
    images: Bucket, manifest: dict[str, Any], shards: list[dict], rows: list[list[Person]], quarantine: list[dict], found: dict[str, Any]
) -> None:
    """Person by person against the image shards: planned = rows + quarantine, shard by shard, and the shards are those of the set."""
    problems, entries = found["problems"], (images.json("manifest.json") or {"shards": []})["shards"]
    if [entry["sha256"] for entry in entries] != [shard["source_sha256"] for shard in shards]:
        problems.append(f"{images.root}: its {len(entries)} shards are not the {len(shards)} the release was made from")
    for place, (entry, shard) in enumerate(zip(entries, shards, strict=False)):
        persons = _planned(images, entry, problems)
        total = sum(len(names) for names in persons.values())
        if shard["planned"] != total:
            problems.append(f"shard {place}: {total} persons in {entry['path']}, planned {shard['planned']}")
        accounted = Counter(rows[place])
        for row in (row for row in quarantine if row["shard"] == place):
            if row["annotation_id"] is not None:
                meant = [row["annotation_id"]]
                names = [(row["key"], row["annotation_id"])]
            elif row["reason"] in WHOLE_SHARD and row["key"] not in persons:
                names = meant = [(key, name) for key, ids in persons.items() for name in ids]
            else:
                meant = persons.get(row["key"], [])
                names = [(row["key"], name) for name in meant]
            if len(meant) != row["instances"]:
                problems.append(f"shard {place}: quarantine of {row['key']} stands for {row['instances']} persons, {len(meant)} are there")
            accounted.update(names)
        planned = Counter((key, name) for key, names in persons.items() for name in names)
        found["lost"] += sorted((planned - accounted).elements())[sum(shard["skipped"].values()) :]
        found["duplicated"] += sorted((accounted - planned).elements())
        if strangers := accounted.keys() - planned.keys():
            problems.append(f"shard {place}: {sorted(strangers)[:3]} are not in {entry['path']}")


def _planned(images: Bucket, entry: dict[str, Any], problems: list[str]) -> dict[str, list[str]]:
    """Key -> annotation ids of an image shard, read with nothing but tarfile."""
    data = images.get(entry["path"]) or b""
    if sha256(data) != entry["sha256"]:
        problems.append(f"{images.root}/{entry['path']}: expected sha256 {entry['sha256']}, found {sha256(data)}")
        return {}
    persons = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".json"):
                sample = json.load(tar.extractfile(member))
                persons[member.name.removesuffix(".json")] = [instance["annotation_id"] for instance in sample["instances"]]
    return persons


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="folder or s3:// URL of the release store")
    parser.add_argument("name", help="name of the release")
    parser.add_argument("--shard_set", help="folder or s3:// URL of the image shards it was made from")
    args = parser.parse_args()
    found = check(args.root, args.name, args.shard_set)
    print(json.dumps(found, indent=1))
    return 1 if found["lost"] or found["duplicated"] or found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
