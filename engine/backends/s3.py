"""S3 and what speaks its protocol: one request a step, each retried by itself, and lost replies settled.

A reply that is lost after a conditional write has landed makes the next try fail on the writer's own object. Equal bytes would not
tell whose object that is (two workers may write the same counter), so every write carries a token in the object's metadata, and
one that is refused looks for its own. It looks even if it was sent once: aiohttp sends a PUT again, unseen, when a connection that
it had kept open breaks. A replacement keeps the tokens of the writes before it: a write that landed is found although others have
followed.
"""

from __future__ import annotations

import dataclasses
import mimetypes
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, BinaryIO, TypeVar

from engine.backends.base import Listed
from engine.backends.s3_requests import Refused, Requests
from engine.errors import StorageError
from engine.retries import Retries

T = TypeVar("T")

PART_BYTES = 16 << 20
"""Of a multipart upload, and of a ranged read; larger when S3's 10,000 parts would not do."""
PARALLEL_PARTS = 4
"""One TCP stream of S3 gives 50 to 100 MB/s; four fill what a worker decodes."""
_TOKENS = "pseudogt-writes"
_TOKENS_KEPT = 32
"""Of 32 digits each: half of the 2 KB that S3 allows for metadata."""
_ABORT_DEADLINE_S = 10.0

_ABSENT = {"NoSuchKey", "404"}
_CHANGED = {"PreconditionFailed", "412"}
_CONFLICT = {"ConditionalRequestConflict"}
_NOT_FOR_US = {"AccessDenied", "403", "MethodNotAllowed", "405", "NotImplemented", "501"}
"""Listing unfinished uploads is a right, and a feature, of its own; without it they wait for the bucket's lifecycle rule."""


