import cv2
import numpy as np
import pytest

from engine.body.cameras import camera_to_image, virtual_camera
from engine.loading.augmentation import Augmentation, AugmentConfig, draw
from engine.loading.counter_rng import stable_key
from engine.loading.crops import apply_affine, apply_gain, crop_affine, crop_affines, onto_stored, warp, widest, window_record
from schemas.sample import Sample, Window

HW = (128, 96)
KEYS = np.array([stable_key("crop", i) for i in range(40)], dtype=np.uint64)


def three_point_affine(box, image_w: int, scale: float, rotation: float, flip: bool) -> np.ndarray:
    """The crop as the field's loaders make it: mirror the image, then an affine through three points. Returns a 3x3 matrix."""
    H, W = HW
    cx, cy = box[0] + box[2] / 2, box[1] + box[3] / 2
    mirror = np.eye(3)
    if flip:
        mirror[0] = (-1, 0, image_w - 1)
        cx = image_w - 1 - cx
    c, s = np.cos(rotation), np.sin(rotation)
    turn = np.array([[c, -s], [s, c]])
    down, right = turn @ (0, box[3] * scale / 2), turn @ (box[2] * scale / 2, 0)
    centre = np.array([cx, cy])
    src = np.float32([centre, centre + down, centre + right])
    dst = np.float32([(W / 2, H / 2), (W / 2, H), (W, H / 2)])
    return np.vstack([cv2.getAffineTransform(src, dst), (0, 0, 1)]) @ mirror


def test_affine_is_the_fields_three_point_affine_on_the_mirrored_image():
    rng = np.random.default_rng(0)
    drawn = draw(AugmentConfig(), KEYS)
    boxes = np.column_stack([rng.uniform(-40, 300, (40, 2)), np.tile([[150.0, 200.0]], (40, 1)) * rng.uniform(0.3, 2, (40, 1))])
    affines = crop_affines(boxes, HW, drawn)
    corners = np.array([[0.0, 0.0], [399.0, 0.0], [0.0, 299.0], [399.0, 299.0]])
    for i in range(40):
        reference = three_point_affine(boxes[i], 400, drawn.scale_B[i], drawn.rotation_B[i], drawn.flip_B[i])
        expected = (np.column_stack([corners, np.ones(4)]) @ reference.T)[:, :2]
        assert np.abs(apply_affine(affines[i : i + 1], corners[None])[0] - expected).max() < 0.01


def test_a_joint_stays_on_its_pixel_under_every_augmentation():
    rng = np.random.default_rng(1)
    drawn = draw(AugmentConfig(colour=0, shift=0.1), KEYS)
    assert drawn.flip_B.any() and (drawn.rotation_B != 0).any()
    seen = 0
    for i in range(40):
        box = np.array([*rng.uniform(20, 120, 2), 120.0, 160.0]) * [1, 1, 1, 1]
        joints = box[:2] + box[2:] * rng.uniform(0.25, 0.75, (3, 2))
        y, x = np.mgrid[:300, :400]
        blobs = [250 * np.exp(-((x - jx) ** 2 + (y - jy) ** 2) / (2 * 3.0**2)) for jx, jy in joints]  # one colour a joint
        image = np.stack(blobs, axis=2).astype(np.uint8)
        one = Augmentation(*(getattr(drawn, n)[i : i + 1] for n in ("scale_B", "rotation_B", "flip_B", "colour_B3", "shift_B2")))
        affine = crop_affine(box, HW, one)
        crop = warp(image, affine, HW)
        assert crop.shape == (*HW, 3) and crop.dtype == np.uint8
        expected = apply_affine(affine[None], joints[None])[0]
        v, u = np.mgrid[: HW[0], : HW[1]]
        for channel, (ex, ey) in enumerate(expected):
            if not (9 < ex < HW[1] - 10 and 9 < ey < HW[0] - 10):
                continue
            weight = crop[:, :, channel].astype(float)
            centre = np.array([(weight * u).sum(), (weight * v).sum()]) / weight.sum()
            assert np.abs(centre - (ex, ey)).max() < 0.15
            seen += 1
    assert seen > 60


