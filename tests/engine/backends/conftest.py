"""An S3 server behind a proxy with faults, and a store that reaches it through the proxy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.storage import Store
from tests.chaos.faulty_s3 import FaultyS3, faulty_s3


@pytest.fixture
def proxy(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """Without faults until a test sets `proxy.faults`; every request of this process goes through it."""
    with faulty_s3(s3_server, seed=1) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("PSEUDOGT_STORE_TIMEOUT_S", "10")
        monkeypatch.setenv("PSEUDOGT_STORE_DEADLINE_S", "60")
        yield proxy


@pytest.fixture
def store(s3_url: str, proxy: FaultyS3) -> Store:
    return Store(s3_url)
