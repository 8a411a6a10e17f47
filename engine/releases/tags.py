"""Tags: words for versions of a release, so that a paper can name the one it used.

    releases/<name>/tags/<tag>    version and digest of its release: the same record as HEAD

A tag is created create-only and moves only where that is asked for, by compare-and-swap: of two at once one is told. Versions are never
deleted, with or without a tag.
"""

from __future__ import annotations

import re

from engine.errors import CommitConflict, ConfigError, ReleaseError
from engine.releases.reference import NAME
from engine.releases.store import Release, point_at, read_pointer, tag_key, tag_names
from engine.storage import Store
from schemas.manifests import ReleasePointer

_TAKEN = re.compile(r"(?i:v\d+|HEAD|.*\.lock)")
"""What reads as a version or as HEAD, and names that a local store keeps for its locks."""


def set_tag(release: Release, tag: str, move: bool = False) -> ReleasePointer | None:
    """Make a tag mean this version; what it meant before, None where it is new. Nothing is written where it means it already.

    ConfigError when the word cannot be a tag. CommitConflict when it means another version and `move` is not asked for, or when
    somebody else made or moved it at the same time; what they wrote stands. ReleaseError for a damaged tag; `move` mends it.
    """
    if not NAME.fullmatch(tag) or _TAKEN.fullmatch(tag):
        raise ConfigError(
            f"tag {tag!r}: expected up to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit; "
            "not HEAD, not like a version (v3), not ending in .lock"
        )
    name, store, key, pointer = release.manifest.name, release.store, tag_key(release.manifest.name, tag), point_at(release)
    try:
        data, current = read_pointer(store, key)
    except ReleaseError as error:
        if not move:
            raise ReleaseError(f"{error}; --move sets it anew") from None
        data, current = store.get(key), None
    if data == pointer.to_bytes():
        return current
    if data is not None and not move:
        means = f"v{current.version:04d} ({current.release_digest})" if current else "nothing"
        raise CommitConflict(
            f"tag {tag!r} of {name!r} means {means}, not v{pointer.version:04d}; nothing was changed; --move moves it; versions stay"
        )
    try:
        store.swap(key, data, pointer.to_bytes())
    except CommitConflict:
        _, winner = read_pointer(store, key)
        if winner != pointer:
            now = f"v{winner.version:04d} ({winner.release_digest})" if winner else "nothing"
            raise CommitConflict(
                f"tag {tag!r} of {name!r}: somebody else set it at the same time; it means {now} now, not v{pointer.version:04d}; "
                "--move moves it, if that is what you want"
            ) from None
    return current


def read_tags(store: Store, name: str) -> dict[str, ReleasePointer]:
    """Tag -> what it points at, sorted by tag. ReleaseError for one that cannot be read."""
    found = {tag: read_pointer(store, tag_key(name, tag))[1] for tag in tag_names(store, name)}
    return {tag: pointer for tag, pointer in found.items() if pointer is not None}
