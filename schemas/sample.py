"""Sample and Instance: one image with all its annotated persons, as every loader makes them and every shard holds them.

Frames and units. Pixels: x right, y down, origin at the centre of the top-left pixel, in the photograph *as settled at ingest*
(EXIF orientation applied or dropped). A shard stores the whole photograph, or the `Window` of it that its sample names; boxes, joints and
cameras are in the photograph's pixels in both cases. Camera frame: x right, y down, z forward, metres. SMPL poses are axis-angle radians.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.records import Record, canonical_json
from schemas.skeletons import SKELETONS

Vec2 = tuple[float, float]
Vec3 = tuple[float, float, float]
Supervision = Literal["mocap", "itw2d", "itw3d"]
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_\-]{1,200}$", description="unique in the shard set; safe as a file name")]


class Window(Record):
    """The part of a photograph that a shard stores: `width` x `height` of its pixels from pixel (left, top) on, resized or not.

    The centre of stored pixel (u, v) lies at photograph pixel (left + (u + 0.5) * width / stored_width - 0.5, and so for v): `step` and
    `origin` below. All fields are whole numbers, so nothing is lost on the way there and back.
    """

    left: int = Field(ge=0)
    top: int = Field(ge=0)
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    stored_width: int = Field(gt=0)
    stored_height: int = Field(gt=0)

    @property
    def step(self) -> Vec2:
        """Photograph pixels from one stored pixel to the next, in x and y."""
        return self.width / self.stored_width, self.height / self.stored_height

    @property
    def origin(self) -> Vec2:
        """The centre of the first stored pixel, in photograph pixels."""
        step_x, step_y = self.step
        return self.left + 0.5 * (step_x - 1), self.top + 0.5 * (step_y - 1)


class Camera(Record):
    """Pinhole camera of the photograph, pixels."""

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
    """3D ground-truth joints in `skeleton`, camera frame, metres: all of them, whatever `joints_valid` says of the image."""
    joints_univ: tuple[Vec3, ...] | None = Field(None, exclude_if=lambda joints: joints is None)
    """3D joints scaled to a universal skeleton height, as the test sets of MuPoTS-3D and MPI-INF-3DHP publish them (`univ_annot3`), in
    `skeleton`, camera frame, metres. Absent from the JSON where None, so that shards without it have the bytes they always had."""
    smpl: SmplParams | None = None
    camera: Camera | None = None
    """Needed wherever `smpl` or `joints_cam` is projected."""

    @model_validator(mode="after")
    def _check(self) -> Instance:
        if self.skeleton not in SKELETONS:
            raise ValueError(f"instance {self.annotation_id}: unknown skeleton {self.skeleton!r}; known: {', '.join(SKELETONS)}")
        n = len(SKELETONS[self.skeleton])
        for name in ("joints_img", "joints_valid", "joints_cam", "joints_univ"):
            value = getattr(self, name)
            if value is not None and len(value) != n:
                raise ValueError(f"instance {self.annotation_id}: {name} has {len(value)} rows, skeleton {self.skeleton} has {n} joints")
        if not (self.bbox_xywh[2] > 0 and self.bbox_xywh[3] > 0):
            raise ValueError(f"instance {self.annotation_id}: box {self.bbox_xywh} has no area")
        return self


class Sample(Record):
    """One image's annotation; the image's bytes travel beside it. `width` and `height` are the photograph's."""

    key: Key
    dataset: str
    image_path: str
    """Where the image was in the raw dataset, relative to its root."""
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    exif_orientation: int = Field(default=1, ge=1, le=8, description="the turn applied to the raw pixels at ingest; 1 is none")
    instances: tuple[Instance, ...]
    window: Window | None = None
    """The part of the photograph that is stored; None: all of it, pixel for pixel."""

    @property
    def stored_wh(self) -> tuple[int, int]:
        """Width and height of the image in the shard, pixels."""
        return (self.width, self.height) if self.window is None else (self.window.stored_width, self.window.stored_height)

    def to_bytes(self) -> bytes:
        """Canonical JSON; a whole photograph says nothing of a window, so that its shard has the bytes it always had."""
        return canonical_json(self.model_dump(mode="json", exclude={"window"} if self.window is None else None))

    @model_validator(mode="after")
    def _check_window(self) -> Sample:
        w = self.window
        if w is not None and (w.left + w.width > self.width or w.top + w.height > self.height):
            raise ValueError(f"sample {self.key}: window {w} leaves the photograph of {self.width}x{self.height} px")
        return self
