"""CrowdPose: 14 joints by name, sizes that the images' headers correct, and the real file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.datasets.base import DatasetConfig, RawItem, SkippedInstances
from engine.datasets.registry import open_dataset
from engine.errors import MissingInput, RawDataError, UnsafeInput
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts import crowdpose
from engine.synthetic.shots import make_shots
from schemas.skeletons import CROWDPOSE14
from tests.engine.datasets.round_trip import assert_round_trip


def _items(root: Path, split: str = "train") -> list[RawItem | SkippedInstances]:
    return list(open_dataset(DatasetConfig(name="crowdpose", root=str(root), split=split)).items())


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 999),
    swapped_size=st.booleans(),
    path=st.sampled_from(
        ["annotations/crowdpose_{}.json", "annotations/mmpose_crowdpose_{}.json", "json/crowdpose_{}.json", "crowdpose_{}.json"]
    ),
    folder=st.sampled_from(["images/", ""]),
)
def test_what_is_written_is_read(
    mannequin: Mannequin, tmp_path_factory: pytest.TempPathFactory, seed: int, swapped_size: bool, path: str, folder: str
) -> None:
    root = tmp_path_factory.mktemp("crowdpose")
    shots = make_shots(mannequin, seed, 3, people=(1, 3), hw=(320, 240))
    truth = crowdpose.write(root, shots, swapped_size=swapped_size, path=path, folder=folder)
    found = _items(root)
    # Whole pixels are up to half a pixel off.
    assert_round_trip(found, truth, tolerance_px=0.5 + 1e-6)
    assert {(item.width, item.height) for item in found if isinstance(item, RawItem)} == {(240, 320)}


def test_a_size_is_told_only_where_the_image_s_header_agrees(mannequin: Mannequin, tmp_path: Path) -> None:
    shots = make_shots(mannequin, 5, 4, hw=(320, 240), people=(1, 1))
    crowdpose.write(tmp_path, shots)
    missing, other, turned, broken = (tmp_path / f"images/{100_000 + i}.jpg" for i in range(4))
    missing.unlink()
    Image.new("RGB", (300, 200)).save(other)
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (240, 320)).save(turned, exif=exif)
    broken.write_bytes(b"\xff\xd8\xff broken")
    found = _items(tmp_path)
    assert len(found) == 4 and all(isinstance(item, RawItem) and (item.width, item.height) == (None, None) for item in found)


def test_joints_go_by_the_names_in_the_file(mannequin: Mannequin, tmp_path: Path) -> None:
    truth = crowdpose.write(tmp_path, make_shots(mannequin, 6, 2))
    path = tmp_path / "annotations/crowdpose_train.json"
    content = json.loads(path.read_text())
    category = content["categories"][0]
    turned = list(reversed(range(len(CROWDPOSE14))))
    category["keypoints"] = [category["keypoints"][i] for i in turned]
    for annotation in content["annotations"]:
        annotation["keypoints"] = [v for i in turned for v in annotation["keypoints"][3 * i : 3 * i + 3]]
    path.write_text(json.dumps(content))
    assert_round_trip(_items(tmp_path), truth, tolerance_px=0.5 + 1e-6)
    category["keypoints"] = [f"point_{i}" for i in range(14)]
    path.write_text(json.dumps(content))
    with pytest.raises(RawDataError, match="expected keypoints of skeleton crowdpose14"):
        _items(tmp_path)


def test_a_person_of_whom_only_the_head_is_seen_is_kept(mannequin: Mannequin, tmp_path: Path) -> None:
    crowdpose.write(tmp_path, make_shots(mannequin, 8, 1, people=(1, 1)))
    path = tmp_path / "annotations/crowdpose_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0] |= {"keypoints": [0] * 36 + [30, 20, 2, 31, 40, 1], "num_keypoints": 0}
    path.write_text(json.dumps(content))
    (item,) = _items(tmp_path)
    assert isinstance(item, RawItem) and item.instances[0].joints_valid == (False,) * 12 + (True,) * 2


def test_a_wrong_layout_says_what_is_wrong(mannequin: Mannequin, tmp_path: Path) -> None:
    with pytest.raises(MissingInput, match=r"crowdpose_train\.json does not exist"):
        _items(tmp_path)
    crowdpose.write(tmp_path, make_shots(mannequin, 7, 1))
    path = tmp_path / "annotations/crowdpose_train.json"
    whole = path.read_text()
    path.write_text(whole[: len(whole) * 2 // 3])
    with pytest.raises(RawDataError, match="download may be incomplete"):
        _items(tmp_path)
    path.write_text(whole.replace("100000.jpg", "../100000.jpg"))
    with pytest.raises(UnsafeInput, match="outside the dataset's root"):
        _items(tmp_path)


def test_real_crowdpose(real_data: Path) -> None:
    root = real_data / "crowdpose"
    raw = json.loads((root / "test_crowdpose.json").read_text())
    found = _items(root, "test")
    assert Counter(item.reason for item in found if isinstance(item, SkippedInstances)) == {"no_keypoints": 1}
    kept = {item.instances[0].annotation_id: item for item in found if isinstance(item, RawItem)}
    assert len(found) == len(raw["annotations"]) == 5
    named = raw["categories"][0]["keypoints"]
    for annotation in raw["annotations"]:
        if annotation["num_keypoints"] == 0:
            continue
        item = kept[str(annotation["id"])]
        (person,) = item.instances
        limbs = [ok for name, ok in zip(CROWDPOSE14.joints, person.joints_valid, strict=True) if name not in ("Head_top", "Neck")]
        assert sum(limbs) == annotation["num_keypoints"]
        for published, mine in (("left_wrist", "L_Wrist"), ("right_knee", "R_Knee"), ("head", "Head_top"), ("neck", "Neck")):
            x, y, v = annotation["keypoints"][3 * named.index(published) :][:3]
            j = CROWDPOSE14.index(mine)
            assert (person.joints_img[j], person.joints_valid[j]) == ((x, y), v > 0)
        with Image.open(item.image.path) as image:
            assert image.size == (item.width, item.height)
