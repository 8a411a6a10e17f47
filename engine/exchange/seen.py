"""Names that were met, on disk: an export of millions of persons sees each id once without holding them all."""

from __future__ import annotations

import sqlite3


class SeenNames:
    """A set of names in a temporary SQLite file, removed with it."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a private file on disk, once it outgrows the page cache
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE names (name TEXT PRIMARY KEY) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def add(self, name: str) -> bool:
        """Whether it is new."""
        return self._database.execute("INSERT OR IGNORE INTO names VALUES (?)", (name,)).rowcount == 1

    def close(self) -> None:
        self._database.close()
