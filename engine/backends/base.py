"""What a kind of store must be able to do; `engine.storage` is the only caller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol


class Listed(NamedTuple):
    """An object, or an unfinished upload of one, by listing alone. `modified`: seconds since 1970, by the store's clock."""

    path: str
    size_bytes: int
    modified: float
    upload_id: str = ""


class Backend(Protocol):
    """Operations on full paths. FileNotFoundError for what is absent, FileExistsError for what is taken."""

    def exists(self, path: str) -> bool:
        """Whether there is an object (not a folder) of this path."""
        ...

    def read(self, path: str, start: int | None, end: int | None) -> bytes:
        """The bytes [start, end) as far as they exist."""
        ...

    def read_into(self, path: str, file: BinaryIO, limit: int | None) -> int:
        """Write the bytes [0, limit) as far as they exist to a local file from its beginning; how many they are."""
        ...

    def create(self, path: str, data: bytes) -> None:
        """Write a new object, all of it or none."""
        ...

    def create_from(self, path: str, local: str) -> None:
        """Write a new object of a local file's bytes, never holding all of them."""
        ...

    def replace(self, path: str, expected: bytes, data: bytes) -> bool:
        """Replace an object that holds `expected`; False if it holds something else, or is absent."""
        ...

    def scan(self, path: str) -> Iterator[Listed]:
        """All objects below a folder, what interrupted writes left there included, in any order; none if it is absent."""
        ...

    def uploads(self, path: str) -> Iterator[Listed]:
        """Unfinished uploads below a folder, where the store has such a thing and tells; their size is 0."""
        ...

    def abort(self, path: str, upload_id: str) -> None:
        """End an unfinished upload, which may be gone already."""
        ...

    def delete(self, path: str) -> None:
        """Remove an object."""
        ...

    def clear(self, path: str) -> None:
        """Remove everything below a folder, what interrupted writes left there included."""
        ...
