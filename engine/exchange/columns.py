"""NumPy's `.npy` and `.npz` as tables of rows, read and written as a stream: memory is one chunk, whatever the number of rows.

Files come from strangers. Nothing is unpickled, a header is believed only as far as the file has bytes for it, and a compressed member
may not hold more rows than a dataset can have.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from engine.errors import MissingInput, RawDataError, UnsafeInput

MAX_ROWS = 50_000_000
_MAX_ROW_BYTES = 1 << 20
_MAX_MEMBERS = 1000
_MAX_FORTRAN_BYTES = 1 << 30
"""Arrays stored column by column cannot be read row by row: they are held whole, up to this."""
_CHUNK_BYTES = 1 << 20
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Of every member of a zip: equal rows give equal bytes."""


class Column(NamedTuple):
    """What the rows of one array are: `shape` of a row, () for a number or a text; `dtype` numbers, truth values or texts."""

    dtype: np.dtype
    rows: int
    shape: tuple[int, ...]
    fortran: bool

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * prod(self.shape)


class Npz:
    """The arrays of a file, by name; of a `.npy`, which has one without a name, by ''. Only headers have been read.

    MissingInput when there is no file; UnsafeInput when an array holds Python objects or is absurdly large; RawDataError when the file
    is damaged. Arrays that are never asked for are not looked at.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self._plain = file.read(6) == np.lib.format.MAGIC_PREFIX
            self._sizes = {"": path.stat().st_size} if self._plain else self._members()
        except OSError as error:
            raise MissingInput(f"{path}: cannot be read: {error.strerror}") from None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._sizes)

    def column(self, name: str) -> Column:
        """The header of one array."""
        with ExitStack() as stack:
            return self._open(stack, name)[1]

    def chunks(self, shapes: Mapping[str, tuple[int, ...]], texts: tuple[str, ...] = ()) -> Iterator[dict[str, np.ndarray]]:
        """Consecutive rows of several arrays of the same length, by name. `shapes` are those a row must have; `texts` may be texts.

        RawDataError when an array is absent, of another shape, kind or length, cut short, or fails its checksum.
        """
        with ExitStack() as stack:
            opened = {name: self._open(stack, name) for name in shapes}
            self._check(opened, shapes, texts)
            total = next(iter(opened.values()))[1].rows
            step = max(1, _CHUNK_BYTES // max(1, *(column.row_bytes for _, column in opened.values())))
            whole = {name: self._whole(name, *found) for name, found in opened.items() if found[1].fortran}
            for start in range(0, total, step):
                n = min(step, total - start)
                yield {
                    name: whole[name][start : start + n] if name in whole else self._rows(name, file, column, n)
                    for name, (file, column) in opened.items()
                }
            for name, (file, _) in opened.items():
                if self._read(name, file, 1):  # to its end: then its checksum is known to be right
                    raise self._damaged(name, "more bytes than its header says")

    def _members(self) -> dict[str, int]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                infos = archive.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise RawDataError(f"{self.path}: expected NumPy's .npy or .npz, found {error}; the download may be incomplete") from None
        if len(infos) > _MAX_MEMBERS:
            raise UnsafeInput(f"{self.path}: expected at most {_MAX_MEMBERS} arrays, found {len(infos)}")
        return {info.filename.removesuffix(".npy"): info.file_size for info in infos if info.filename.endswith(".npy")}

    def _open(self, stack: ExitStack, name: str) -> tuple[IO[bytes], Column]:
        if name not in self._sizes:
            raise RawDataError(f"{self.path}: expected an array {name!r}, found {', '.join(self._sizes) or 'none'}")
        try:
            if self._plain:
                file = stack.enter_context(self.path.open("rb"))
            else:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                info = archive.getinfo(f"{name}.npy")
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise self._damaged(name, f"compression of type {info.compress_type}")
                file = stack.enter_context(archive.open(info))
            version = np.lib.format.read_magic(file)
            shape, fortran, dtype = _READERS[version](file)
        except RawDataError:
            raise
        except Exception as error:  # a damaged header is parsed as whatever its bytes say
            raise self._damaged(name, f"{type(error).__name__}: {error}") from None
        return file, self._believed(name, Column(dtype, shape[0] if shape else 0, shape[1:], fortran and len(shape) > 1), shape, file)

    def _believed(self, name: str, column: Column, shape: tuple[int, ...], file: IO[bytes]) -> Column:
        if column.dtype.hasobject:
            raise UnsafeInput(
                f"{self.path}: array {name!r} holds Python objects, which are pickled code; expected numbers or texts. "
                "Save it again with a plain dtype, or get the file from its publisher"
            )
        if column.dtype.kind not in "fiubUS" or not shape:
            raise self._damaged(name, f"{column.dtype} of shape {shape}")
        if min(shape) < 0 or column.rows > MAX_ROWS or column.row_bytes > _MAX_ROW_BYTES:
            raise UnsafeInput(f"{self.path}: array {name!r}: expected at most {MAX_ROWS} rows of {_MAX_ROW_BYTES} bytes, found {shape}")
        if (held := self._sizes[name] - file.tell()) != column.rows * column.row_bytes:
            raise self._damaged(name, f"{held} bytes for {shape} of {column.dtype}")
        return column

    def _check(self, opened: Mapping[str, tuple], shapes: Mapping[str, tuple[int, ...]], texts: tuple[str, ...]) -> None:
        lengths = {name: column.rows for name, (_, column) in opened.items()}
        if len(set(lengths.values())) > 1:
            raise RawDataError(f"{self.path}: expected arrays of the same length, found {lengths}")
        for name, (_, column) in opened.items():
            if column.shape != shapes[name] or (column.dtype.kind in "US" and name not in texts):
                what = f"rows of shape {shapes[name]}" + ("" if name in texts else " of numbers")
                raise RawDataError(f"{self.path}: array {name!r}: expected {what}, found {column.shape} of {column.dtype}")

    def _rows(self, name: str, file: IO[bytes], column: Column, n: int) -> np.ndarray:
        data = self._read(name, file, n * column.row_bytes)
        if len(data) < n * column.row_bytes:
            raise self._damaged(name, "its end too early")
        if not column.row_bytes:
            return np.zeros((n, *column.shape), column.dtype)
        return np.frombuffer(data, column.dtype).reshape(n, *column.shape)

    def _whole(self, name: str, file: IO[bytes], column: Column) -> np.ndarray:
        if column.rows * column.row_bytes > _MAX_FORTRAN_BYTES:
            raise UnsafeInput(f"{self.path}: array {name!r} lies column by column (Fortran order): save np.ascontiguousarray of it")
        return self._rows(name, file, column, column.rows).reshape(-1).reshape((column.rows, *column.shape), order="F")

    def _read(self, name: str, file: IO[bytes], size: int) -> bytes:
        try:
            return file.read(size)
        except Exception as error:  # zlib's, zipfile's and the disk's
            raise self._damaged(name, f"{type(error).__name__}: {error}") from None

    def _damaged(self, name: str, found: str) -> RawDataError:
        what = f"array {name!r}: " if name else ""
        return RawDataError(f"{self.path}: {what}expected NumPy's format, found {found}; the download may be incomplete")


class ColumnWriter:
    """Rows by number, in any order, in temporary files; rows that are never put are zeros. Then a `.npy` or `.npz` of them.

    `columns`: name -> dtype and shape of a row. Texts are one column `texts`, put in order of their rows.
    """

    def __init__(self, columns: Mapping[str, tuple[str, tuple[int, ...]]], texts: str | None = None) -> None:
        self._columns = {name: Column(np.dtype(kind), 0, shape, False) for name, (kind, shape) in columns.items()}
        self._files = {name: tempfile.TemporaryFile() for name in columns}  # noqa: SIM115  they live as long as the writer
        self._texts = tempfile.TemporaryFile() if texts else None  # noqa: SIM115
        self._text_name, self._longest = texts, 1
        self.rows = 0

    def put(self, row: int, values: Mapping[str, object], text: str | None = None) -> None:
        """One row's values, by column; what is absent stays zero."""
        for name, value in values.items():
            column = self._columns[name]
            data = np.ascontiguousarray(np.broadcast_to(np.asarray(value, column.dtype), column.shape)).tobytes()
            os.pwrite(self._files[name].fileno(), data, row * len(data))
        if self._texts is not None:
            data = text.encode()
            self._texts.write(len(data).to_bytes(4, "little") + data)
            self._longest = max(self._longest, len(text))
        self.rows = max(self.rows, row + 1)

    def save_npy(self, path: Path, name: str, rows: int | None = None) -> None:
        """One column as a `.npy` of `rows` rows; None: up to the last that was put."""
        with open(path, "wb") as out:
            self._copy(name, out, self.rows if rows is None else rows)

    def save_npz(self, path: Path, rows: int | None = None, leave_out: tuple[str, ...] = ()) -> None:
        """All columns but those of `leave_out` as an uncompressed `.npz`, as np.savez writes it."""
        rows = self.rows if rows is None else rows
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            if self._texts is not None:
                with archive.open(zipfile.ZipInfo(f"{self._text_name}.npy", _EPOCH), "w", force_zip64=True) as out:
                    self._copy_texts(out, rows)
            for name in [name for name in self._columns if name not in leave_out]:
                with archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as out:
                    self._copy(name, out, rows)

    def close(self) -> None:
        """Let the temporary files go."""
        for file in (*self._files.values(), *([self._texts] if self._texts else [])):
            file.close()

    def _copy(self, name: str, out: IO[bytes], rows: int) -> None:
        column, file = self._columns[name], self._files[name]
        _header(out, column.dtype, (rows, *column.shape))
        file.truncate(rows * column.row_bytes)
        file.seek(0)
        shutil.copyfileobj(file, out, _CHUNK_BYTES)

    def _copy_texts(self, out: IO[bytes], rows: int) -> None:
        dtype = np.dtype(f"<U{self._longest}")
        _header(out, dtype, (rows,))
        self._texts.seek(0)
        for _ in range(rows):
            text = self._texts.read(int.from_bytes(self._texts.read(4), "little")).decode()
            out.write(np.array(text, dtype).tobytes())


def text(value: str | bytes) -> str:
    """An entry of a column of texts."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _header(out: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(out, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
