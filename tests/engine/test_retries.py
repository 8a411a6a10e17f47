"""The patience with a store: how pauses grow and differ, and what ends it."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError, StorageError
from engine.retries import Retries


@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_pauses_grow_up_to_a_bound_and_differ_between_clients(one: int, other: int) -> None:
    retries = Retries(first_pause_s=0.1, longest_pause_s=10.0)
    mine, theirs = (list(itertools.islice(retries.pauses(random.Random(seed)), 20)) for seed in (one, other))
    ceilings = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4] + [10.0] * 13
    assert all(0 <= pause <= ceiling for pause, ceiling in zip(mine, ceilings, strict=True))
    assert (mine == theirs) == (one == other)


def test_pauses_fill_what_they_may_take() -> None:
    firsts = sorted(next(Retries().pauses(random.Random(seed))) for seed in range(2000))
    assert firsts[100] == pytest.approx(0.005, abs=0.002) and firsts[-100] == pytest.approx(0.095, abs=0.002)


@given(st.integers(0, 2**32))
def test_a_minute_without_the_store_is_survived_by_default(seed: int) -> None:
    """Whatever is drawn, an attempt starts after the outage and before the deadline."""
    retries, at = Retries(), 0.0
    for pause in retries.pauses(random.Random(seed)):
        at += pause
        if at >= 60:
            break
    assert at <= 70 < retries.deadline_s


def test_what_passes_is_tried_again_and_what_does_not_is_raised_at_once() -> None:
    errors = [ConnectionError(), TimeoutError(), KeyError("final")]
    with pytest.raises(KeyError, match="final"):
        Retries(first_pause_s=0.001).call("x", lambda: (_ for _ in ()).throw(errors.pop(0)), lambda e: isinstance(e, OSError))
    assert errors == []


def test_the_deadline_ends_it_and_names_everything() -> None:
    def once() -> None:
        raise ConnectionError("no route")

    with pytest.raises(StorageError, match=r"s3://b/k: get: gave up after \d+ attempts in 0\.[1-9] s, last error: .*no route.*DEADLINE_S"):
        Retries(deadline_s=0.1, first_pause_s=0.01).call("s3://b/k: get", once, lambda _: True)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Retries.from_environment().deadline_s, Retries.from_environment().timeout_s) == (300, 30)
    monkeypatch.setenv("PSEUDOGT_STORE_DEADLINE_S", "7.5")
    monkeypatch.setenv("PSEUDOGT_STORE_TIMEOUT_S", "2")
    assert (Retries.from_environment().deadline_s, Retries.from_environment().timeout_s) == (7.5, 2)
    for wrong in ("soon", "-1", "0", "inf", "nan"):
        monkeypatch.setenv("PSEUDOGT_STORE_DEADLINE_S", wrong)
        with pytest.raises(ConfigError, match=f"PSEUDOGT_STORE_DEADLINE_S={wrong}: expected a number of seconds above 0"):
            Retries.from_environment()
