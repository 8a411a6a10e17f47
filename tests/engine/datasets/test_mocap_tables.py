"""The tables of a large data file: joined whatever its order, compact, and every person in them or counted."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.datasets.mocap_tables import Fields, read_images, read_joints, read_persons, whole

FIELDS = Fields(("frame",), ("cam",))


def _image(identity: int, frame: int) -> dict:
    return {"id": identity, "file_name": f"a/{identity:06d}.jpg", "width": 10, "height": 20, "frame": frame, "cam": frame % 4}


def _write(path: Path, images: list, annotations: list, first: str = "images") -> Path:
    arrays = {"images": images, "annotations": annotations}
    path.write_text(json.dumps({name: arrays[name] for name in sorted(arrays, key=lambda name: name != first)}))
    return path


@settings(max_examples=40, deadline=None)
@given(
    ids=st.lists(st.integers(-5, 30), unique=True, max_size=12),
    refers=st.lists(st.integers(-5, 30) | st.sampled_from([None, "x", 1.5]), max_size=20),
    first=st.sampled_from(["images", "annotations"]),
)
def test_every_person_is_joined_or_counted(tmp_path_factory: pytest.TempPathFactory, ids: list, refers: list, first: str) -> None:
    annotations = [{"id": n, "image_id": image, "bbox": [n, 0, 1, 1]} for n, image in enumerate(refers)]
    path = _write(tmp_path_factory.mktemp("t") / "data.json", [_image(i, i + 5) for i in ids], annotations, first)
    images = read_images(path, FIELDS, lambda image: "odd frame" if image["frame"] % 2 else None)
    persons = read_persons(path, images)
    wanted = {i for i in ids if (i + 5) % 2 == 0}
    assert images.file_names == [f"a/{i:06d}.jpg" for i in ids if i in wanted]
    assert persons.ids == [str(n) for n, image in enumerate(refers) if image in wanted]
    columns = np.array(images.columns, np.int64).reshape(-1, 5)
    assert columns[np.array(persons.image, np.int64), 0].tolist() == [image for image in refers if image in wanted]
    expected = Counter(
        "invalid_annotation" if not isinstance(image, int) else "odd frame" if image in ids else "unknown_image"
        for image in refers
        if image not in wanted
    )
    assert +persons.skipped == expected


def test_an_image_costs_a_few_hundred_bytes(tmp_path: Path) -> None:
    count = 12_000
    annotations = [{"id": i, "image_id": i, "bbox": [1.5, 2.5, 3.5, 4.5], "keypoints_vis": [1] * 17} for i in range(count)]
    path = _write(tmp_path / "data.json", [_image(i, i // 4) for i in range(count)], annotations)
    joints = tmp_path / "joints.json"
    joints.write_text(json.dumps({str(frame): [[frame % 7, 0, 900 * (joint % 2)] for joint in range(17)] for frame in range(count // 4)}))
    tracemalloc.start()
    images = read_images(path, FIELDS, lambda image: None)
    persons, places = read_persons(path, images), read_joints(joints, 17, images.instants)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(persons.ids) == count and np.isfinite(places).all()
    # Beside the rows there is a batch of annotations and the reader's buffers of a megabyte.
    assert held / count < 500 and (peak - (30 << 20)) / count < 600


@pytest.mark.parametrize("value", [True, None, "x", "1.5", 1.5, float("nan"), float("inf"), 1 << 63, [1], {}])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)):
        whole(value)


def test_whole_numbers_come_in_several_forms() -> None:
    assert [whole(value) for value in (3, 3.0, "3", np.int64(3))] == [3] * 4
