"""Augmentation tested by projecting: a joint stays on its pixel, a mesh on its person, 3D joints on the posed skeleton.

Every expectation is worked out here from the pixels, from the photographing camera or from forward kinematics of its own, never from the
code under test. Shapes: B = 1, J = 33, V vertices, F faces.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from engine.body.smpl import Body
from engine.loading.augmentation import Augmentation, AugmentConfig
from engine.loading.batches import BatchStream, LoadingConfig
from engine.loading.crops import apply_gain, crop_affines, warp
from engine.loading.instances import INSTANCE, fill_instance
from engine.loading.sources import SourceConfig
from engine.loading.targets import build_targets, fit_joints
from schemas.crops import CropSpec
from schemas.sample import Instance
from schemas.skeletons import POSE2POSE33, SMPL24, SMPL_PARENTS

HW, HM, WH = (256, 192), (8, 8, 6), (400, 300)
PX_PER_CELL = np.array([192 / 6, 256 / 8])
MIRROR = np.diag([-1.0, 1.0, 1.0])
PELVIS = POSE2POSE33.index("Pelvis")
MARKED = ("L_Wrist", "R_Knee", "Neck")
"""One joint a colour channel; not on a line, so a mirrored picture shows."""


@st.composite
def augmentations(draw: Callable) -> Augmentation:
    """Flip, rotation, scale, shift and colour in every combination, each off about as often as at full strength."""

    def numbers(off: float, low: float, high: float, count: int) -> np.ndarray:
        value = st.one_of(st.just(off), st.just(low), st.just(high), st.floats(low, high))
        return np.array(draw(st.lists(value, min_size=count, max_size=count)))

    degrees = numbers(0, -60, 60, 1)
    flip = np.array([draw(st.booleans())])
    return Augmentation(numbers(1, 0.75, 1.25, 1), np.deg2rad(degrees), flip, numbers(1, 0.8, 1.2, 3)[None], numbers(0, -0.1, 0.1, 2)[None])


every_augmentation = given(seed=st.integers(0, 40), augmentation=augmentations())
some = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


def record(person: Instance, body: Body) -> np.ndarray:
    rows = np.zeros(1, dtype=INSTANCE)
    fill_instance(rows[0], person, WH, CropSpec(*HW), "full")
    fit_joints(rows, body)
    return rows


def augmented(rows: np.ndarray, augmentation: Augmentation) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The affine (2, 3) and the targets of one person."""
    affine_B23 = crop_affines(rows["box"], HW, augmentation)
    return affine_B23[0], {name: values[0] for name, values in build_targets(rows, affine_B23, augmentation, HW, HM).items()}


def slot(joint: str, flip: bool) -> int:
    """Where the mirrored picture's targets hold this joint: a left wrist becomes somebody's right wrist."""
    swapped = {"L_": "R_", "R_": "L_"}.get(joint[:2]) if flip else None
    return POSE2POSE33.joints.index(swapped + joint[2:] if swapped else joint)


def blobs(places_32: np.ndarray, peak: float) -> np.ndarray:
    """An image (h, w, 3) with a smooth spot at each place, a channel each."""
    y, x = np.mgrid[: WH[1], : WH[0]]
    return np.stack([peak * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * 2.5**2)) for u, v in places_32], axis=2).round().astype(np.uint8)


def centre(channel: np.ndarray) -> np.ndarray | None:
    """Centre of a spot (x, y) px, or None when it is not wholly in the picture."""
    weight = np.where(channel > 8, channel, 0).astype(np.float64)
    edge = weight[[0, -1]].any() or weight[:, [0, -1]].any()
    if edge or not weight.any():
        return None
    v, u = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return np.array([(weight * u).sum(), (weight * v).sum()]) / weight.sum()


@some
@every_augmentation
def test_a_joint_stays_on_its_pixel(make_person, open_body, seed: int, augmentation: Augmentation) -> None:
    person = make_person(seed)
    rows = record(person, open_body)
    affine_23, target = augmented(rows, augmentation)
    where = np.array([person.joints_img[SMPL24.index(joint)] for joint in MARKED])
    crop = warp(blobs(where, 200), affine_23, HW)
    apply_gain(crop, augmentation.colour_B3[0])
    for channel, joint in enumerate(MARKED):
        found = centre(crop[:, :, channel])
        if found is None:
            continue
        at = slot(joint, bool(augmentation.flip_B[0]))
        assert np.abs(target["joint_img"][at, :2] * PX_PER_CELL - found).max() < 0.25
        assert np.abs(target["smpl_joint_img"][at, :2] * PX_PER_CELL - found).max() < 0.25
        assert target["joint_trunc"][at] == target["joint_valid"][at] == 1


