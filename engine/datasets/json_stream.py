"""Large JSON files read as a stream: elements of an array, or leaves of nested objects, one at a time.

Memory is one element and a buffer. Elements are decoded by the standard library's C scanner, which is several times as fast as the
event parsers and, unlike them, reads the NaN and Infinity that annotation files really hold: such a number then costs its own
person, not the file.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import MissingInput, RawDataError

_CHUNK_BYTES = 1 << 20
MAX_ELEMENT_CHARS = 64 << 20
"""A single element longer than this is taken for damage."""
_SPACE = " \t\n\r"
_ENDS_SCALAR = ",]}" + _SPACE


def array_items(path: Path, name: str | None) -> Iterator[Any]:
    """Elements of the array `name` of a file's top-level object, or of its top-level array (None), in order.

    RawDataError if the file is not JSON, is cut short or has no such array; MissingInput if it is not there.
    """
    for array, element in arrays(path, (name,)):
        assert array == name
        yield element


def arrays(path: Path, names: tuple[str | None, ...]) -> Iterator[tuple[str | None, Any]]:
    """Elements of several arrays of the top-level object with the array's name, in one pass and in the file's order."""
    with _Scanner(path) as scan:
        missing = set(names)
        if None in missing:
            missing.remove(None)
            for _ in scan.array():
                yield None, scan.value()
        else:
            for key in scan.object():
                if key in missing:
                    missing.remove(key)
                    for _ in scan.array():
                        yield key, scan.value()
                else:
                    scan.skip()
        if missing:
            raise RawDataError(
                f"{path}: expected the arrays {', '.join(map(repr, sorted(missing)))} at its top level, found none of that name"
            )
        scan.end()


def leaves(path: Path, depth: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Values that lie `depth` objects deep, with their keys, in the file's order: depth 3 of {"a": {"b": {"c": 1}}} is (a, b, c), 1."""
    with _Scanner(path) as scan:
        yield from _leaves(scan, depth, ())
        scan.end()


def top_level(path: Path) -> dict[str, str] | str:
    """What a file is: '[' for an array; for an object its keys with the first character of their values, such as '{' or '['.

    Values are skipped, so this reads the whole file once.
    """
    with _Scanner(path) as scan:
        if scan.peek() == "[":
            return "["
        found = {}
        for key in scan.object():
            found[key] = scan.peek()
            scan.skip()
        return found


def _leaves(scan: _Scanner, depth: int, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if depth == 0:
        yield keys, scan.value()
        return
    for key in scan.object():
        yield from _leaves(scan, depth - 1, (*keys, key))


class _Scanner:
    """A place in a JSON file that only moves forward."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at, self._done = "", 0, False

    def __enter__(self) -> _Scanner:
        try:
            self._file = open(self._path, "rb")
        except OSError as error:
            raise MissingInput(f"{self._path}: cannot be read: {error.strerror}") from None
        self._utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def peek(self) -> str:
        """The next character that is not white space; RawDataError at the end of the file."""
        while True:
            text, at = self._text, self._at
            while at < len(text) and text[at] in _SPACE:
                at += 1
            self._at = at
            if at < len(text):
                return text[at]
            if not self._more():
                raise self._damaged("it ends too early")

    def array(self) -> Iterator[None]:
        """Stops once before every element, which the caller has to read or skip."""
        return self._members("[", "]")

    def object(self) -> Iterator[str]:
        """The key of every member; the caller has to read or skip its value."""
        for _ in self._members("{", "}"):
            if self.peek() != '"':
                raise self._damaged(f"expected a key, found {self.peek()!r}")
            key = self.value()
            self._expect(":")
            yield key

    def value(self) -> Any:
        """The element here, whole."""
        self.peek()
        wanted = _CHUNK_BYTES
        while True:
            try:
                value, end = self._decode(self._text, self._at)
                complete = self._text[end - 1] in ']}"' or (end < len(self._text) and self._text[end] in _ENDS_SCALAR)
            except (ValueError, RecursionError):
                complete = False
            if complete:
                self._at = end
                return value
            held = len(self._text) - self._at
            if held > MAX_ELEMENT_CHARS:
                raise self._damaged(f"an element is longer than {MAX_ELEMENT_CHARS} characters or is not JSON")
            while len(self._text) - self._at < held + wanted and self._more():
                pass
            wanted *= 2
            if len(self._text) - self._at == held:
                return self._last(held)

    def skip(self) -> None:
        """Past the element here, whatever its size."""
        first = self.peek()
        if first == "[":
            for _ in self.array():
                self.value()
        elif first == "{":
            for _ in self.object():
                self.skip()
        else:
            self.value()

    def end(self) -> None:
        """RawDataError unless nothing follows."""
        try:
            found = self.peek()
        except RawDataError:
            return
        raise self._damaged(f"expected its end, found {found!r}")

    def _last(self, held: int) -> Any:
        """The element that the file's end completes, such as a number."""
        try:
            value, end = self._decode(self._text, self._at)
        except (ValueError, RecursionError) as error:
            raise self._damaged(str(error).split(":")[0] if held else "it ends too early") from None
        self._at = end
        return value

    def _members(self, opening: str, closing: str) -> Iterator[None]:
        self._expect(opening)
        if self.peek() == closing:
            self._at += 1
            return
        while True:
            yield
            found = self.peek()
            self._at += 1
            if found == closing:
                return
            if found != ",":
                raise self._damaged(f"expected ',' or {closing!r}, found {found!r}")

    def _expect(self, character: str) -> None:
        if (found := self.peek()) != character:
            raise self._damaged(f"expected {character!r}, found {found!r}")
        self._at += 1

    def _more(self) -> bool:
        """Whether there was more to read; what lies behind is let go."""
        if self._done:
            return False
        data = self._file.read(_CHUNK_BYTES)
        self._done = not data
        try:
            text = self._utf8.decode(data, final=self._done)
        except UnicodeDecodeError as error:
            raise self._damaged(f"not UTF-8: {error.reason}") from None
        self._text, self._at = self._text[self._at :] + text, 0
        return bool(data)

    def _damaged(self, what: str) -> RawDataError:
        return RawDataError(f"{self._path}: expected JSON: {what}, near byte {self._file.tell()}; the download may be incomplete")
