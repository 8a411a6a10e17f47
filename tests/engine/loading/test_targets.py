import numpy as np
import pytest
import torch

from engine.body.rotations import axis_angle_to_matrix
from engine.body.smpl import BodyConfig, load_body
from engine.loading.augmentation import Augmentation, AugmentConfig, draw
from engine.loading.counter_rng import stable_key
from engine.loading.crops import crop_affines
from engine.loading.instances import INSTANCE, fill_instance
from engine.loading.targets import augment_pose, build_targets, fit_joints, settle_gender
from schemas.crops import CropSpec
from schemas.skeletons import POSE2POSE33

HW, HM, WH = (256, 192), (8, 8, 6), (400, 300)
B = 24
KEYS = np.array([stable_key("targets", i) for i in range(B)], dtype=np.uint64)
PX_PER_CELL = np.array([192 / 6, 256 / 8])
PELVIS = POSE2POSE33.index("Pelvis")
FLIP = list(POSE2POSE33.flip_permutation)


@pytest.fixture(scope="module")
def rows(make_person, open_body) -> np.ndarray:
    rows = np.zeros(B, dtype=INSTANCE)
    for i in range(B):
        fill_instance(rows[i], make_person(i, skeleton="smpl24" if i % 2 else "h36m17"), WH, CropSpec(*HW), "full")
    fit_joints(rows, open_body)
    return rows


def targets(rows: np.ndarray, augmentation: Augmentation) -> dict[str, np.ndarray]:
    return build_targets(rows, crop_affines(rows["box"], HW, augmentation), augmentation, HW, HM)


def test_shapes_and_types(rows):
    found = targets(rows, draw(AugmentConfig(), KEYS))
    shapes = {
        "joint_img": (33, 3), "joint_trunc": (33,), "joint_valid": (33,), "joint_cam": (33, 3), "joint_cam_valid": (33,),
        "is_3d": (), "smpl_joint_img": (33, 3),
        "smpl_joint_trunc": (33,), "smpl_joint_cam": (33, 3), "smpl_joint_valid": (33,), "smpl_pose": (72,), "smpl_pose_valid": (72,),
        "smpl_shape": (10,), "smpl_shape_valid": (),
    }  # fmt: skip
    assert {name: values.shape[1:] for name, values in found.items()} == shapes
    assert all(values.dtype == np.float32 and len(values) == B and np.isfinite(values).all() for values in found.values())


def test_heat_map_units_worked_out_by_hand():
    row = np.zeros(1, dtype=INSTANCE)
    row["box"], row["joints_valid"], row["is_3d"] = (100, 40, 192, 256), 1, 1
    row["joints_img"][0, 1], row["joints_cam"][0, 1] = (100 + 96, 40 + 64), (0.1, 0.2, 0.5)
    found = targets(row, Augmentation.identity(1))
    assert found["joint_img"][0, 1] == pytest.approx([3, 2, 6])
    assert found["joint_cam"][0, 1] == pytest.approx([0.1, 0.2, 0.5])


@pytest.mark.parametrize(
    "u, v, z, inside",
    [(0, 0, 0, 1), (191.9, 255.9, 0.99, 1), (192, 10, 0, 0), (10, 256, 0, 0), (-0.1, 9, 0, 0), (9, 9, 1, 0), (9, 9, -1.01, 0)],
)
def test_truncation_mask_covers_x_y_and_depth(u, v, z, inside):
    row = np.zeros(1, dtype=INSTANCE)
    row["box"], row["joints_valid"], row["is_3d"] = (0, 0, 192, 256), 1, 1
    row["joints_img"][0, 3], row["joints_cam"][0, 3, 2] = (u, v), z
    found = targets(row, Augmentation.identity(1))
    assert found["joint_trunc"][0, 3] == inside and found["joint_valid"][0, 3] == 1


def test_a_flip_moves_the_left_wrist_to_the_right_wrists_slot_mirrored(rows):
    plain = targets(rows, Augmentation.identity(B))
    flipped = targets(rows, Augmentation(np.ones(B), np.zeros(B), np.ones(B, bool), np.ones((B, 3)), np.zeros((B, 2))))
    left, right = POSE2POSE33.index("L_Wrist"), POSE2POSE33.index("R_Wrist")
    assert np.allclose(flipped["joint_img"][:, right, 0], 6 - plain["joint_img"][:, left, 0], atol=1e-4)
    assert np.allclose(flipped["joint_img"][:, right, 1:], plain["joint_img"][:, left, 1:], atol=1e-4)
    assert np.allclose(flipped["joint_cam"][:, right], plain["joint_cam"][:, left] * [-1, 1, 1], atol=1e-6)
    for name in ("joint_valid", "smpl_joint_valid"):
        assert (flipped[name] == plain[name][:, FLIP]).all()