def test_a_joint_stays_on_its_pixel_on_the_way_from_shard_to_batch(make_person, open_body, shard_sets, tmp_path: Path) -> None:
    """The same through tar, JPEG, decoder and threads, with what the default augmentation draws and a shift."""
    people = [make_person(100 + n) for n in range(24)]
    items = []
    for n, person in enumerate(people):
        image = blobs(np.array([person.joints_img[SMPL24.index(joint)] for joint in MARKED]), 200)
        options = [cv2.IMWRITE_JPEG_QUALITY, 98, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        jpeg = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), options)[1].tobytes()
        items.append((shard_sets.sample("spots", n, [person]), jpeg))
    url = shard_sets.write(tmp_path, "spots", [items])
    config = LoadingConfig(mocap=(SourceConfig(url=url),), batch_size=12, augment=AugmentConfig(shift=0.05))
    checked = {True: 0, False: 0}
    with BatchStream(config, CropSpec(*HW), open_body) as stream:
        for batch in [*stream.batches(0), *stream.batches(1)]:
            for name, image, target in zip(batch["ids"], batch["image"].numpy(), batch["joint_img"].numpy(), strict=True):
                person = people[int(name.split("/")[1].split("-")[1])]
                before = np.array([person.joints_img[SMPL24.index(joint)] for joint in MARKED])
                after = [centre(channel) for channel in image]
                if any(place is None for place in after):
                    continue
                flip = bool(np.sign(turning(before)) != np.sign(turning(np.array(after))))
                for joint, place in zip(MARKED, after, strict=True):
                    assert np.abs(target[slot(joint, flip), :2] * PX_PER_CELL - place).max() < 0.5, (name, joint, flip)
                checked[flip] += 1
    assert min(checked.values()) >= 5


def turning(triangle_32: np.ndarray) -> float:
    """Twice the signed area of a triangle; its sign says which way round it goes."""
    (ax, ay), (bx, by) = triangle_32[1] - triangle_32[0], triangle_32[2] - triangle_32[0]
    return float(ax * by - ay * bx)


def silhouette(points_V2: np.ndarray, faces_F3: np.ndarray, wh: tuple[int, int]) -> np.ndarray:
    """Mask (h, w) of a projected mesh, drawn to 1/16 px."""
    mask = np.zeros((wh[1], wh[0]), np.uint8)
    for triangle in np.round(points_V2[faces_F3] * 16).astype(np.int32):
        cv2.fillConvexPoly(mask, triangle, 255, shift=4)
    return mask


def pinhole(points_V3: np.ndarray, focal: np.ndarray, princpt: np.ndarray) -> np.ndarray:
    return points_V3[:, :2] / points_V3[:, 2:] * focal + princpt


