"""Sample and Instance: one image with all its annotated persons, as every loader makes them and every shard holds them.

Frames and units. Pixels: x right, y down, origin at the centre of the top-left pixel, in the image *as stored in the
shard* (EXIF orientation settled). Camera frame: x right, y down, z forward, metres. SMPL poses are axis-angle radians.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.records import Record
from schemas.skeletons import SKELETONS

Vec2 = tuple[float, float]
Vec3 = tuple[float, float, float]
Supervision = Literal["mocap", "itw2d", "itw3d"]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]{1,200}$", description="unique in the shard set; safe as a file name")]


class Camera(Record):
    """Pinhole camera of the stored image, pixels."""

    focal: Vec2
    princpt: Vec2


class SmplParams(Record):
    """SMPL parameters in the camera frame. `transl` is smplx's: added to the posed vertices, metres."""

    pose: Annotated[tuple[float, ...], Field(min_length=72, max_length=72)]
    betas: Annotated[tuple[float, ...], Field(min_length=10, max_length=10)]
    transl: Vec3
    gender: Literal["neutral", "male", "female"] = "neutral"
    pose_valid: bool = True
    betas_valid: bool = True


class Instance(Record):
    """One person. What is absent is None or has valid 0; nothing is guessed."""

    annotation_id: Annotated[str, Field(min_length=1, max_length=200)]
    bbox_xywh: tuple[float, float, float, float]
    skeleton: str
    joints_img: tuple[Vec2, ...]
    joints_valid: tuple[bool, ...]
    joints_cam: tuple[Vec3, ...] | None = None
    """3D ground-truth joints in `skeleton`, camera frame, metres."""
    smpl: SmplParams | None = None
    camera: Camera | None = None
    """Needed wherever `smpl` or `joints_cam` is projected."""

    @model_validator(mode="after")
    def _check(self) -> Instance:
        if self.skeleton not in SKELETONS:
            raise ValueError(f"instance {self.annotation_id}: unknown skeleton {self.skeleton!r}; known: {', '.join(SKELETONS)}")
        n = len(SKELETONS[self.skeleton])
        for name in ("joints_img", "joints_valid", "joints_cam"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise ValueError(f"instance {self.annotation_id}: {name} has {len(value)} rows, skeleton {self.skeleton} has {n} joints")
        if not (self.bbox_xywh[2] > 0 and self.bbox_xywh[3] > 0):
            raise ValueError(f"instance {self.annotation_id}: box {self.bbox_xywh} has no area")
        return self


class Sample(Record):
    """One image's annotation; the image's bytes travel beside it."""

    key: Key
    dataset: str
    image_path: str
    """Where the image was in the raw dataset, relative to its root."""
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    exif_orientation: int = Field(default=1, ge=1, le=8, description="the turn applied to the raw pixels at ingest; 1 is none")
    instances: tuple[Instance, ...]
