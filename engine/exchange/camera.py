"""Where a body without a camera stands: the translation that brings its joints onto annotated ones, in closed form.

Perspective is linear in the translation once the joints are known: with p = (u - cx) / fx, a joint (X, Y, Z) wants
t_x - p t_z = p Z - X, and so for y. Weighted least squares of these rows, as in SPIN's `estimate_translation`, here for a whole batch and
without solving a system: t_x and t_y are means given t_z.

Shape suffixes: N persons, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from engine.annotators.quality import SKELETON
from engine.body.cameras import camera_to_image
from engine.body.smpl import Body
from engine.errors import SampleRejected
from engine.loading.boxes import person_box
from schemas.crops import CropSpec
from schemas.sample import Instance, Sample
from schemas.skeletons import SKELETONS, shared_joints

CROP = CropSpec(256, 192)
"""f's crop: its virtual camera is the one that fits without a camera get, so that their rows look like f's."""
_MIN_SPREAD = 1e-8
"""Mean squared distance of the joints from their middle, over the focal length squared: half a pixel of a crop."""


def solve_translation(
    joints_NJ3: np.ndarray, image_NJ2: np.ndarray, weight_NJ: np.ndarray, focal_N2: np.ndarray, princpt_N2: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Translations (N, 3), m, and whether each is determined: at least two joints that do not fall into one place.

    joints_NJ3: of the bodies, m. image_NJ2: where they should be seen, px. weight_NJ: 0 where a joint is not annotated.
    """
    ray_NJ2 = np.where(weight_NJ[..., None] > 0, (image_NJ2 - princpt_N2[:, None]) / focal_N2[:, None], 0)
    wanted_NJ2 = ray_NJ2 * joints_NJ3[..., 2:] - joints_NJ3[..., :2]
    total_N = weight_NJ.sum(1)
    share_NJ1 = (weight_NJ / np.where(total_N > 0, total_N, 1)[:, None])[..., None]
    ray_N2, wanted_N2 = (share_NJ1 * ray_NJ2).sum(1), (share_NJ1 * wanted_NJ2).sum(1)
    off_NJ2 = ray_NJ2 - ray_N2[:, None]
    spread_N = (share_NJ1 * off_NJ2**2).sum((1, 2))
    solved_N = ((weight_NJ > 0).sum(1) >= 2) & (spread_N > _MIN_SPREAD)
    slope_N = (share_NJ1 * off_NJ2 * (wanted_NJ2 - wanted_N2[:, None])).sum((1, 2))
    depth_N = -slope_N / np.where(solved_N, spread_N, 1)
    return np.concatenate([wanted_N2 + ray_N2 * depth_N[:, None], depth_N[:, None]], 1), solved_N


def body_joints(body: Body, pose_N72: np.ndarray, betas_N10: np.ndarray) -> np.ndarray:
    """Joints (N, J, 3) of `pose2pose33`, m, float64, of bodies that are not placed."""
    with torch.inference_mode():
        joints = body.joints(torch.from_numpy(pose_N72.astype(np.float32)), torch.from_numpy(betas_N10.astype(np.float32)), SKELETON)
    return joints.double().numpy()


def annotated_joints(instances: Sequence[Instance]) -> tuple[np.ndarray, np.ndarray]:
    """The instances' 2D joints as `pose2pose33` (N, J, 2), px, and their weights (N, J): 1 where annotated."""
    count = len(SKELETONS[SKELETON])
    image_NJ2, weight_NJ = np.zeros((len(instances), count, 2)), np.zeros((len(instances), count))
    for n, instance in enumerate(instances):
        own, ours = (list(indices) for indices in shared_joints(instance.skeleton, SKELETON))
        image_NJ2[n, ours] = np.array(instance.joints_img, np.float64)[own]
        weight_NJ[n, ours] = np.array(instance.joints_valid, np.float64)[own]
    return image_NJ2, weight_NJ


def box_camera(sample: Sample, instance: Instance) -> tuple[np.ndarray, np.ndarray]:
    """(focal (2,), princpt (2,)), px of the photograph: the virtual camera of the person's crop. SampleRejected 'degenerate_box'."""
    return camera_to_image(person_box(instance.bbox_xywh, (sample.width, sample.height), CROP), CROP.hw)


def place_in_boxes(
    body: Body, pose_N72: np.ndarray, betas_N10: np.ndarray, samples: Sequence[Sample], instances: Sequence[Instance]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, SampleRejected]]:
    """Translation (N, 3), focal and princpt (N, 2) of bodies in the virtual cameras of their boxes, and by place who has none.

    'degenerate_box': nothing of the box is in the image; 'no_camera': fewer than two annotated joints, or all in one place.
    """
    n = len(instances)
    focal_N2, princpt_N2, problems = np.ones((n, 2)), np.zeros((n, 2)), {}
    for i, (sample, instance) in enumerate(zip(samples, instances, strict=True)):
        try:
            focal_N2[i], princpt_N2[i] = box_camera(sample, instance)
        except SampleRejected as problem:
            problems[i] = problem
    image_NJ2, weight_NJ = annotated_joints(instances)
    with np.errstate(invalid="ignore", over="ignore"):  # a body that is not finite is the rows' business
        transl_N3, solved_N = solve_translation(body_joints(body, pose_N72, betas_N10), image_NJ2, weight_NJ, focal_N2, princpt_N2)
    for i in np.flatnonzero(~solved_N).tolist():
        known = int((weight_NJ[i] > 0).sum())
        message = f"the file has no camera, and {known} annotated joints do not say where the person stands; at least 2 apart are needed"
        problems.setdefault(i, SampleRejected("no_camera", message))
    return transl_N3, focal_N2, princpt_N2, problems
