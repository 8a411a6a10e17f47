"""What a synthetic world holds: how many images of each set, their size, their seed."""

from __future__ import annotations

from pydantic import Field

from engine.config import Config
from schemas.records import canonical_json, sha256_hex


class SyntheticConfig(Config):
    """A small world with known 3D truth, in the raw layouts of Human3.6M, COCO and 3DPW."""

    out: str = Field(description="local folder to create; must be absent, empty, or hold this very world already")
    seed: int = Field(default=0, ge=0, description="another seed gives another world")
    workers: int = Field(default=2, ge=1, description="processes that render; does not change a byte of the result")
    mocap_images: int = Field(default=480, ge=1, description="studio images of the training subjects (S1, S5, S6, S7, S8)")
    mocap_test_images: int = Field(default=32, ge=0, description="studio images of the test subjects (S9, S11), camera 4")
    mocap_views: int = Field(default=2, ge=1, le=4, description="cameras, of the studio's 4, that see each training instant")
    itw_images: int = Field(default=1000, ge=1, description="in-the-wild images with 2D keypoints only")
    itw3d_train_images: int = Field(default=240, ge=1, description="in-the-wild images with 3D truth, training sequences")
    itw3d_validation_images: int = Field(default=16, ge=0, description="in-the-wild images with 3D truth, validation sequences")
    itw3d_test_images: int = Field(default=160, ge=1, description="in-the-wild images with 3D truth, test sequences")
    sequence_frames: int = Field(default=8, ge=1, description="images in one in-the-wild sequence with 3D truth")
    mocap_hw: tuple[int, int] = Field(default=(320, 320), description="height and width of a studio image, px")
    itw_hw: tuple[tuple[int, int], ...] = Field(
        default=((320, 240), (240, 320), (288, 384), (320, 320), (384, 288), (360, 480)),
        min_length=1,
        description="heights and widths that in-the-wild images are drawn from, px",
    )
    keypoint_noise_px: float = Field(default=1.0, ge=0, description="standard deviation of the annotators' error in the 2D-only set, px")
    jpeg_quality: int = Field(default=90, ge=1, le=100, description="quality of the written JPEGs")

    def world_digest(self, body_digest: str) -> str:
        """Names the world's content: every field but where it lies and how many processes made it, and the body."""
        fields = self.model_dump(mode="json", exclude={"out", "workers"})
        return sha256_hex(canonical_json({"world": fields, "body": body_digest}))


def tiny_config(out: str, seed: int = 0, workers: int = 1) -> SyntheticConfig:
    """The smallest world that still has every set, for tests: about 40 images, a few seconds."""
    return SyntheticConfig(
        out=out, seed=seed, workers=workers, mocap_images=12, mocap_test_images=4, itw_images=12,
        itw3d_train_images=8, itw3d_validation_images=2, itw3d_test_images=6, sequence_frames=4,
    )  # fmt: skip