def test_3d_joints_turn_with_the_picture(rows):
    """Seen from afar, a crop is a scaled orthographic view: pixels from the pelvis are metres from the pelvis times one number."""
    rows = rows.copy()
    zoom_px_per_m = 70.0
    rows["joints_img"] = 150 + zoom_px_per_m * rows["joints_cam"][:, :, :2]
    augmentation = draw(AugmentConfig(shift=0.1), KEYS)
    found = targets(rows, augmentation)
    scale_B = HW[0] / (rows["box"][:, 3] * augmentation.scale_B) * zoom_px_per_m
    offset_px = (found["joint_img"] - found["joint_img"][:, PELVIS : PELVIS + 1])[:, :, :2] * PX_PER_CELL
    expected = found["joint_cam"][:, :, :2] * scale_B[:, None, None]
    valid = found["joint_valid"].astype(bool)
    assert np.abs(offset_px - expected)[valid].max() < 0.01
    assert np.allclose(found["joint_img"][:, :, 2][valid], (found["joint_cam"][:, :, 2][valid] + 1) * 4, atol=1e-5)


def test_the_smpl_fit_lies_on_the_2d_joints_after_augmentation(rows):
    augmentation = draw(AugmentConfig(shift=0.1), KEYS)
    found = targets(rows, augmentation)
    shared = (found["joint_valid"] * found["smpl_joint_valid"]).astype(bool)
    shared[0::2] = False  # h36m17's joints are other points of the body; smpl24's are the same
    assert shared.any(axis=0).sum() == 14
    difference_px = np.abs(found["joint_img"] - found["smpl_joint_img"])[:, :, :2] * PX_PER_CELL
    assert difference_px[shared].max() < 0.05
    assert np.abs(found["joint_cam"] - found["smpl_joint_cam"])[shared].max() < 1e-5


def test_the_augmented_pose_poses_the_augmented_joints(rows, open_body):
    augmentation = draw(AugmentConfig(), KEYS)
    found = targets(rows, augmentation)
    with torch.no_grad():
        joints = open_body.joints(torch.from_numpy(found["smpl_pose"]), torch.from_numpy(rows["betas"]), "pose2pose33").numpy()
    relative = joints - joints[:, PELVIS : PELVIS + 1]
    error = np.abs(relative - found["smpl_joint_cam"]).max(axis=(1, 2))
    assert error[~augmentation.flip_B].max() < 1e-4
    assert error[augmentation.flip_B].max() < 0.02  # a body is not its own mirror image to the millimetre


def test_flip_then_rotation_of_the_root_as_matrices(rows):
    augmentation = draw(AugmentConfig(), KEYS)
    before, after = rows["pose"], augment_pose(rows["pose"], augmentation)
    mirror = np.diag([-1.0, 1, 1])
    for i in range(B):
        root = axis_angle_to_matrix(torch.from_numpy(before[i, :3].astype(np.float64))).numpy()
        if augmentation.flip_B[i]:
            root = mirror @ root @ mirror
        angle = -augmentation.rotation_B[i]
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        found = axis_angle_to_matrix(torch.from_numpy(after[i, :3].astype(np.float64))).numpy()
        assert np.abs(found - turn @ root).max() < 1e-5
        if not augmentation.flip_B[i]:
            assert (after[i, 3:] == before[i, 3:]).all()


def test_a_persons_fit_does_not_depend_on_the_company_to_the_last_bit(rows, open_body):
    rng = np.random.default_rng(0)
    for _ in range(5):
        some = rng.permutation(B)[: rng.integers(1, B)]
        alone = rows[some].copy()
        alone["fitted"], alone["fit_cam"] = False, 0
        fit_joints(alone, open_body)
        assert (alone["fit_cam"] == rows["fit_cam"][some]).all()


def test_an_impossible_shape_becomes_the_mean_shape_but_still_poses_the_mesh(rows, open_body):
    rows = rows[:2].copy()
    rows["betas"][0, 4] = 3.5
    rows["fitted"] = False
    fit_joints(rows, open_body)
    found = targets(rows, Augmentation.identity(2))
    assert not found["smpl_shape"][0].any() and found["smpl_shape"][1].any()
    assert (found["smpl_shape_valid"] == 1).all()
    with torch.no_grad():
        joints = open_body.joints(torch.from_numpy(rows["pose"]), torch.from_numpy(rows["betas"]), "pose2pose33").numpy()
    assert np.allclose(found["smpl_joint_cam"][0], joints[0] - joints[0, PELVIS], atol=1e-5)


