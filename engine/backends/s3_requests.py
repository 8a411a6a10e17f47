"""One request to S3, retried by itself until its deadline; what will not pass becomes one clear error.

Endpoint, region and credentials are s3fs's and botocore's business (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, an instance's
role, ...). Their own retries are off.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from typing import Any

import fsspec
import s3fs
from botocore.exceptions import ClientError
from fsspec.asyn import sync

from engine.backends.s3_errors import code_of, is_transient, refusal, shown
from engine.errors import StorageError
from engine.retries import Retries

_CONNECTIONS = 256
"""64 threads that each read four parts at once."""
_SLOWEST_BYTES_S = 256 << 10
"""A server that answers, but slower than this, is given up like one that is silent."""
_filesystems: dict[tuple, s3fs.S3FileSystem] = {}


class Refused(Exception):
    """A reply that the caller had foreseen."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Requests:
    """Requests with one patience and one environment; shared by threads and forked processes."""

    def __init__(self, retries: Retries) -> None:
        self.retries = retries
        self._environment = hash(tuple(sorted((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))))

    @property
    def _fs(self) -> s3fs.S3FileSystem:
        """One client a process and environment, shared by threads. A forked child gets its own: it has not the parent's event loop.

        The parent's stays in the child's table on purpose: closing it there would say goodbye on the parent's connections.
        """
        key = (os.getpid(), self._environment, self.retries.timeout_s)
        return _filesystems.get(key) or _filesystems.setdefault(key, _open(self.retries.timeout_s))

    def send(
        self,
        path: str,
        method: str,
        *,
        size: int = 0,
        foreseen: Collection[str] = (),
        keyless: bool = False,
        retries: Retries | None = None,
        **parameters: Any,
    ) -> dict[str, Any]:
        """One request, retried while its errors pass; a body comes back as bytes.

        Refused for codes in `foreseen`, StorageError or MissingInput that names the URL for other refusals. `size` (bytes that
        travel) allows an attempt more time.
        """
        fs, retries = self._fs, retries or self.retries
        bucket, _, key = path.partition("/")
        names = {"Bucket": bucket} if keyless else {"Bucket": bucket, "Key": key}
        limit_s = 3 * retries.timeout_s + size / _SLOWEST_BYTES_S

        def once() -> dict[str, Any]:
            try:
                reply = sync(fs.loop, _attempt, fs, method, limit_s, names | parameters)
                if reply is None:  # what fsspec makes of a request that was cancelled
                    raise ConnectionError("the request was cancelled")
                return reply
            except Exception as error:
                if code_of(error) in foreseen:
                    raise Refused(code_of(error)) from None
                raise

        action = method.removesuffix("_v2").replace("_", " ")
        try:
            return retries.call(f"s3://{path}: {action}", once, is_transient, shown)
        except (Refused, StorageError):
            raise
        except Exception as error:
            raise refusal(error, f"s3://{path}", action) from None


async def _attempt(fs: s3fs.S3FileSystem, method: str, limit_s: float, parameters: dict[str, Any]) -> dict[str, Any]:
    async with asyncio.timeout(limit_s):
        reply = await fs._call_s3(method, **parameters)
        if "Body" in reply:
            async with reply["Body"] as body:
                reply["Body"] = await body.read()
            if len(reply["Body"]) != reply["ContentLength"]:
                raise ConnectionError(f"expected {reply['ContentLength']} bytes, found {len(reply['Body'])}")
        if reply.get("Errors"):  # of single keys of delete_objects
            raise ClientError({"Error": reply["Errors"][0]}, method)
        return reply


def _open(timeout_s: float) -> s3fs.S3FileSystem:
    """An s3fs client that tries once, forgets listings, and has a connection for every part of many threads."""
    ours = {
        "connect_timeout": min(10.0, timeout_s),
        "read_timeout": timeout_s,
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": _CONNECTIONS,
    }
    theirs = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    fs = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False, config_kwargs=theirs | ours)
    fs.retries = 1
    return fs