@settings(parent=some, max_examples=12)
@every_augmentation
def test_a_mesh_stays_on_its_person(make_person, open_body, seed: int, augmentation: Augmentation) -> None:
    """The target's mesh, before the photographing camera as the crop saw it, covers the warped picture of the mesh.

    A crop that is mirrored and turned about the image's own axis is the picture of the mirrored and turned person, by a camera with the
    zoomed focal length and the principal point carried along.
    """
    person = make_person(seed)
    rows = record(person, open_body)
    affine_23, target = augmented(rows, augmentation)
    focal, princpt = np.array(person.camera.focal), np.array(person.camera.princpt)
    flip, angle = bool(augmentation.flip_B[0]), -float(augmentation.rotation_B[0])
    move_33 = Rotation.from_rotvec([0, 0, angle]).as_matrix() @ (MIRROR if flip else np.eye(3))

    def posed(pose_72: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            out = open_body(torch.as_tensor(pose_72, dtype=torch.float32)[None], torch.tensor([person.smpl.betas]))
        return out.vertices_BV3[0].double().numpy(), out.joints_B243[0, 0].double().numpy()

    vertices, pelvis = posed(np.array(person.smpl.pose))
    taken = silhouette(pinhole(vertices + person.smpl.transl, focal, princpt), open_body.faces, WH)
    expected = warp(np.repeat(taken[:, :, None], 3, axis=2), affine_23, HW)[:, :, 0] > 127

    again, again_pelvis = posed(target["smpl_pose"])
    again += move_33 @ (pelvis + person.smpl.transl) - again_pelvis
    zoom = np.sqrt(abs(np.linalg.det(affine_23[:, :2])))
    drawn = silhouette(pinhole(again, focal * zoom, affine_23 @ (*princpt, 1.0)), open_body.faces, (HW[1], HW[0])) > 0
    inside = warp(np.full((WH[1], WH[0], 3), 255, np.uint8), affine_23, HW)[:, :, 0] > 127  # what the photograph shows at all
    union = (expected | drawn) & inside
    assert union.sum() > 1000
    assert (expected & drawn & inside).sum() / union.sum() > 0.94  # what is missing is the outline, which warping blurs


def forward_kinematics(pose_72: np.ndarray, rest_243: np.ndarray) -> np.ndarray:
    """Joints (24, 3) of a skeleton about its pelvis: a chain of rotations, nothing of the engine."""
    turns = Rotation.from_rotvec(pose_72.reshape(24, 3)).as_matrix()
    whole, joints = [turns[0]], [np.zeros(3)]
    for child in range(1, 24):
        parent = SMPL_PARENTS[child]
        joints.append(joints[parent] + whole[parent] @ (rest_243[child] - rest_243[parent]))
        whole.append(whole[parent] @ turns[child])
    return np.array(joints)


@settings(parent=some, max_examples=60)
@every_augmentation
def test_the_augmented_pose_of_the_mirrored_skeleton_gives_the_augmented_joints(
    make_person, open_body, seed: int, augmentation: Augmentation
) -> None:
    """Exact for bones mirrored left to right; the loader's own 3D targets are those very joints."""
    person = make_person(seed)
    _, target = augmented(record(person, open_body), augmentation)
    flip = bool(augmentation.flip_B[0])
    with torch.no_grad():
        rest_243 = open_body(torch.zeros(1, 72), torch.tensor([person.smpl.betas])).joints_B243[0].double().numpy()
    names = SMPL24.joints
    mirrored = [names.index({"L_": "R_", "R_": "L_"}.get(n[:2], n[:2]) + n[2:]) for n in names]
    found = forward_kinematics(target["smpl_pose"].astype(np.float64), (rest_243 @ MIRROR)[mirrored] if flip else rest_243)

    before = forward_kinematics(np.array(person.smpl.pose), rest_243)
    turn = Rotation.from_rotvec([0, 0, -float(augmentation.rotation_B[0])]).as_matrix()
    expected = ((before @ MIRROR)[mirrored] if flip else before) @ turn.T
    assert np.abs(found - expected).max() < 1e-5

    cam_243 = np.array(person.joints_cam) - person.joints_cam[0]
    for joint in ("L_Knee", "R_Wrist", "Neck"):
        moved = turn @ (MIRROR if flip else np.eye(3)) @ cam_243[names.index(joint)]
        for name in ("joint_cam", "smpl_joint_cam"):
            assert np.abs(target[name][slot(joint, flip)] - moved).max() < 1e-5


@some
@every_augmentation
def test_depth_and_shape_do_not_know_of_the_augmentation(make_person, open_body, seed: int, augmentation: Augmentation) -> None:
    rows = record(make_person(seed), open_body)
    (_, plain), (_, target) = augmented(rows, Augmentation.identity(1)), augmented(rows, augmentation)
    flip = bool(augmentation.flip_B[0])
    for joint in ("L_Ankle", "R_Shoulder", "Pelvis"):
        at = POSE2POSE33.index(joint), slot(joint, flip)
        for name in ("joint_img", "smpl_joint_img", "joint_cam", "smpl_joint_cam"):
            assert target[name][at[1], 2] == pytest.approx(plain[name][at[0], 2], abs=1e-5)
    assert (target["smpl_shape"] == plain["smpl_shape"]).all()
    norms = [np.linalg.norm(t["smpl_joint_cam"], axis=1) for t in (plain, target)]
    assert np.allclose(np.sort(norms[0]), np.sort(norms[1]), atol=1e-5)  # nobody grows or shrinks in 3D


@some
@given(gain=st.lists(st.floats(0.8, 1.2), min_size=3, max_size=3), seed=st.integers(0, 1000))
def test_colour_is_a_gain_a_channel_clipped_to_white(gain: list[float], seed: int) -> None:
    crop = np.random.default_rng(seed).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    expected = np.clip(crop.astype(np.float64) * gain, 0, 255)
    apply_gain(crop, np.array(gain))
    assert np.abs(crop - expected).max() <= 0.5 + 4e-5  # a product of up to 306 in single precision
