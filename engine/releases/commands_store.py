"""Commands of jobs/releases.py that check or change a store: tag, verify, gc, copy."""

from __future__ import annotations

import sys
from collections import defaultdict

from pydantic import Field
from pydantic_settings import CliPositionalArg, CliToggleFlag

from engine.config import Config
from engine.errors import ConfigError, EngineError
from engine.releases.commands import AS_JSON, REFERENCE
from engine.releases.copy import copy_release
from engine.releases.fsck import GARBAGE, Orphan, collect_garbage, find_orphans
from engine.releases.output import print_json, print_table, progress, size
from engine.releases.reference import Reference
from engine.releases.store import existing_store, open_reference
from engine.releases.tags import set_tag
from engine.releases.verify import find_problems
from engine.storage import Store

_DAY_S = 86_400
_MEANING = {
    "object": "rows that nothing refers to",
    "attempt": "what a worker's death left",
    "partial": "an interrupted write",
    "upload": "an upload that was never finished",
    "run": "records of a plan without a release: submitting the same job again goes on from them",
    "version": "a publication that was cut short: submitting the job again completes it",
    "stray": "nothing that belongs into a release store",
}


class TagConfig(Config):
    """Give a version a name of its own."""

    release: CliPositionalArg[str] = Field(description=REFERENCE)
    tag: CliPositionalArg[str] = Field(description="the name: letters, digits, '.', '_', '-'; not like a version")
    move: CliToggleFlag[bool] = Field(False, description="let a tag that means another version mean this one")


class VerifyConfig(Config):
    """Is a release what it says it is? Exit code 2 and every finding when it is not."""

    release: CliPositionalArg[str] = Field(description=REFERENCE)
    deep: bool = Field(True, description="read every byte; false: believe listings for what is large")
    json_: bool = Field(False, alias="json", description=AS_JSON)


class GcConfig(Config):
    """What nothing refers to in a store; deleted, where it is of no use to anybody, with dry_run=false."""

    root: CliPositionalArg[str] = Field(description="URL of the release store")
    grace_days: float = Field(
        1.0, ge=0, description="days without a change before a thing counts as left behind; longer than any commit takes"
    )
    dry_run: bool = Field(True, description="delete nothing, say what would go")
    json_: bool = Field(False, alias="json", description=AS_JSON)


class CopyConfig(Config):
    """The same release in another store, or under another name; run again, it copies what is missing."""

    release: CliPositionalArg[str] = Field(description=REFERENCE)
    to: CliPositionalArg[str] = Field(description="URL of the other store; it need not exist")
    as_name: str | None = Field(None, description="name of the release there; null: the same")


def tag(config: TagConfig) -> None:
    """Set a tag and say what it meant before."""
    release = open_reference(config.release)
    before = set_tag(release, config.tag, config.move)
    m = release.manifest
    was = "" if before is None else ", as before" if before.version == m.version else f"; before, v{before.version:04d}"
    print(f"{Reference(release.store.url, m.name, tag=config.tag)} is v{m.version:04d} ({release.digest}){was}")


def verify(config: VerifyConfig) -> None:
    """Print what is wrong with a release, a line each, or that nothing is. Exit code 2 when something is."""
    where, digest = config.release, None
    try:
        release = open_reference(config.release)
        where, digest, m = release.where, release.digest, release.manifest
        with progress("shards", m.shards.rows) as step:
            findings = list(find_problems(release, config.deep, step))
    except EngineError as error:
        findings = [str(error)]
    if config.json_:
        print_json({"release": where, "digest": digest, "deep": config.deep, "findings": findings})
    else:
        for finding in findings:
            print(finding)
        read = "every byte was read" if config.deep else "objects and records were listed, not read"
        print(
            f"{where}: {len(findings)} problem{'s' * (len(findings) > 1)}"
            if findings
            else f"{where}: {m.annotated} persons in {m.shards.rows} shards; {read}; sound"
        )
    if findings:
        sys.exit(2)


def gc(config: GcConfig) -> None:
    """Print what nothing refers to, and what was, or would be, deleted of it."""
    store = existing_store(config.root)
    gone = collect_garbage(store, config.grace_days * _DAY_S, config.dry_run)
    taken = {(orphan.kind, orphan.key) for orphan in gone}
    left = [orphan for orphan in find_orphans(store) if (orphan.kind, orphan.key) not in taken]
    if config.json_:
        print_json({"dry_run": config.dry_run, "deleted": list(map(vars, gone)), "left": list(map(vars, left))})
        return
    done = "would be deleted" if config.dry_run else "deleted"
    young = f"left: younger than {config.grace_days:g} days"
    groups: dict[tuple[str, str], list[Orphan]] = defaultdict(list)
    for orphan in gone:
        groups[orphan.kind, done].append(orphan)
    for orphan in left:
        groups[orphan.kind, young if orphan.kind in GARBAGE else "left: for you to judge"].append(orphan)
    if not groups:
        print(f"{config.root}: everything is referred to")
        return
    rows = [
        (kind, _MEANING[kind], len(found), size(sum(orphan.size_bytes for orphan in found)), what, found[0].key)
        for (kind, what), found in groups.items()
    ]
    print_table(("kind", "what it is", "count", "size", "", "for instance"), rows, ("count", "size"))
    if config.dry_run and gone:
        print("Nothing was deleted; --dry_run=false deletes.")


def copy(config: CopyConfig) -> None:
    """Copy a release and say what had to be written."""
    if "#" in config.to:
        raise ConfigError(f"{config.to}: expected ROOT, the URL of the other store; --as_name=NAME gives the copy another name")
    release = open_reference(config.release)
    with progress("shards", release.manifest.shards.rows) as step:
        copied = copy_release(release, Store(config.to), config.as_name, step)
    m = copied.release.manifest
    print(f"{Reference(config.to, m.name, m.version)}: {m.annotated} persons; digest {copied.release.digest}, that of {release.where}")
    print(f"{copied.objects} objects copied ({size(copied.size_bytes)}), {copied.present} were there")
    if copied.tags:
        print(f"tags: {', '.join(copied.tags)}")
    for why in copied.tags_left.values():
        print(f"left alone: {why}")
