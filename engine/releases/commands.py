"""Commands of jobs/releases.py that look at a store and change nothing: list, show, log."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from pydantic_settings import CliPositionalArg

from engine.config import Config
from engine.errors import ConfigError, EngineError
from engine.releases.card_usage import bibtex
from engine.releases.output import print_json, print_table
from engine.releases.reference import Reference, parse_reference
from engine.releases.store import Release, existing_store, open_reference, open_release, release_names, release_versions
from engine.releases.tags import read_tags
from engine.storage import Store
from schemas.manifests import ReleaseManifest, ReleasePointer

REFERENCE = "ROOT#NAME, ROOT#NAME@v3 or ROOT#NAME@TAG"
AS_JSON = "JSON for machines in place of tables"


class ListConfig(Config):
    """Every release name of a store, with its newest version."""

    root: CliPositionalArg[str] = Field(description="URL of the release store")
    json_: bool = Field(False, alias="json", description=AS_JSON)


class ShowConfig(Config):
    """One version of a release: what it holds, how good it is, what it was made from, how to cite it."""

    release: CliPositionalArg[str] = Field(description=REFERENCE)
    json_: bool = Field(False, alias="json", description=AS_JSON)


class LogConfig(Config):
    """Every version of a release name, the newest first, and what it was made from otherwise than the one before."""

    release: CliPositionalArg[str] = Field(description="ROOT#NAME")
    json_: bool = Field(False, alias="json", description=AS_JSON)


def list_releases(config: ListConfig) -> None:
    """Print every release name with its newest version. Exit code 2 when one of them cannot be opened."""
    store = existing_store(config.root)
    found = [_listed(store, name) for name in release_names(store)]
    if config.json_:
        print_json(found)
    elif found:
        sound = [entry for entry in found if "error" not in entry]
        print_table(("release", "newest", "versions", "tags", "persons", "dataset", "body", "made"), map(_listed_row, sound), ("persons",))
        for entry in found:
            if "error" in entry:
                print(f"{entry['name']}: cannot be opened: {entry['error']}")
    else:
        print(f"{config.root}: no releases")
    if any("error" in entry for entry in found):
        sys.exit(2)


def _listed(store: Store, name: str) -> dict[str, Any]:
    try:
        m, tags = open_release(store.url, name).manifest, read_tags(store, name)
        versions = release_versions(store, name)
    except EngineError as error:
        return {"name": name, "error": str(error)}
    said = m.model_dump(mode="json", include={"name", "version", "dataset", "split", "annotated", "body", "created_at"})
    return said | {"digest": m.digest(), "versions": versions, "tags": {tag: pointer.version for tag, pointer in tags.items()}}


def _listed_row(entry: dict[str, Any]) -> tuple[object, ...]:
    tags = ", ".join(f"{tag} (v{version:04d})" for tag, version in entry["tags"].items())
    dataset, made = f"{entry['dataset']}/{entry['split']}", entry["created_at"]
    return entry["name"], f"v{entry['version']:04d}", len(entry["versions"]), tags, entry["annotated"], dataset, entry["body"], made


def show(config: ShowConfig) -> None:
    """Print what a person should know of one version before using it."""
    release = open_reference(config.release)
    m, tags = release.manifest, _tags_of(release)
    root = parse_reference(config.release).root
    if config.json_:
        said = m.model_dump(mode="json", exclude={"format_version"})
        print_json(said | {"digest": release.digest, "where": release.where, "tags": tags, "bibtex": "\n".join(bibtex(m, release.digest))})
        return
    print(f"{m.name} v{m.version:04d}, made on {m.created_at}, in {release.where}")
    print(f"reference  {Reference(root, m.name, m.version)}\ndigest     {release.digest}\ntags       {', '.join(tags) or 'none'}")
    counts = [(f"annotated: persons of {m.dataset}/{m.split}, body {m.body}", m.annotated)]
    counts += [(f"skipped: {reason}", n) for reason, n in m.skipped.items()]
    counts += [(f"quarantined: {reason}", n) for reason, n in m.quarantined.items()]
    print_table(("instances", "count"), [("planned", m.planned), *counts, ("shards", m.shards.rows)], ("count",))
    means = [(name, f.count, f"{f.sum / f.count:.4f}") for name, f in m.figures.items() if f.count]
    print_table(("quality", "persons", "mean"), means, ("persons", "mean"))
    by = [("annotator's name", m.annotator)] if m.annotator else []
    print_table(("made from", ""), [*by, *sorted(m.lineage.items()), *sorted(m.settings.items())])
    print("\n".join(bibtex(m, release.digest)))


def _tags_of(release: Release) -> list[str]:
    """Tags that mean this version."""
    return _meaning(read_tags(release.store, release.manifest.name), release.manifest.version)


def _meaning(tags: Mapping[str, ReleasePointer], version: int) -> list[str]:
    return [tag for tag, pointer in tags.items() if pointer.version == version]


def log(config: LogConfig) -> None:
    """Print every version, the newest first."""
    ref = parse_reference(config.release)
    if ref.version is not None or ref.tag is not None:
        raise ConfigError(f"{config.release}: expected ROOT#NAME without a version or tag; show says more of one version")
    store = Store(ref.root)
    head = open_release(ref.root, ref.name).manifest.version
    tags, entries, before = read_tags(store, ref.name), [], None
    for version in release_versions(store, ref.name):
        m = open_release(ref.root, ref.name, version).manifest
        said = m.model_dump(mode="json", include={"version", "created_at", "planned", "annotated", "skipped", "quarantined"})
        entries.append(
            said | {"digest": m.digest(), "head": version == head, "tags": _meaning(tags, version), "changes": changes(before, m)}
        )
        before = m
    if config.json_:
        print_json(entries[::-1])
        return
    for entry in entries[::-1]:
        words = [*(["HEAD"] if entry["head"] else []), *entry["tags"]]
        print(f"v{entry['version']:04d}  {entry['created_at']}  {entry['digest']}" + (f"  ({', '.join(words)})" if words else ""))
        lost = [f"{n} {reason}" for part in ("skipped", "quarantined") for reason, n in entry[part].items()]
        print(f"       {entry['annotated']} of {entry['planned']} persons" + (f" ({', '.join(lost)})" if lost else ""))
        for change in entry["changes"]:
            print(f"       {change}")
        print()


def changes(before: ReleaseManifest | None, after: ReleaseManifest) -> list[str]:
    """What a version was made from or by otherwise than the one before: 'annotator: 3fa9c1d2 -> 77b0e4aa', 'threads: 1 -> 2'."""
    if before is None:
        return []
    lines = []
    for old, new, shown in (
        (_what(before), _what(after), str),
        (before.lineage, after.lineage, _short),
        (before.settings, after.settings, str),
    ):
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name):
                lines.append(f"{name}: {shown(old.get(name, 'absent'))} -> {shown(new.get(name, 'absent'))}")
    return lines


def _what(m: ReleaseManifest) -> dict[str, str]:
    return {"dataset": f"{m.dataset}/{m.split}", "body": m.body}


def _short(digest: object) -> str:
    return str(digest)[:8]
