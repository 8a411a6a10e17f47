"""Flip averaging: a person predicted from the crop and from its mirror image, and how far the two predictions lie apart.

Both crops have their principal point at x = W/2, where pixel centres are integers, so the mirror image is x -> W - x: the
mirror of the training augmentation, one pixel to the right of an array read backwards. Then the mirrored person's camera is the
virtual camera itself, and un-mirroring a prediction is exact: left and right rotations change places, axis-angle (a, b, c) becomes
(a, -b, -c), a translation (x, y, z) becomes (-x, y, z). Betas stay as they are: SMPL's and the open body's shape spaces are symmetric
but for what their artists left (below half a millimetre in the open body's joints).

Shape suffixes: N crops, J joints of `pose2pose33`.
"""

from __future__ import annotations

import numpy as np
import roma
import torch
from torch import Tensor

from engine.annotators.base import Prediction
from engine.body.rotations import flip_pose_aa
from schemas.skeletons import POSE2POSE33

_MIRROR_X = np.float32([-1, 1, 1])
_PELVIS = POSE2POSE33.index("Pelvis")
_FLIP = list(POSE2POSE33.flip_permutation)


def mirror_images(images_N3HW: Tensor) -> Tensor:
    """Crops mirrored by x -> W - x. Column 0 would be the photograph's column W, which a crop does not have: it repeats W - 1."""
    return torch.cat((images_N3HW[..., -1:], images_N3HW[..., 1:].flip(-1)), dim=-1)


def mirror_prediction(out: Prediction) -> Prediction:
    """The prediction of the mirrored persons. The latent is kept: a prior has no mirror image of it."""
    return Prediction(flip_pose_aa(out.pose_N72), out.betas_N10, out.cam_transl_N3 * _MIRROR_X, out.latent_N32)


def mirror_joints(joints_NJ3: np.ndarray) -> np.ndarray:
    """Joints of `pose2pose33`, camera frame, of the mirrored persons."""
    return joints_NJ3[:, _FLIP] * _MIRROR_X


def average(direct: Prediction, mirrored: Prediction, disagreement_N: np.ndarray) -> Prediction:
    """The mean of two predictions of the same persons, the second one un-mirrored already.

    Every joint's rotation is the chordal mean on SO(3), which of two rotations is the middle of the shorter way between them; betas and
    translation are arithmetic means. The latent is that of `direct`: means of latents do not decode to means of poses.
    """
    return Prediction(
        mean_rotation(direct.pose_N72.reshape(-1, 24, 3), mirrored.pose_N72.reshape(-1, 24, 3)).reshape(-1, 72),
        (direct.betas_N10 + mirrored.betas_N10) / 2,
        (direct.cam_transl_N3 + mirrored.cam_transl_N3) / 2,
        direct.latent_N32,
        disagreement_N,
    )


def mean_rotation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Chordal mean (..., 3) of axis-angle rotations (..., 3), rad, same dtype. Half a turn apart every middle is as good; one is given."""
    quaternions = [roma.rotvec_to_unitquat(torch.from_numpy(x).double()) for x in (a, b)]
    near = torch.where((quaternions[0] * quaternions[1]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    middle = torch.nn.functional.normalize(quaternions[0] + near * quaternions[1], dim=-1)
    return roma.unitquat_to_rotvec(middle).numpy().astype(a.dtype)


def disagreement(direct_NJ3: np.ndarray, mirrored_NJ3: np.ndarray) -> np.ndarray:
    """Mean distance (N,), m, between two sets of `pose2pose33` joints, each moved to its own pelvis; the second un-mirrored already."""
    apart_NJ3 = (direct_NJ3 - direct_NJ3[:, _PELVIS, None]) - (mirrored_NJ3 - mirrored_NJ3[:, _PELVIS, None])
    return np.linalg.norm(apart_NJ3, axis=2).mean(1)
