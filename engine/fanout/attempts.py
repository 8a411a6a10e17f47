"""How often a shard has taken its worker down with it: a record that outlives the worker.

A record is created before a shard's bytes are touched and deleted after. What is found later was left by a death. The ledger
belongs to one submission, so submitting again gives every shard its tries back.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from engine.errors import AlreadyExists
from engine.storage import Store
from schemas.records import canonical_json


@dataclass(frozen=True)
class AttemptLedger:
    """Attempt records of one submission, in the release store."""

    store: Store
    plan_digest: str
    submission: str
    max_attempts: int

    def begin(self, index: int) -> str | None:
        """Key of this attempt's record, None when the shard has used up its attempts."""
        content = canonical_json({"shard": index, "host": socket.gethostname(), "pid": os.getpid()})
        for attempt in range(1, self.max_attempts + 1):
            key = f"runs/{self.plan_digest}/attempts/{self.submission}/{index:06d}-{attempt}.json"
            try:
                self.store.create(key, content)
                return key
            except AlreadyExists:
                continue
        return None

    def end(self, key: str) -> None:
        """The worker outlived the attempt."""
        self.store.delete(key)
