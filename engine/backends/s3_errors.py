"""What an error of S3 means: it will pass, or it is one clear message. Credentials never appear in one."""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator

import aiohttp
from botocore import exceptions as botocore
from botocore.parsers import ResponseParserError

from engine.errors import EngineError, MissingInput, StorageError

_PASSING_CODES = {
    "BadDigest",  # damaged on the way; S3 did not store it
    "BandwidthLimitExceeded",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
}
_PASSING_STATUS = {408, 429, 500, 502, 503, 504}
_PASSING_ERRORS = (
    aiohttp.ClientError,
    botocore.ConnectionError,
    botocore.CredentialRetrievalError,
    botocore.FlexibleChecksumError,
    botocore.HTTPClientError,
    botocore.IncompleteReadError,
    ConnectionError,
    ResponseParserError,
    TimeoutError,
)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
_CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the role of the machine"
_ENDPOINT = "check AWS_ENDPOINT_URL and AWS_DEFAULT_REGION"
_ADVICE = {
    "AccessDenied": f"check that these credentials may do that ({_CREDENTIALS}); an absent key is refused too where listing is not allowed",
    "AuthorizationHeaderMalformed": _ENDPOINT,
    "ExpiredToken": "renew the credentials, then submit the job again",
    "IllegalLocationConstraintException": _ENDPOINT,
    "InvalidAccessKeyId": f"correct the credentials: {_CREDENTIALS}",
    "NotImplemented": "this store has no conditional writes, which keep releases whole; use one that has",
    "PermanentRedirect": _ENDPOINT,
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": f"correct the credentials: {_CREDENTIALS}",
}
_ADVICE |= {"301": _ENDPOINT, "401": _ADVICE["AccessDenied"], "403": _ADVICE["AccessDenied"], "501": _ADVICE["NotImplemented"]}


def code_of(error: BaseException) -> str:
    """S3's word for an error ('SlowDown'), or the HTTP status where a reply has no body; empty if S3 did not answer."""
    answer = _answer(error)
    return answer.response.get("Error", {}).get("Code", "") if answer else ""


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if answer := _answer(error):
        status = answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return code_of(error) in _PASSING_CODES or status in _PASSING_STATUS
    return isinstance(error, _PASSING_ERRORS) and not any(map(_is_wrong_endpoint, _chain(error)))


def refusal(error: Exception, url: str, action: str) -> EngineError:
    """The error to raise for one that will not pass."""
    code = code_of(error)
    if code == "NoSuchBucket":
        return MissingInput(f"{url}: no such bucket; create it, or correct the URL or AWS_ENDPOINT_URL")
    if code in ("NoSuchKey", "404"):
        return MissingInput(f"{url}: no such object or bucket; check the URL, or run the job that writes it")
    if isinstance(error, (botocore.NoCredentialsError, botocore.PartialCredentialsError)):
        advice = f"give credentials: {_CREDENTIALS}"
    elif code:
        advice = _ADVICE.get(code, "see the store's documentation of this code")
    elif isinstance(error, (botocore.ParamValidationError, botocore.ProfileNotFound)):
        advice = "correct the URL or the AWS_ environment variables"
    else:
        advice = _ENDPOINT
    return StorageError(f"{url}: cannot {action}: {shown(error)}; {advice}")


def shown(error: BaseException) -> str:
    """One line of an error, without secrets of the environment and without user and password in URLs."""
    text = f"{code_of(error)} " if code_of(error) else ""
    text = " ".join(f"{text}{type(_answer(error) or error).__name__}: {_answer(error) or error}".split())
    secrets = (os.environ.get(name, "") for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"))
    for secret in secrets:
        text = text.replace(secret, "***") if len(secret) > 7 else text
    return re.sub(r"//[^/@\s]+@", "//", text)[:500]


def _answer(error: BaseException) -> botocore.ClientError | None:
    """S3's own answer under what s3fs made of it."""
    return next((link for link in _chain(error) if isinstance(link, botocore.ClientError)), None)


def _is_wrong_endpoint(error: BaseException) -> bool:
    """Whether the name does not exist, or something else than this store answers there."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    if isinstance(error, ssl.SSLError):
        return isinstance(error, ssl.SSLCertVerificationError) or getattr(error, "reason", "") in _NO_TLS
    return isinstance(error, ValueError)  # a URL that no request can be made of


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it stands for. `__context__` is left out: it may be an error that the caller was handling."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or getattr(link, "kwargs", {}).get("error")