class S3:
    """A backend of buckets; a path is 'bucket/key'. See `engine.backends.base`."""

    def __init__(self, retries: Retries) -> None:
        self.retries = retries
        self._request = Requests(retries).send

    def exists(self, path: str) -> bool:
        try:
            self._request(path, "head_object", foreseen=_ABSENT)
            return True
        except Refused:
            return False

    def read(self, path: str, start: int | None, end: int | None) -> bytes:
        parts: dict[int, bytes] = {}
        self._read(path, start or 0, end, parts.__setitem__)
        return b"".join(parts[at] for at in sorted(parts))

    def read_into(self, path: str, file: BinaryIO, limit: int | None) -> int:
        sizes: list[int] = []
        self._read(path, 0, limit, lambda at, data: sizes.append(_write_at(file.fileno(), data, at)))
        return sum(sizes)

    def create(self, path: str, data: bytes) -> None:
        if len(data) > 2 * PART_BYTES:
            view = memoryview(data)
            return self._upload(path, len(data), lambda start, end: bytes(view[start:end]))
        token = uuid.uuid4().hex
        try:
            self._request(
                path,
                "put_object",
                size=len(data),
                foreseen=_CHANGED,
                Body=data,
                IfNoneMatch="*",
                ContentType=_content_type(path),
                Metadata={_TOKENS: token},
            )
        except Refused as met:
            self._require_landed(path, token, met)

    def create_from(self, path: str, local: str) -> None:
        with open(local, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > 2 * PART_BYTES:
                return self._upload(path, size, lambda start, end: os.pread(file.fileno(), end - start, start))
            self.create(path, file.read())

    def replace(self, path: str, expected: bytes, data: bytes) -> bool:
        parts: dict[int, bytes] = {}
        try:
            reply = self._read(path, 0, None, parts.__setitem__)
        except FileNotFoundError:
            return False
        if b"".join(parts[at] for at in sorted(parts)) != expected:
            return False
        token = uuid.uuid4().hex
        tokens = ",".join([token, *_tokens(reply)][:_TOKENS_KEPT])
        try:
            self._request(
                path,
                "put_object",
                size=len(data),
                foreseen=_CHANGED | _ABSENT,
                Body=data,
                IfMatch=reply["ETag"],
                ContentType=_content_type(path),
                Metadata={_TOKENS: tokens},
            )
            return True
        except Refused:
            return self._landed(path, token)

    def scan(self, path: str) -> Iterator[Listed]:
        bucket = self._split(path)[0]
        for page in self._pages(path, "list_objects_v2"):
            for item in page.get("Contents", []):
                yield Listed(f"{bucket}/{item['Key']}", item["Size"], item["LastModified"].timestamp())

    def uploads(self, path: str) -> Iterator[Listed]:
        bucket = self._split(path)[0]
        with suppress(Refused):
            for page in self._pages(path, "list_multipart_uploads", foreseen=_NOT_FOR_US):
                for upload in page.get("Uploads", []):
                    yield Listed(f"{bucket}/{upload['Key']}", 0, upload["Initiated"].timestamp(), upload["UploadId"])

    def abort(self, path: str, upload_id: str) -> None:
        self._abort(path, upload_id)

    def delete(self, path: str) -> None:
        self._request(path, "delete_object")

    def clear(self, path: str) -> None:
        keys = [{"Key": self._split(found.path)[1]} for found in self.scan(path)]
        for start in range(0, len(keys), 1000):
            self._request(path, "delete_objects", keyless=True, Delete={"Objects": keys[start : start + 1000], "Quiet": True})
        for upload in self.uploads(path):
            self._abort(upload.path, upload.upload_id)

    def _read(self, path: str, start: int, end: int | None, put: Callable[[int, bytes], Any]) -> dict[str, Any]:
        """`put(offset from start, bytes)` for every part, from several threads; the first part's reply."""
        if end is not None and end <= start:
            return {}
        first = start + PART_BYTES if end is None else min(end, start + PART_BYTES)
        try:
            reply = self._request(
                path, "get_object", size=first - start, foreseen=_ABSENT | {"InvalidRange", "416"}, Range=f"bytes={start}-{first - 1}"
            )
        except Refused as met:
            if met.code in _ABSENT:
                raise FileNotFoundError(path) from None
            return self._request(path, "head_object")  # nothing lies there, as in an empty object
        found = int(reply["ContentRange"].rpartition("/")[2]) if "ContentRange" in reply else len(reply["Body"])
        stop = found if end is None else min(end, found)
        put(0, reply["Body"] if "ContentRange" in reply else reply["Body"][start:stop])

        def rest(at: int) -> None:
            to = min(at + PART_BYTES, stop)
            try:
                part = self._request(
                    path, "get_object", size=to - at, foreseen=_CHANGED, Range=f"bytes={at}-{to - 1}", IfMatch=reply["ETag"]
                )
            except Refused:
                raise StorageError(f"s3://{path}: replaced while it was read; read it again") from None
            put(at - start, part["Body"])

        if "ContentRange" in reply:
            _in_parallel(rest, range(first, stop, PART_BYTES))
        return reply

    def _upload(self, path: str, size: int, part: Callable[[int, int], bytes]) -> None:
        """Multipart, create-only at its completion. Uploads that fail are aborted; those of killed processes wait for `clear`."""
        if self.exists(path):  # seen before gigabytes are sent
            raise FileExistsError(path)
        # On a conflict with another write in flight S3 wants the whole upload again.
        self.retries.call(
            f"s3://{path}: write",
            lambda: self._upload_once(path, size, part),
            lambda error: isinstance(error, Refused) and error.code in _CONFLICT,
        )

    def _upload_once(self, path: str, size: int, part: Callable[[int, int], bytes]) -> None:
        token, part_bytes = uuid.uuid4().hex, max(PART_BYTES, -(-size // 10_000))
        upload = self._request(path, "create_multipart_upload", ContentType=_content_type(path), Metadata={_TOKENS: token})["UploadId"]

        def send(number: int) -> dict[str, Any]:
            data = part((number - 1) * part_bytes, min(number * part_bytes, size))
            sent = self._request(path, "upload_part", size=len(data), Body=data, PartNumber=number, UploadId=upload)
            return {"PartNumber": number, "ETag": sent["ETag"]}

        try:
            parts = _in_parallel(send, range(1, -(-size // part_bytes) + 1))
            try:
                self._request(
                    path,
                    "complete_multipart_upload",
                    size=16 * PART_BYTES,  # S3 may take minutes to put a large object together
                    foreseen=_CHANGED | _CONFLICT | {"NoSuchUpload"},
                    UploadId=upload,
                    MultipartUpload={"Parts": parts},
                    IfNoneMatch="*",
                )
            except Refused as met:
                if met.code in _CONFLICT:
                    raise
                self._require_landed(path, token, met)
        except BaseException:
            self._abort(path, upload)
            raise

    def _abort(self, path: str, upload: str) -> None:
        """Best effort: the error that led here matters more, and a bucket's lifecycle rule gets the rest."""
        brief = dataclasses.replace(self.retries, deadline_s=min(_ABORT_DEADLINE_S, self.retries.deadline_s))
        try:
            self._request(path, "abort_multipart_upload", retries=brief, foreseen={"NoSuchUpload"}, UploadId=upload)
        except (Refused, StorageError):
            return

    def _require_landed(self, path: str, token: str, met: Refused) -> None:
        """A refused create is success if it made the object itself, else FileExistsError."""
        if self._landed(path, token):
            return
        if met.code == "NoSuchUpload":
            raise StorageError(f"s3://{path}: the upload was aborted by somebody else; write it again")
        raise FileExistsError(path)

    def _landed(self, path: str, token: str) -> bool:
        try:
            return token in _tokens(self._request(path, "head_object", foreseen=_ABSENT))
        except Refused:
            return False

    def _pages(self, path: str, method: str, foreseen: Collection[str] = ()) -> Iterator[dict[str, Any]]:
        prefix = self._split(path)[1]
        at: dict[str, str] = {"Prefix": f"{prefix}/" if prefix else ""}
        while True:
            page = self._request(path, method, keyless=True, foreseen=foreseen, **at)
            yield page
            if not page.get("IsTruncated"):
                return
            if method == "list_objects_v2":
                at["ContinuationToken"] = page["NextContinuationToken"]
            else:
                at |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    def _split(self, path: str) -> tuple[str, str]:
        bucket, _, key = path.partition("/")
        return bucket, key


def _content_type(path: str) -> str:
    """What a browser is told an object is: S3's own default would have pages downloaded in place of shown."""
    kind, packed = mimetypes.guess_type(path.rpartition("/")[2])
    return "application/octet-stream" if kind is None or packed else kind


def _tokens(reply: dict[str, Any]) -> list[str]:
    return reply.get("Metadata", {}).get(_TOKENS, "").split(",")


def _write_at(descriptor: int, data: bytes, at: int) -> int:
    view, done = memoryview(data), 0
    while done < len(data):
        done += os.pwrite(descriptor, view[done:], at + done)
    return done


def _in_parallel(function: Callable[[int], T], items: Iterable[int]) -> list[T]:
    """Results in the order of `items`; the first error ends what has not begun."""
    with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
