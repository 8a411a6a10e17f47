"""The files of a site: index.html last, so that a folder with one is whole; made again, a site replaces the one before."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress

from engine.errors import AlreadyExists, MissingInput
from engine.releases.parallel import in_parallel
from engine.storage import Store

INDEX, LISTED = "index.html", "data/files.json"
_THREADS = 16


class SiteFiles:
    """Writes a site's files. Begin with `clear`, end with `finish`; in between there is no index.html."""

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self._keys: list[str] = []

    def clear(self) -> None:
        """Remove the site before: its page first, then the files that it listed, and no other."""
        try:
            listed = json.loads(self.store.get(LISTED))
        except (MissingInput, ValueError):
            listed = []
        keys = [key for key in listed if isinstance(key, str)] if isinstance(listed, list) else []
        for key in (INDEX, LISTED):
            self._delete(key)
        list(in_parallel(self._delete, (key for key in keys if _ours(key)), self._threads))

    def put(self, key: str, data: bytes) -> None:
        """Write a file; replace what an interrupted site left."""
        try:
            self.store.create(key, data)
        except AlreadyExists:
            self.store.delete(key)
            self.store.create(key, data)
        self._keys.append(key)

    def put_all(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write many files, several at a time on a remote store."""
        list(in_parallel(lambda file: self.put(*file), files, self._threads))

    def finish(self, page: bytes) -> None:
        """Write the list of files, then the page."""
        self.put(LISTED, json.dumps(sorted(self._keys), indent=0).encode())
        self.put(INDEX, page)

    @property
    def _threads(self) -> int:
        return 1 if self.store.protocol in ("file", "memory") else _THREADS

    def _delete(self, key: str) -> None:
        with suppress(MissingInput):
            self.store.delete(key)


def _ours(key: str) -> bool:
    """Whether a list found in the folder may name it: a list from a stranger must not delete anything else."""
    return key.split("/")[0] in ("assets", "data", "thumbs", "photos", "pictures") and ".." not in key.split("/")
