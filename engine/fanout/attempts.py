"""How often a shard has taken its worker down with it: a record that outlives the worker.

A record is created before a shard's bytes are touched and deleted after. What is found later was left by a death. The ledger
belongs to one submission, so submitting again gives every shard its tries back.

A worker has several shards in hand, so a death marks the innocent too. A shard that was in hand at `max_attempts - 1` deaths is
therefore not given up but looked into (`engine/fanout/isolation.py`): the attempt is a careful one. A search that finds nothing is noted,
so that it is done once; deaths after it are most likely of other causes (spot machines), and a shard can afford many of those.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from engine.errors import AlreadyExists
from engine.storage import Store
from schemas.records import canonical_json

CAREFUL_ATTEMPTS = 16
"""Attempts after the first careful one, in all. Finite, for a shard may kill workers and spare the child that looks into it."""


@dataclass(frozen=True)
class Attempt:
    """`key` of its record; `careful`: look for what kills before touching the shard."""

    key: str
    careful: bool


@dataclass(frozen=True)
class AttemptLedger:
    """Attempt records of one submission, in the release store."""

    store: Store
    plan_digest: str
    submission: str
    max_attempts: int

    def begin(self, index: int) -> Attempt | None:
        """This attempt, None when the shard has used up its attempts."""
        content = canonical_json({"shard": index, "host": socket.gethostname(), "pid": os.getpid()})
        first_careful = max(2, self.max_attempts)
        for number in range(1, first_careful + CAREFUL_ATTEMPTS + 1):
            key = f"runs/{self.plan_digest}/attempts/{self.submission}/{index:06d}-{number}.json"
            try:
                self.store.create(key, content)
            except AlreadyExists:
                continue
            return Attempt(key, careful=number >= first_careful and not self.store.exists(self._harmless(index)))
        return None

    def found_harmless(self, index: int) -> None:
        """A search of the shard for what kills found nothing."""
        self.store.create_same(self._harmless(index), canonical_json({"shard": index}))

    def _harmless(self, index: int) -> str:
        return f"runs/{self.plan_digest}/attempts/{self.submission}/{index:06d}-harmless.json"

    def end(self, attempt: Attempt) -> None:
        """The worker outlived the attempt."""
        self.store.delete(attempt.key)
