import io

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.loading.augmentation import AugmentConfig, draw
from engine.loading.canvas import Canvas
from engine.loading.counter_rng import stable_key
from engine.loading.crops import crop_affines, looked_at, warp
from engine.loading.decode import Decoder, Part

HW = (128, 96)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    return cv2.resize(noise, (400, 300), interpolation=cv2.INTER_LINEAR)


def affines(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    size = rng.uniform(20, 250, (count, 1))
    boxes = np.column_stack([rng.uniform(-60, 350, (count, 2)), 0.75 * size, size])
    return crop_affines(boxes, HW, draw(AugmentConfig(shift=0.2), np.array([stable_key(seed, i) for i in range(count)], np.uint64)))


def test_crops_are_those_of_warp_to_the_last_bit_though_only_what_they_look_at_is_there(photograph):
    affine_B23 = affines(120, 1)
    canvas, crop = Canvas(), np.empty((*HW, 3), np.uint8)
    canvas.lay(Part(np.full((500, 600, 3), 99, np.uint8), (0, 0), (600, 500)))  # what was there before must not show
    lit = 0
    for affine, (left, top, right, bottom) in zip(affine_B23, looked_at(affine_B23, HW).tolist(), strict=True):
        left, top, right, bottom = max(0, left), max(0, top), min(400, right), min(300, bottom)
        if left < right and top < bottom:
            canvas.lay(Part(photograph[top:bottom, left:right].copy(), (left, top), (400, 300)))
        canvas.cut(affine, crop)
        expected = warp(photograph, affine, HW)
        assert (crop == expected).all()
        lit += expected.any()
    assert lit > 90


def test_a_part_decoded_is_a_part_laid(photograph):
    out = io.BytesIO()
    Image.fromarray(photograph).save(out, "JPEG", quality=90)
    decoder, canvas, crop = Decoder(max_batch=4), Canvas(), np.empty((*HW, 3), np.uint8)
    (pixels,) = decoder.decode([out.getvalue()])
    affine_B23 = affines(40, 2)
    for affine, box in zip(affine_B23, looked_at(affine_B23, HW).tolist(), strict=True):
        canvas.lay(decoder.decode_parts([out.getvalue()], [tuple(box)])[0])
        canvas.cut(affine, crop)
        assert (crop == warp(pixels, affine, HW)).all()


def test_gains_are_those_of_exact_arithmetic_within_one_level(photograph):
    canvas, crop = Canvas(), np.empty((*HW, 3), np.uint8)
    canvas.lay(Part(photograph, (0, 0), (400, 300)))
    for seed, affine in enumerate(affines(10, 3)):
        gain_3 = np.random.default_rng(seed).uniform(0.8, 1.2, 3)
        canvas.cut(affine, crop, gain_3)
        difference = crop - np.clip(warp(photograph, affine, HW) * gain_3, 0, 255)
        assert np.abs(difference).max() <= 1 and abs(difference.mean()) < 0.1
