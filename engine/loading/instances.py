"""One person as a fixed-size record of arrays, so that a batch of any datasets becomes one numpy table.

This is where a dataset's supervision turns into masks: joints are mapped to Pose2Pose's 33 by name, what is missing has valid 0, and
nothing downstream asks where a person came from. Frames and units as in schemas/sample.py (stored-image px, camera-frame metres).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from engine.body.smpl import GENDERS
from engine.errors import SampleRejected
from engine.loading.boxes import person_box
from schemas.crops import CropSpec
from schemas.sample import Instance
from schemas.skeletons import POSE2POSE33, SKELETONS, shared_joints

Supervise = Literal["2d", "full"]
J = len(POSE2POSE33)

INSTANCE = np.dtype(
    [
        ("usable", "?"),  # False: no box inside the image, or no image; every mask below is 0 then
        ("image_wh", "i4", 2),  # as annotated, px
        ("box", "f8", 4),  # processed, xywh px
        ("joints_img", "f4", (J, 2)),  # px
        ("joints_valid", "f4", J),
        ("joints_cam", "f4", (J, 3)),  # relative to the person's own pelvis, m
        ("joints_cam_valid", "f4", J),  # also of joints outside the photograph
        ("is_3d", "f4"),
        ("has_fit", "f4"),  # whether pose, transl and camera below mean anything
        ("fit_weight", "f4"),  # what they count in the losses: 1, or what a release's quality says
        ("pose", "f4", 72),
        ("betas", "f4", 10),
        ("transl", "f4", 3),
        ("focal", "f4", 2),
        ("princpt", "f4", 2),
        ("gender", "i1"),  # index into GENDERS
        ("shape_valid", "f4"),
        ("fit_cam", "f4", (J, 3)),  # joints of the SMPL fit, camera frame, m; filled in by targets.fit_joints
        ("fitted", "?"),  # whether fit_cam has been filled in
    ],
    align=True,
)

_PELVIS = POSE2POSE33.index("Pelvis")
_HIPS = ("L_Hip", "R_Hip")


def fill_instance(
    row: np.void,
    instance: Instance,
    image_wh: tuple[int, int],
    crop: CropSpec,
    supervise: Supervise,
    pseudo_gt: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write an instance into a zeroed INSTANCE record.

    `pseudo_gt` (pose, betas, transl, focal, princpt of a release's row, and its fit_weight) takes the place of the instance's own SMPL fit
    and camera, and its 3D joints are left out: g is then supervised by 2D joints and the pseudo-GT, as Pose2Pose's public recipe is.
    `supervise='2d'` leaves all 3D out.
    """
    row["image_wh"] = image_wh
    try:
        row["box"] = person_box(instance.bbox_xywh, image_wh, crop)
    except SampleRejected:
        row["box"] = (0, 0, 1, 1)
        return
    row["usable"] = True
    row["fit_weight"] = 1
    _fill_joints(row, instance, with_3d=supervise == "full" and pseudo_gt is None)
    if supervise == "2d":
        return
    if pseudo_gt is not None:
        for name, value in pseudo_gt.items():
            row[name] = value
        row["has_fit"] = row["shape_valid"] = 1
    elif instance.smpl is not None and instance.camera is not None:
        smpl = instance.smpl
        row["pose"], row["betas"], row["transl"] = smpl.pose, smpl.betas, smpl.transl
        row["focal"], row["princpt"] = instance.camera.focal, instance.camera.princpt
        row["gender"] = GENDERS.index(smpl.gender)
        row["has_fit"], row["shape_valid"] = smpl.pose_valid, smpl.betas_valid


def mask_out(rows_B: np.ndarray, positions: np.ndarray | list[int]) -> None:
    """Take all supervision from these records: their image could not be used."""
    for name in ("usable", "joints_valid", "joints_cam_valid", "is_3d", "has_fit", "shape_valid"):
        rows_B[name][positions] = 0


def _fill_joints(row: np.void, instance: Instance, with_3d: bool) -> None:
    source, target = (list(indices) for indices in shared_joints(instance.skeleton, POSE2POSE33.name))
    skeleton = SKELETONS[instance.skeleton]
    img_S2, valid_S = np.array(instance.joints_img, dtype=np.float32), np.array(instance.joints_valid, dtype=np.float32)
    row["joints_img"][target] = img_S2[source]
    row["joints_valid"][target] = valid_S[source]
    names = ("Pelvis",) if "Pelvis" in skeleton else _HIPS
    centre = [skeleton.index(name) for name in names] if all(name in skeleton for name in names) else []
    if centre and names == _HIPS:
        row["joints_img"][_PELVIS] = img_S2[centre].mean(0)
        row["joints_valid"][_PELVIS] = valid_S[centre].prod()
    row["joints_img"] *= row["joints_valid"][:, None]
    if with_3d and instance.joints_cam is not None and centre:
        cam_S3 = np.array(instance.joints_cam, dtype=np.float32)
        row["joints_cam"][target] = cam_S3[source] - cam_S3[centre].mean(0)
        row["joints_cam_valid"][target] = row["is_3d"] = 1
