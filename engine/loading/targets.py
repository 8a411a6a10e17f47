"""What a batch is supervised with: targets and masks for the seven losses, after augmentation. Pure, and vectorised over the batch.

Heat-map units: x in [0, hm W), y in [0, hm H), z in [0, hm D), where z spans +-1 m about the pelvis. Camera-frame joints are relative to
the person's own pelvis, metres. In-plane rotation and mirror act on crop, joints, SMPL root and pose alike; scale and shift on 2D alone.
A mirrored person is given the fit's joints mirrored, not the joints of the mirrored pose: bodies are not symmetric to the millimetre.
Source: Pose2Pose's preprocessing. Shapes: B instances, J = 33 joints of POSE2POSE33.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

from engine.body.cameras import project
from engine.body.rotations import axis_angle_to_matrix, flip_pose_aa, matrix_to_axis_angle
from engine.body.smpl import GENDERS, Body
from engine.loading.augmentation import Augmentation
from engine.loading.crops import apply_affine
from schemas.skeletons import POSE2POSE33

DEPTH_RANGE_M = 1.0
"""Half of the depth the heat-map spans, metres."""
BETA_LIMIT = 3.0
"""A fit with any |beta| above it has failed in shape; its shape target becomes the mean shape."""
NEAREST_M = 0.05
"""A joint nearer than this to the camera plane has no projection."""
FIT_BATCH = 32

GenderedShape = Literal["joints_only", "betas_too", "neutral"]
"""What a fit to a male or female body teaches a network of neutral bodies; see `settle_gender`."""

_NEUTRAL = GENDERS.index("neutral")
_PELVIS = POSE2POSE33.index("Pelvis")
_FLIP = np.array(POSE2POSE33.flip_permutation)


def settle_gender(rows_B: np.ndarray, rule: GenderedShape) -> None:
    """Apply a rule to the INSTANCE records with a gendered fit (3DPW's), in place, before `fit_joints`. Neutral fits stay as they are.

    How the paper's f read 3DPW's betas on its neutral body is not published, so it is a choice:
    - 'joints_only': the gendered body makes the joints; they and the pose are supervised, the betas are not, because the same ten numbers
      are another shape on another body. The default.
    - 'betas_too': the same, and the gendered betas are the shape's target: what Pose2Pose's loader does with a fit that names a gender.
    - 'neutral': pose and betas pose the neutral body, as VIBE and METRO train; alone it needs no gendered SMPL files. Translations
      are not adjusted to the neutral pelvis, millimetres at metres of distance.
    """
    gendered_B = (rows_B["gender"] != _NEUTRAL) & (rows_B["has_fit"] > 0)
    if rule == "joints_only":
        rows_B["shape_valid"][gendered_B] = 0
    elif rule == "neutral":
        rows_B["gender"][gendered_B] = _NEUTRAL


def fit_joints(rows_B: np.ndarray, body: Body) -> None:
    """Fill `fit_cam` of the INSTANCE records that have a fit and lack it: joints of the posed mesh, camera frame, not augmented.

    A matrix product rounds a row by where it stands in the batch. So the body runs on batches of one size in which every person
    has a place of its own, derived from its pose: the same person has the same joints to the last bit in whatever company.
    """
    missing = (rows_B["has_fit"] > 0) & ~rows_B["fitted"]
    device = body.v_template.device
    for number, gender in enumerate(GENDERS):
        waiting = np.flatnonzero(missing & (rows_B["gender"] == number))
        while len(waiting):
            place = np.ascontiguousarray(rows_B["pose"][waiting]).view(np.uint32).sum(axis=1) % FIT_BATCH
            place, first = np.unique(place, return_index=True)
            chosen, waiting = waiting[first], np.delete(waiting, first)
            pose, betas = torch.zeros(FIT_BATCH, 72), torch.zeros(FIT_BATCH, 10)
            pose[place], betas[place] = (torch.from_numpy(rows_B[name][chosen]) for name in ("pose", "betas"))
            with torch.no_grad():
                joints_BJ3 = body.joints(pose.to(device), betas.to(device), POSE2POSE33.name, gender).cpu().numpy()
            rows_B["fit_cam"][chosen] = joints_BJ3[place] + rows_B["transl"][chosen][:, None]
    rows_B["fitted"] |= missing


def build_targets(
    rows_B: np.ndarray, affine_B23: np.ndarray, augmentation: Augmentation, crop_hw: tuple[int, int], hm_dhw: tuple[int, int, int]
) -> dict[str, np.ndarray]:
    """Targets and masks (float32) of INSTANCE records whose `fit_cam` is filled in.

    joint_img, smpl_joint_img (B, J, 3) heat-map units; joint_cam, smpl_joint_cam (B, J, 3) m; joint_valid (annotated in the image),
    joint_trunc (and in the crop), joint_cam_valid, smpl_joint_valid, smpl_joint_trunc (B, J);
    is_3d, smpl_shape_valid (B,); smpl_pose, smpl_pose_valid (B, 72) rad; smpl_shape (B, 10). Masks are 0 or 1, but for those of the fit
    (smpl_*), which are 0 or its `fit_weight`: a fit of half the weight is half as much of every loss.
    """
    has_fit_B = rows_B["has_fit"]
    fit_cam_BJ3 = rows_B["fit_cam"]
    in_front_BJ = (fit_cam_BJ3[:, :, 2] > NEAREST_M) & (has_fit_B[:, None] > 0)
    safe_BJ3 = np.where(in_front_BJ[:, :, None], fit_cam_BJ3, np.float32([0, 0, 1]))
    fit_img_BJ2 = project(safe_BJ3, rows_B["focal"], rows_B["princpt"])
    fit_rel_BJ3 = (fit_cam_BJ3 - fit_cam_BJ3[:, _PELVIS : _PELVIS + 1]) * has_fit_B[:, None, None]

    cam_BJ3 = rows_B["joints_cam"] * rows_B["is_3d"][:, None, None]
    joint_img, joint_trunc, joint_valid, joint_cam = _joint_targets(
        rows_B["joints_img"], cam_BJ3, rows_B["joints_valid"], affine_B23, augmentation, crop_hw, hm_dhw
    )
    fit_img, fit_trunc, fit_valid, fit_cam = _joint_targets(
        fit_img_BJ2, fit_rel_BJ3, in_front_BJ.astype(np.float32), affine_B23, augmentation, crop_hw, hm_dhw
    )
    weight_B1 = rows_B["fit_weight"][:, None]
    plausible_B1 = (np.abs(rows_B["betas"]) <= BETA_LIMIT).all(1, keepdims=True)
    return {
        "joint_img": joint_img,
        "joint_trunc": joint_trunc,
        "joint_valid": joint_valid,
        "joint_cam": joint_cam,
        "joint_cam_valid": _swap_sides(rows_B["joints_cam_valid"], augmentation.flip_B),
        "is_3d": rows_B["is_3d"].copy(),
        "smpl_joint_img": fit_img,
        "smpl_joint_trunc": fit_trunc * weight_B1,
        "smpl_joint_cam": fit_cam,
        "smpl_joint_valid": np.repeat(has_fit_B[:, None] * weight_B1, fit_valid.shape[1], axis=1),
        "smpl_pose": augment_pose(rows_B["pose"], augmentation) * has_fit_B[:, None],
        "smpl_pose_valid": np.repeat(has_fit_B[:, None] * weight_B1, 72, axis=1),
        "smpl_shape": rows_B["betas"] * plausible_B1 * rows_B["shape_valid"][:, None],
        "smpl_shape_valid": rows_B["shape_valid"] * rows_B["fit_weight"],
    }


def augment_pose(pose_B72: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Axis-angle pose (B, 72) of the person as the augmented crop shows it: mirrored, then turned about the optical axis."""
    pose_B72 = np.where(augmentation.flip_B[:, None], flip_pose_aa(pose_B72), pose_B72)
    turned = np.flatnonzero(augmentation.rotation_B)
    if len(turned):
        turn_B33 = torch.from_numpy(turn_about_z(augmentation.rotation_B[turned]))
        root_B33 = turn_B33 @ axis_angle_to_matrix(torch.from_numpy(pose_B72[turned, :3].astype(np.float64)))
        pose_B72[turned, :3] = matrix_to_axis_angle(root_B33).numpy()
    return pose_B72


def turn_about_z(angle_B: np.ndarray) -> np.ndarray:
    """(B, 3, 3) float64: the camera-frame rotation by minus the angle (x right, y down) that goes with an augmentation's rotation."""
    cos, sin, zero = np.cos(angle_B), np.sin(angle_B), np.zeros_like(angle_B)
    return np.stack([cos, sin, zero, -sin, cos, zero, zero, zero, zero + 1], axis=-1).reshape(-1, 3, 3)


def _joint_targets(img_BJ2, cam_BJ3, valid_BJ, affine_B23, augmentation: Augmentation, crop_hw, hm_dhw):
    """(image targets (B, J, 3), truncation mask (B, J), valid (B, J), camera-frame targets (B, J, 3)) of one set of joints."""
    (H, W), (hm_d, hm_h, hm_w) = crop_hw, hm_dhw
    flip_B = augmentation.flip_B
    crop_BJ2 = apply_affine(affine_B23, img_BJ2)
    img_BJ3 = np.empty((*crop_BJ2.shape[:2], 3), dtype=np.float32)
    img_BJ3[:, :, :2] = crop_BJ2 * np.float32([hm_w / W, hm_h / H])
    img_BJ3[:, :, 2] = (cam_BJ3[:, :, 2] / DEPTH_RANGE_M + 1) / 2 * hm_d
    cam_BJ3 = np.where(flip_B[:, None, None], cam_BJ3 * np.float32([-1, 1, 1]), cam_BJ3)
    cam_BJ3 = cam_BJ3 @ turn_about_z(augmentation.rotation_B).transpose(0, 2, 1)
    img_BJ3, valid_BJ, cam_BJ3 = (_swap_sides(values, flip_B) for values in (img_BJ3, valid_BJ, cam_BJ3))
    inside_BJ = ((img_BJ3 >= 0) & (img_BJ3 < np.float32([hm_w, hm_h, hm_d]))).all(2)
    return img_BJ3 * valid_BJ[:, :, None], valid_BJ * inside_BJ, valid_BJ, cam_BJ3.astype(np.float32)


def _swap_sides(values: np.ndarray, flip_B: np.ndarray) -> np.ndarray:
    return np.where(flip_B.reshape(-1, *(1,) * (values.ndim - 1)), values[:, _FLIP], values)