def test_2d_persons_have_no_3d_target_and_keep_depth_in_the_middle(make_person):
    rows = np.zeros(3, dtype=INSTANCE)
    for i in range(3):
        fill_instance(rows[i], make_person(i, skeleton="coco17", with_3d=False), WH, CropSpec(*HW), "full")
    found = targets(rows, draw(AugmentConfig(), KEYS[:3]))
    for name in (
        "is_3d",
        "joint_cam",
        "smpl_joint_img",
        "smpl_joint_trunc",
        "smpl_joint_valid",
        "smpl_joint_cam",
        "smpl_pose",
        "smpl_pose_valid",
        "smpl_shape",
        "smpl_shape_valid",
    ):
        assert not found[name].any(), name
    assert found["joint_valid"].sum(axis=1).tolist() == [18, 18, 18] and found["joint_trunc"].any()
    assert (found["joint_img"][:, :, 2][found["joint_valid"] > 0] == 4).all()


def test_a_joint_behind_the_camera_has_no_image(rows):
    rows = rows[:1].copy()
    rows["fit_cam"][0, 5, 2] = -0.1
    found = targets(rows, Augmentation.identity(1))
    assert found["smpl_joint_trunc"][0, 5] == 0 and np.isfinite(found["smpl_joint_img"]).all()
    assert found["smpl_joint_valid"][0, 5] == 1


def gendered_rows(make_person) -> np.ndarray:
    """A woman's fit, a neutral one, and a woman of whom nothing but 2D is known."""
    rows = np.zeros(3, dtype=INSTANCE)
    for i, gender in enumerate(("female", "neutral", "female")):
        fill_instance(rows[i], make_person(i, gender=gender), WH, CropSpec(*HW), "2d" if i == 2 else "full")
    return rows


@pytest.mark.parametrize("rule, gender, shape_valid", [("joints_only", 2, 0), ("betas_too", 2, 1), ("neutral", 0, 1)])
def test_a_gendered_fit_teaches_what_the_rule_says(make_person, rule: str, gender: int, shape_valid: int) -> None:
    rows = gendered_rows(make_person)
    before = rows.copy()
    settle_gender(rows, rule)
    assert (rows["gender"][0], rows["shape_valid"][0]) == (gender, shape_valid)
    assert (rows[1:] == before[1:]).all()
    assert (rows["pose"] == before["pose"]).all() and (rows["has_fit"] == before["has_fit"]).all()


@pytest.mark.parametrize("rule", ["joints_only", "neutral"])
def test_joints_come_from_the_body_the_rule_names(make_person, real_data, tmp_path, rule: str) -> None:
    """Of files in SMPL's schema whose woman is 0.9 of the neutral body, the joints say which one was posed."""
    arrays = dict(np.load(real_data / "open_body" / "smpl_schema_6890.npz"))
    (tmp_path / "smpl").mkdir()
    for name, size in (("NEUTRAL", 1.0), ("FEMALE", 0.9)):
        scaled = {"v_template": (arrays["v_template"] * size).astype(np.float32), "posedirs": np.zeros_like(arrays["posedirs"])}
        np.savez(tmp_path / "smpl" / f"SMPL_{name}.npz", **arrays | scaled)
    small_smpl = load_body(BodyConfig(kind="smpl", smpl_dir=str(tmp_path)))
    rows = gendered_rows(make_person)[:1]
    rows["betas"] = 0
    settle_gender(rows, rule)
    fit_joints(rows, small_smpl)
    found = targets(rows, Augmentation.identity(1))
    with torch.no_grad():
        neutral = small_smpl.joints(torch.from_numpy(rows["pose"]), torch.zeros(1, 10), "pose2pose33").numpy()[0]
    expected = (neutral - neutral[PELVIS]) * (0.9 if rule == "joints_only" else 1.0)
    assert np.allclose(found["smpl_joint_cam"][0], expected, atol=1e-5)
    assert found["smpl_shape_valid"][0] == (rule == "neutral") and found["smpl_pose_valid"].all()


def test_a_fits_weight_is_in_its_masks_and_nowhere_else(rows):
    whole, light = rows.copy(), rows.copy()
    light["fit_weight"] *= np.float32(0.25)
    augmentation = Augmentation.identity(len(rows))
    one, quarter = targets(whole, augmentation), targets(light, augmentation)
    of_the_fit = {"smpl_joint_trunc", "smpl_joint_valid", "smpl_pose_valid", "smpl_shape_valid"}
    for name, values in one.items():
        assert np.array_equal(quarter[name], values * 0.25 if name in of_the_fit else values), name
    assert all(one[name].any() for name in of_the_fit)
