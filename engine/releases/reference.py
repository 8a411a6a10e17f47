"""How a release is named in one word: `ROOT#NAME`, `ROOT#NAME@v3`, `ROOT#NAME@TAG`.

ROOT is the URL (or path) of the release store. Without a version it is the newest, HEAD. This is what commands, configs and cards write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,99}")
"""Of releases and of tags. A tag must not look like a version."""
_VERSION = re.compile(r"v\d+")


@dataclass(frozen=True)
class Reference:
    """A release that may or may not exist. At most one of `version` and `tag` is given; neither: HEAD."""

    root: str
    name: str
    version: int | None = None
    tag: str | None = None

    def __str__(self) -> str:
        at = f"v{self.version:04d}" if self.version is not None else self.tag
        return f"{self.root}#{self.name}" + (f"@{at}" if at else "")


def parse_reference(text: str) -> Reference:
    """A reference from its one word. ConfigError when it is none, with what is wrong."""
    root, hash_, rest = text.rpartition("#")
    name, at_, at = rest.partition("@")
    if not hash_ or not root or not NAME.fullmatch(name) or (at_ and not NAME.fullmatch(at)):
        raise ConfigError(
            f"release {text!r}: expected ROOT#NAME, ROOT#NAME@v3 or ROOT#NAME@TAG, where ROOT is the URL of the release store; "
            "names and tags are letters, digits, '.', '_' and '-'"
        )
    if _VERSION.fullmatch(at):
        if not int(at[1:]):
            raise ConfigError(f"release {text!r}: versions start at v1")
        return Reference(root, name, version=int(at[1:]))
    return Reference(root, name, tag=at or None)
