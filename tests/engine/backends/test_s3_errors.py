"""What passes and what does not, from the errors that botocore and s3fs raise."""

from __future__ import annotations

import socket
import ssl

import aiohttp
import pytest
from botocore import exceptions as botocore
from fsspec.exceptions import FSTimeoutError
from s3fs.errors import translate_boto_error

from engine.backends.s3_errors import code_of, is_transient, refusal, shown
from engine.errors import MissingInput, StorageError


def _answer(code: str, status: int, message: str = "") -> Exception:
    """As s3fs raises it: an OSError over botocore's error."""
    reply = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(botocore.ClientError(reply, "PutObject"))


def _because(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


PASSING = {
    "throttled": _answer("SlowDown", 503),
    "throttled without a body": _answer("503", 503),
    "too many requests": _answer("TooManyRequests", 429),
    "internal": _answer("InternalError", 500),
    "internal in a reply of 200": _answer("InternalError", 200),
    "conflict with another write": _answer("ConditionalRequestConflict", 409),
    "server's time-out": _answer("RequestTimeout", 400),
    "refused": botocore.EndpointConnectionError(endpoint_url="http://h", error=ConnectionRefusedError()),
    "name server is away": botocore.EndpointConnectionError(endpoint_url="http://h", error=socket.gaierror(socket.EAI_AGAIN, "again")),
    "disconnected": botocore.ConnectionClosedError(endpoint_url="http://h", error=aiohttp.ServerDisconnectedError()),
    "silent": botocore.ReadTimeoutError(endpoint_url="http://h", error=TimeoutError()),
    "slow": FSTimeoutError(),
    "cut": aiohttp.ClientPayloadError("not enough data"),
    "damaged": botocore.FlexibleChecksumError(error_msg="crc32"),
}
FINAL = {
    "denied": _answer("AccessDenied", 403),
    "denied without a body": _answer("403", 403),
    "absent": _answer("NoSuchKey", 404),
    "no bucket": _answer("NoSuchBucket", 404),
    "expired": _answer("ExpiredToken", 400),
    "taken": _answer("PreconditionFailed", 412),
    "other region": _answer("PermanentRedirect", 301),
    "no credentials": botocore.NoCredentialsError(),
    "no such name": botocore.EndpointConnectionError(
        endpoint_url="http://h", error=_because(OSError("dns"), socket.gaierror(socket.EAI_NONAME, "unknown"))
    ),
    "untrusted": botocore.SSLError(endpoint_url="https://h", error=ssl.SSLCertVerificationError("self-signed")),
    "our own mistake": AttributeError("x"),
    "the disk": PermissionError(13, "no"),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_passes(name: str) -> None:
    assert is_transient(PASSING[name])


@pytest.mark.parametrize("name", FINAL)
def test_what_does_not_pass(name: str) -> None:
    assert not is_transient(FINAL[name])
    assert isinstance(refusal(FINAL[name], "s3://b/k", "put object"), MissingInput if name in ("absent", "no bucket") else StorageError)
    assert str(refusal(FINAL[name], "s3://b/k", "put object")).startswith("s3://b/k: ")


def test_an_error_that_a_caller_was_handling_does_not_count() -> None:
    """A failed create reads the object back while it handles the refusal."""
    error = PASSING["refused"]
    error.__context__ = FINAL["taken"]
    assert is_transient(error) and code_of(error) == ""


def test_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-secret-value")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "")
    text = shown(_answer("AccessDenied", 403, "no\nvery-secret-value at https://user:word@host/key"))
    assert "AccessDenied" in text and "very-secret" not in text and "word@" not in text and "\n" not in text
    assert "https://host/key" in text
