"""How long to go on with a store that fails for a while: pauses that grow, full jitter, one deadline.

This is the only layer that retries. The clients below are told to try once, so that attempts do not multiply.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from engine.errors import ConfigError, StorageError

T = TypeVar("T")


@dataclass(frozen=True)
class Retries:
    """The patience of one request to a store, in seconds. What consists of several requests starts anew with each of them."""

    deadline_s: float = 300.0
    """From the first attempt to the last one's start."""
    timeout_s: float = 30.0
    """Silence of the server after which an attempt is given up."""
    first_pause_s: float = 0.1
    longest_pause_s: float = 10.0

    @classmethod
    def from_environment(cls) -> Retries:
        """Defaults, or PSEUDOGT_STORE_DEADLINE_S and PSEUDOGT_STORE_TIMEOUT_S, which workers of a local Ray inherit.

        On a cluster they come to workers through the job's runtime environment.
        """
        return cls(
            deadline_s=_seconds("PSEUDOGT_STORE_DEADLINE_S", cls.deadline_s),
            timeout_s=_seconds("PSEUDOGT_STORE_TIMEOUT_S", cls.timeout_s),
        )

    def pauses(self, rng: random.Random) -> Iterator[float]:
        """Endless pauses, each drawn between 0 and a ceiling that doubles up to the longest: clients that failed together part."""
        ceiling = self.first_pause_s
        while True:
            yield rng.uniform(0, ceiling)
            ceiling = min(2 * ceiling, self.longest_pause_s)

    def call(self, what: str, once: Callable[[], T], transient: Callable[[Exception], bool], show: Callable[[Exception], str] = repr) -> T:
        """`once()`, again and again until it returns or raises what is not transient. StorageError at the deadline.

        `what` names the thing and what is done to it; `show` words an error without credentials.
        """
        # Not the module's generator: forked workers share its state and would pause in step.
        pauses, began, attempt = self.pauses(random.SystemRandom()), time.monotonic(), 1
        while True:
            try:
                return once()
            except Exception as error:
                if not transient(error):
                    raise
                spent = time.monotonic() - began
                if spent >= self.deadline_s:
                    raise StorageError(
                        f"{what}: gave up after {attempt} attempts in {spent:.1f} s, last error: {show(error)}; see whether the store is "
                        "up, then submit the job again, or allow more time with PSEUDOGT_STORE_DEADLINE_S"
                    ) from None
            time.sleep(min(next(pauses), self.deadline_s - spent))
            attempt += 1


def _seconds(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{name}={text}: expected a number of seconds above 0")
    return value
