"""Names that came by before, and sums by name, against Python's own set and counter."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from engine.inspection.seen import Seen, Tally, name_hash

NAMES = st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=60)


@given(NAMES, st.integers(1, 9))
def test_a_name_is_new_once_however_few_are_pending(names: list[tuple[str, str]], pending: int) -> None:
    seen, expected = Seen(pending), set()
    for name in names:
        assert seen.add(*name) == (name not in expected)
        expected.add(name)
    assert len(seen) == len(expected)


def test_parts_are_told_apart() -> None:
    assert len({name_hash("a", "bc"), name_hash("ab", "c"), name_hash("abc"), name_hash("abc", "")}) == 4
    assert name_hash("\udc80") != name_hash("?")


@given(st.lists(st.tuples(st.text(max_size=2), st.integers(0, 1000)), max_size=60))
def test_sums_are_those_of_a_counter(additions: list[tuple[str, int]]) -> None:
    tally, expected = Tally(), Counter()
    for name, count in additions:
        tally.add(count, name)
        expected[name] += count
    names, totals = tally.totals()
    assert dict(zip(names.tolist(), totals.tolist(), strict=True)) == {name_hash(name): total for name, total in expected.items()}
