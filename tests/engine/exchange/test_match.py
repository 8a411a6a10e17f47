"""Fits find their persons: by id, or by image and box, each at most once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.exchange.base import Fit, Unmapped
from engine.exchange.match import DUPLICATE, UNMATCHED, image_name, open_index
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17


def _sample(key: str, path: str, boxes: list[tuple[float, float, float, float]], ids: list[str] | None = None) -> Sample:
    names = ids or [f"{key}-{n}" for n in range(len(boxes))]
    people = [
        Instance(annotation_id=name, bbox_xywh=box, skeleton="coco17", joints_img=[(0, 0)] * len(COCO17), joints_valid=[True] * len(COCO17))
        for name, box in zip(names, boxes, strict=True)
    ]
    return Sample(key=key, dataset="d", image_path=path, width=2000, height=2000, instances=people)


def _fit(number: float, **names: object) -> Fit:
    return Fit(np.full(72, number), np.zeros(10), **names)


def _numbers(found: list[Fit | Unmapped | None]) -> list[float | None]:
    return [None if fit is None else fit.pose_72[0] if isinstance(fit, Fit) else fit.reason for fit in found]


def test_by_id_and_each_once() -> None:
    fits = [_fit(1, annotation_id="5"), _fit(2, annotation_id="5"), _fit(3, annotation_id="6"), _fit(4, annotation_id="9")]
    with open_index(fits) as index:
        assert _numbers(index.match(_sample("a", "a.jpg", [(0, 0, 9, 9)] * 3, ["6", "5", "7"]), 0.25)) == [3, 1, None]
        listed, more = index.left_over(10)
        assert [(p.annotation_id, p.reason) for p in listed] == [("5", DUPLICATE), ("9", UNMATCHED)] and not more
        assert index.left_over(1)[1] == {UNMATCHED: 1}


def test_an_id_that_several_images_have_needs_the_image() -> None:
    fits = [_fit(1, annotation_id="0", image="a"), _fit(2, annotation_id="0", image="x/b.png")]
    with open_index(fits) as index:
        assert _numbers(index.match(_sample("b", "train/b.jpg", [(0, 0, 9, 9)], ["0"]), 0.25)) == [2]
        assert _numbers(index.match(_sample("a", "train/a.jpg", [(0, 0, 9, 9)], ["0"]), 0.25)) == [1]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_persons_apart_are_found_whatever_the_order(data: st.DataObject) -> None:
    """Centres that are off by less than the tolerance, boxes too far apart to be confused."""
    count = data.draw(st.integers(1, 6))
    boxes = [(200.0 * n, 50.0, data.draw(st.floats(40, 150)), data.draw(st.floats(40, 150))) for n in range(count)]
    order = data.draw(st.permutations(range(count)))
    fits = []
    for n in order:
        x, y, w, h = boxes[n]
        off = data.draw(st.tuples(st.floats(-0.15, 0.15), st.floats(-0.15, 0.15)))
        fits.append(_fit(n, image="k.jpg", centre_2=np.array([x + w / 2 + off[0] * max(w, h), y + h / 2 + off[1] * max(w, h)])))
    with open_index(fits) as index:
        assert _numbers(index.match(_sample("k", "q/k.jpg", boxes), 0.25)) == list(range(count))
        assert index.left_over(10) == ([], {})


def test_beyond_the_tolerance_there_is_nobody() -> None:
    with open_index([_fit(1, image="k", centre_2=np.array([50.0, 50 + 26])), _fit(2, image="k", centre_2=np.array([np.nan, 1]))]) as index:
        assert _numbers(index.match(_sample("k", "k.jpg", [(0, 0, 100, 100)]), 0.25)) == [None]
        assert [p.reason for p in index.left_over(5)[0]] == [UNMATCHED] * 2


def test_without_a_centre_only_the_only_one() -> None:
    fits = [_fit(1, image="one"), _fit(2, image="two"), _fit(3, image="both"), _fit(4, image="both")]
    with open_index(fits) as index:
        assert _numbers(index.match(_sample("one", "one.jpg", [(0, 0, 9, 9)]), 0.25)) == [1]
        assert _numbers(index.match(_sample("two", "two.jpg", [(0, 0, 9, 9)] * 2), 0.25)) == [None, None]
        assert _numbers(index.match(_sample("both", "both.jpg", [(0, 0, 9, 9)]), 0.25)) == [None]


@pytest.mark.parametrize(
    ("said", "key", "path", "same"),
    [
        ("000000000009.jpg", "000000000009", "train2017/000000000009.jpg", True),
        ("train2014/COCO_train2014_000000000009.jpg", "000000000009", "train2017/000000000009.jpg", True),
        ("COCO_val2014_000000000009", "COCO_val2014_000000000009", "val2014/COCO_val2014_000000000009.jpg", True),
        ("C:\\mpii\\images\\015601864.JPG", "015601864", "images/015601864.jpg", True),
        ("seq_a/image_00000.jpg", "seq_a_00000", "imageFiles/seq_a/image_00000.jpg", True),
        ("imageFiles/seq_a/image_00000.jpg", "seq_a_00000", "seq_a/image_00000.jpg", True),
        ("seq_b/image_00000.jpg", "seq_a_00000", "imageFiles/seq_a/image_00000.jpg", False),
        ("image_00000.jpg", "seq_a_00000", "imageFiles/seq_a/image_00000.jpg", False),
        ("seq_a_00000", "seq_a_00000", "imageFiles/seq_a/image_00000.jpg", True),
        ("S1/Seq1/frame_000001.jpg", "k", "S1/Seq2/frame_000001.jpg", False),
        ("", "k", "k.jpg", False),
    ],
)
def test_which_names_mean_the_same_image(said: str, key: str, path: str, same: bool) -> None:
    with open_index([_fit(1, image=said, centre_2=np.array([5.0, 5.0]))]) as index:
        assert _numbers(index.match(_sample(key, path, [(0, 0, 10, 10)]), 0.25)) == [1 if same else None]


@settings(max_examples=50)
@given(st.text())
def test_any_text_is_a_name(text: str) -> None:
    stem, path = image_name(text)
    assert "/" not in stem and path.endswith(stem)


@given(st.text(), st.text())
@settings(max_examples=50, deadline=None)
def test_any_text_can_be_kept(identity: str, image: str) -> None:
    with open_index([_fit(1, annotation_id=identity, image=image), Unmapped(image, "odd", identity + "\ud800")]) as index:
        assert len(index.left_over(5)[0]) == index.read == 2


def test_what_the_file_calls_invalid_is_found_too() -> None:
    said = [Unmapped("row 3", "invalid_fit", "its own word", image="k", centre_2=np.array([5.0, 5.0])), Unmapped("x", "bad", "m")]
    with open_index(said) as index:
        assert _numbers(index.match(_sample("k", "k.jpg", [(0, 0, 10, 10)]), 0.25)) == ["invalid_fit"]
        (left,), _ = index.left_over(5)
        assert (left.name, left.reason, left.message) == ("x", "bad", "m")


def test_every_number_of_a_fit_is_kept() -> None:
    rng = np.random.default_rng(0)
    sizes = {"transl_3": 3, "focal_2": 2, "princpt_2": 2, "latent_32": 32}
    for parts in ([], ["transl_3", "focal_2"], ["transl_3", "focal_2", "princpt_2"], ["latent_32"], list(sizes)):
        fit = Fit(rng.normal(size=72), rng.normal(size=10), **{name: rng.normal(size=sizes[name]) for name in parts}, annotation_id="1")
        with open_index([fit]) as index:
            (found,) = index.match(_sample("k", "k.jpg", [(0, 0, 9, 9)], ["1"]), 0.25)
        for name in ("pose_72", "betas_10", *sizes):
            np.testing.assert_equal(getattr(found, name), getattr(fit, name))
