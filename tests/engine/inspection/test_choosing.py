"""The choice of photographs from a stream: bounded, repeatable, and with all persons of an image."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.base import ImageFile
from engine.inspection.choosing import Chosen, rank
from engine.inspection.photographs import Photograph
from engine.inspection.seen import name_hash
from schemas.sample import Instance


def _photograph(key: str, number: int = 0, box: float = 10.0) -> Photograph:
    person = Instance(
        annotation_id=f"{key}_{number}", bbox_xywh=(0, 0, box, 2 * box), skeleton="lsp14", joints_img=((1.0, 1.0),) * 14,
        joints_valid=(True,) * 14,
    )  # fmt: skip
    return Photograph(key, f"{key}.jpg", ImageFile(Path(f"{key}.jpg")), (64, 64), (person,))


@settings(max_examples=40)
@given(st.permutations([(f"k{i}", n) for i in range(30) for n in range(1 + i % 3)]), st.integers(1, 12))
def test_a_random_choice_is_that_of_the_lowest_hashes_whatever_the_order(found: list[tuple[str, int]], count: int) -> None:
    chosen, met = Chosen(count), set()
    for key, number in found:
        photograph = _photograph(key, number)
        chosen.offer(photograph, rank("random", 7, photograph, 0, float("nan")), key not in met)
        met.add(key)
    wanted = sorted({key for key, _ in found}, key=lambda key: float(name_hash("7", key)))[:count]
    assert [photograph.key for photograph in chosen.photographs()] == wanted
    for photograph in chosen.photographs():
        assert {p.annotation_id for p in photograph.persons} == {f"{key}_{n}" for key, n in found if key == photograph.key}


@given(st.integers(0, 500), st.integers(1, 20))
def test_an_even_choice_is_spread_over_the_whole_stream(images: int, count: int) -> None:
    chosen = Chosen(count, evenly=True)
    for i in range(images):
        chosen.offer(_photograph(str(i)), 0.0, True)
    places = [int(photograph.key) for photograph in chosen.photographs()]
    assert len(places) == min(count, images) and places == sorted(set(places))
    gaps = [b - a for a, b in zip([-1, *places], [*places, images], strict=True)]
    assert max(gaps) <= 4 * max(1, images / count) + 1


def test_largest_smallest_and_worst() -> None:
    boxes = {"a": 30.0, "b": 5.0, "c": 80.0, "d": 12.0}
    for choose, wanted in (("largest", ["c", "a"]), ("smallest", ["b", "d"])):
        chosen = Chosen(2)
        for key, box in boxes.items():
            photograph = _photograph(key, box=box)
            chosen.offer(photograph, rank(choose, 0, photograph, 0, float("nan")), True)
        assert [photograph.key for photograph in chosen.photographs()] == wanted
    worst = [("plain", 0, float("nan")), ("off", 0, 40.0), ("odd", 1, 0.1), ("odd and off", 1, 70.0)]
    order = sorted(worst, key=lambda case: rank("worst", 0, _photograph(case[0]), *case[1:]))
    assert [case[0] for case in order] == ["odd and off", "odd", "off", "plain"]


def test_a_crowd_is_cut_short() -> None:
    chosen = Chosen(1)
    for number in range(200):
        chosen.offer(_photograph("one", number), 0.0, number == 0)
    assert len(chosen.photographs()[0].persons) == 64
