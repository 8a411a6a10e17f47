"""What a kind of store must be able to do; `engine.storage` is the only caller."""

from __future__ import annotations

from typing import BinaryIO, Protocol


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

    def list(self, path: str) -> list[str]:
        """Paths of all objects below a folder, in any order; none if it is absent."""
        ...

    def delete(self, path: str) -> None:
        """Remove an object."""
        ...

    def clear(self, path: str) -> None:
        """Remove everything below a folder, what interrupted writes left there included."""
        ...
