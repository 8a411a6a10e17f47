"""What the JSON layouts of MoCap sets share: a z-up world in millimetres, fits in it in metres, boxes from joints."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from engine.synthetic.camera import PinholeCamera
from engine.synthetic.shots import Shot, TruePerson

Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""From this package's y-up world to a z-up one."""


def world_mm(joints_J3: np.ndarray) -> list[list[float]]:
    """Joints of the y-up world, metres, in the z-up world, millimetres."""
    return (joints_J3 @ Z_UP.T * 1000).tolist()


def fit_record(pose_72: np.ndarray, betas_10: np.ndarray, transl_3: np.ndarray, root_3: np.ndarray) -> dict[str, Any]:
    """SMPL parameters of the y-up world as a fit in the z-up world, as NeuralAnnot's files hold it."""
    pose = pose_72.copy()
    pose[:3] = Rotation.from_matrix(Z_UP @ Rotation.from_rotvec(pose[:3]).as_matrix()).as_rotvec()
    return {"pose": pose.tolist(), "shape": betas_10.tolist(), "trans": (Z_UP @ (root_3 + transl_3) - root_3).tolist()}


def extrinsics(camera: PinholeCamera, place: bool = False) -> dict[str, Any]:
    """R and t (mm) from the z-up world; with `place` t is where the camera stands, as an older converter wrote it."""
    t_mm = (Z_UP @ camera.position if place else camera.translation) * 1000
    return {"R": (camera.rotation @ Z_UP.T).tolist(), "t": t_mm.tolist()}


def joints_box(pixels_J2: np.ndarray, scale: float = 1.0) -> list[float]:
    """x, y, width and height of the box around pixels, its sides times `scale` about its centre."""
    low, high = pixels_J2.min(0), pixels_J2.max(0)
    return np.concatenate([(low + high) / 2 - (high - low) * scale / 2, (high - low) * scale]).tolist()


def whole_person(shot: Shot, person: int, names: tuple[str, ...], annotation_id: str | None = None) -> TruePerson:
    """A person of whom MoCap knows every joint, inside the picture or not."""
    pixels, points = shot.joints_img(person, names), shot.joints_cam(person, names)
    return TruePerson(annotation_id, dict(zip(names, pixels, strict=True)), dict(zip(names, points, strict=True)))
