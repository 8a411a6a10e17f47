"""What the layouts of 3DPW share: genders, and which joints are in a picture.

Legend: J joints.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Gender = Literal["male", "female", "neutral"]
GENDERS: dict[str, Gender] = {
    "m": "male",
    "f": "female",
    "n": "neutral",
    "male": "male",
    "female": "female",
    "neutral": "neutral",
}
MAX_ROOT_M = 1.0
"""SMPL's rest pelvis is some 0.25 m from its origin: a translation further from the pelvis than this is of another body or frame."""


def gender_of(value: Any) -> Gender:
    """A body's gender by any of its published spellings. ValueError for another word."""
    try:
        return GENDERS[str(value).strip().lower()]
    except KeyError:
        raise ValueError(f"expected a gender of {', '.join(GENDERS)}, found {value!r}") from None


def project(cam_J3: np.ndarray, focal: Any, princpt: Any) -> np.ndarray:
    """Pixels (..., J, 2) of joints in the camera frame; NaN for those that are not in front of it."""
    depth = np.where(cam_J3[..., 2:] > 0, cam_J3[..., 2:], np.nan)
    return cam_J3[..., :2] / depth * focal + princpt


def in_picture(cam_J3: np.ndarray, image_J2: np.ndarray, image_wh: tuple[int, int]) -> np.ndarray:
    """Which joints are in front of the camera and inside the image, (J,) bool."""
    with np.errstate(invalid="ignore"):
        return (cam_J3[:, 2] > 0) & (image_J2 >= 0).all(1) & (image_J2 < image_wh).all(1)
