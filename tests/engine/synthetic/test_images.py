"""Run lengths against COCO's definition, outlines and boxes against the mask."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engine.synthetic.images import mask_box, mask_polygons, mask_run_lengths

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(MASKS)
def test_run_lengths_decode_to_the_mask(mask: np.ndarray) -> None:
    found = mask_run_lengths(mask)
    values = np.repeat(np.arange(len(found["counts"])) % 2, found["counts"])
    np.testing.assert_array_equal(values.reshape(found["size"], order="F"), mask)
    assert all(count > 0 for count in found["counts"][1:])


@given(MASKS)
def test_box_is_the_smallest(mask: np.ndarray) -> None:
    x, y, w, h = (int(v) for v in mask_box(mask))
    assert mask[y : y + h, x : x + w].sum() == mask.sum()
    if mask.any():
        inner = mask[y : y + h, x : x + w]
        assert inner[0].any() and inner[-1].any() and inner[:, 0].any() and inner[:, -1].any()


def test_polygons_fill_the_mask() -> None:
    mask = np.zeros((40, 50), bool)
    mask[5:30, 10:22] = True
    mask[32:38, 30:45] = True
    filled = np.zeros(mask.shape, np.uint8)
    for polygon in mask_polygons(mask):
        cv2.fillPoly(filled, [np.array(polygon, np.int32).reshape(-1, 2)], 1)
    np.testing.assert_array_equal(filled > 0, mask)
