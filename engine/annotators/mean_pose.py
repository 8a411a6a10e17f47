"""The baseline every annotator has to beat: one pose for everybody, placed so that it fills the person's box.

Without a parameter file the pose is standing with the arms down, betas zero. With one, it is whatever a user found to be
the mean of a data set. It needs no checkpoint, so it also serves to try the fan-out and the release store.

Shape suffixes: N crops, V vertices.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from engine.annotators.base import AnnotatorIdentity, Prediction, no_latent
from engine.annotators.seen import Seen
from engine.body.body_files import arrays_digest, open_arrays
from engine.body.config import BodyConfig
from engine.config import Config
from engine.errors import ConfigError
from engine.storage import split
from schemas.crops import CropSpec
from schemas.records import canonical_json, sha256_hex
from schemas.skeletons import SMPL24

if TYPE_CHECKING:
    from engine.body.smpl import Body

NAME = "mean_pose"
_VERSION = 1
_BOX_MARGIN = 1.25
"""A processed box is this much larger than the person (Pose2Pose's rule)."""
_ARM_ANGLE_RAD = 1.2


class MeanPoseConfig(Config):
    """The mean-pose baseline."""

    body: BodyConfig = Field(default=BodyConfig(), description="body model the pose belongs to")
    params: str | None = Field(
        default=None, description='URL of a JSON file {"pose": 72 numbers (rad), "betas": 10 numbers}; null: standing, arms down'
    )
    crop_hw: tuple[int, int] = Field(default=(256, 192), description="height and width of the crop, px")


class MeanPoseAnnotator:
    """Predicts one pose and shape, centred in the crop and as large as its box says."""

    def __init__(self, config: MeanPoseConfig) -> None:
        """Raises MissingInput without the parameter file, ConfigError when it is not as described."""
        self.crop = CropSpec(*config.crop_hw)
        self._body_config = config.body
        self.pose_72, self.betas_10 = _read_params(config.params) if config.params else (arms_down_pose(), np.zeros(10, np.float32))

    @cached_property
    def body(self) -> Body:
        from engine.body.smpl import load_body  # torch: whoever only wants the identity does not wait for it

        return load_body(self._body_config)

    @cached_property
    def _body_digest(self) -> str:
        return arrays_digest(open_arrays()) if self._body_config.kind == "open" else self.body.digest

    @property
    def digest(self) -> str:
        content = {"kind": NAME, "version": _VERSION, "crop_hw": list(self.crop.hw), "body": self._body_digest}
        return sha256_hex(canonical_json(content | {"pose": self.pose_72.tolist(), "betas": self.betas_10.tolist()}))

    def identity(self) -> AnnotatorIdentity:
        return AnnotatorIdentity(NAME, self.digest, self._body_config.kind, self._body_digest, prior_digest=None)

    @cached_property
    def _cam_transl_3(self) -> np.ndarray:
        import torch  # as above

        from engine.body.cameras import virtual_camera

        with torch.no_grad():
            out = self.body(torch.from_numpy(self.pose_72)[None], torch.from_numpy(self.betas_10)[None])
        vertices_V3 = out.vertices_BV3[0].double().numpy()
        low, high = vertices_V3.min(0), vertices_V3.max(0)
        focal, _ = virtual_camera(self.crop.hw)
        sides = (high - low)[:2] / np.array(self.crop.hw[::-1])
        depth = float(focal[0]) * sides.max() * _BOX_MARGIN
        return np.array([*(-(low + high)[:2] / 2), depth - (low[2] + high[2]) / 2], np.float32)

    def predict(self, crops_NHW3: np.ndarray, seen: Seen | None = None) -> Prediction:
        n = len(crops_NHW3)
        return Prediction(*(np.tile(row, (n, 1)) for row in (self.pose_72, self.betas_10, self._cam_transl_3)), no_latent(n))


def arms_down_pose() -> np.ndarray:
    """Standing upright in the camera frame (y down), facing the camera, arms down: (72,) float32 axis-angle, rad."""
    pose = np.zeros((24, 3), np.float32)
    pose[SMPL24.index("Pelvis")] = (np.pi, 0, 0)
    pose[SMPL24.index("L_Shoulder")] = (0, 0, -_ARM_ANGLE_RAD)
    pose[SMPL24.index("R_Shoulder")] = (0, 0, _ARM_ANGLE_RAD)
    return pose.reshape(72)


def _read_params(url: str) -> tuple[np.ndarray, np.ndarray]:
    store, name = split(url)
    try:
        values: dict[str, Any] = json.loads(store.get(name))
        pose, betas = (np.asarray(values[key], np.float32) for key in ("pose", "betas"))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"mean pose {url}: expected a JSON object with 'pose' and 'betas': {error!r}") from None
    if pose.shape != (72,) or betas.shape != (10,) or not (np.isfinite(pose).all() and np.isfinite(betas).all()):
        raise ConfigError(f"mean pose {url}: expected 72 finite pose and 10 finite shape values, found {pose.shape} and {betas.shape}")
    return pose, betas