def test_without_augmentation_the_box_fills_the_crop_and_agrees_with_the_virtual_camera():
    box = np.array([30.0, 40.0, 150.0, 200.0])
    affine = crop_affine(box, HW)
    assert affine @ (30, 40, 1) == pytest.approx([0, 0]) and affine @ (180, 240, 1) == pytest.approx([96, 128])
    focal_crop, princpt_crop = virtual_camera(HW)
    focal, princpt = camera_to_image(box[None], HW)
    assert affine @ (*princpt[0], 1) == pytest.approx(princpt_crop)
    assert affine[:, :2] @ focal[0] == pytest.approx(focal_crop)


def test_outside_the_image_is_black_and_an_existing_array_is_filled():
    image = np.full((60, 60, 3), 200, dtype=np.uint8)
    out = np.full((2, *HW, 3), 7, dtype=np.uint8)
    crop = warp(image, crop_affine((-75, -100, 150, 200), HW), HW, out=out[1])
    assert crop is out[1] or np.shares_memory(crop, out[1])
    assert (out[0] == 7).all() and (out[1, :60, :44] == 0).all() and (out[1, 68:100, 52:80] == 200).all()


def test_gain_multiplies_channels_and_clips():
    crop = np.array([[[100, 200, 250]]], dtype=np.uint8).repeat(4, axis=0)
    apply_gain(crop, np.array([0.8, 1.0, 1.2]))
    assert (crop == [80, 200, 255]).all()


def test_a_stored_window_s_affine_reaches_the_same_crop_pixel():
    window = Window(left=40, top=30, width=200, height=120, stored_width=80, stored_height=50)
    sample = Sample(key="a", dataset="d", image_path="a.jpg", width=400, height=300, instances=(), window=window)
    drawn = draw(AugmentConfig(), KEYS)
    affine_B23 = crop_affines(np.tile([[60.0, 50.0, 75.0, 100.0]], (40, 1)), HW, drawn)
    stored_B23 = onto_stored(affine_B23, np.full(40, window_record(sample)))
    stored_2 = np.array([13.0, 21.0])
    photograph_2 = np.array(window.origin) + stored_2 * window.step
    points = [apply_affine(a, np.tile(p, (40, 1, 1))) for a, p in ((stored_B23, stored_2), (affine_B23, photograph_2))]
    assert np.abs(points[0] - points[1]).max() < 1e-9
    whole = np.full(40, window_record(sample.model_copy(update={"window": None})))
    assert (onto_stored(affine_B23, whole) == affine_B23).all()


@pytest.mark.parametrize(
    "config", [AugmentConfig(), AugmentConfig(rotation_deg=10, shift=0.1), AugmentConfig(rotation_deg=90), AugmentConfig.off()]
)
def test_the_widest_view_holds_every_drawn_one_and_is_no_wider_than_some(config):
    box = np.array([[100.0, 80.0, 75.0, 100.0]])
    keys = np.array([stable_key("widest", i) for i in range(4000)], dtype=np.uint64)
    affine_B23 = crop_affines(np.repeat(box, len(keys), axis=0), HW, draw(config, keys))
    corners_42 = np.array([[0, 0], [HW[1], 0], [0, HW[0]], [HW[1], HW[0]]], dtype=np.float64)
    points_B42 = (corners_42 - affine_B23[:, None, :, 2]) @ np.linalg.inv(affine_B23[:, :, :2]).transpose(0, 2, 1)
    low_2, high_2 = points_B42.min((0, 1)), points_B42.max((0, 1))
    (widest_4,) = widest(box, config)
    assert (widest_4[:2] <= low_2 + 1e-9).all() and (widest_4[2:] >= high_2 - 1e-9).all()
    assert (high_2 - low_2 > 0.93 * (widest_4[2:] - widest_4[:2])).all()
