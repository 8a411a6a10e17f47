"""The Arrow schema of pseudo-GT: one row an annotated instance, beside the images and not a copy of them.

Camera frame and units as in schemas/sample.py. `vertices + transl`, projected with `focal` and `princpt`, land on the
stored image. The camera is the crop's virtual one carried back to the image (Pose2Pose), not the photograph's real lens.
"""

from __future__ import annotations

import pyarrow as pa

FORMAT_VERSION = 2
"""2: `score` is another function, `keypoint_similarity` and `flip_disagreement` are new."""


def _vector(n: int) -> pa.DataType:
    return pa.list_(pa.field("item", pa.float32(), nullable=False), n)


def _field(name: str, kind: pa.DataType, meaning: str, unit: str = "") -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"meaning": meaning, "unit": unit})


PSEUDO_GT_SCHEMA = pa.schema(
    [
        _field("dataset", pa.string(), "dataset of the image"),
        _field("key", pa.string(), "sample key in the shard set"),
        _field("annotation_id", pa.string(), "the dataset's own id of this person"),
        _field("bbox_xywh", _vector(4), "annotated box in the stored image", "px"),
        _field("pose", _vector(72), "SMPL pose, axis-angle, root first, camera frame", "rad"),
        _field("betas", _vector(10), "SMPL shape"),
        _field("transl", _vector(3), "added to the posed vertices, camera frame", "m"),
        _field("focal", _vector(2), "focal length in the stored image", "px"),
        _field("princpt", _vector(2), "principal point in the stored image", "px"),
        _field("latent", _vector(32), "pose-prior latent; NaN where the head has none"),
        _field(
            "reprojection_error",
            pa.float32(),
            "mean 2D distance of valid joints over the square root of the box area; NaN without valid joints",
        ),
        _field(
            "visible_fraction",
            pa.float32(),
            "share of valid joints reprojected within 5 % of the square root of the box area; NaN without valid joints",
        ),
        _field(
            "keypoint_similarity",
            pa.float32(),
            "mean over valid joints of 2^-(d / 0.1)^2, d their distances as above: 1 where met, 1/2 at 10 %; NaN without valid joints",
        ),
        _field("valid_joints", pa.int16(), "2D ground-truth joints the three figures above rest on"),
        _field("latent_norm", pa.float32(), "Euclidean norm of the latent; NaN without"),
        _field(
            "flip_disagreement",
            pa.float32(),
            "mean distance of the body's joints as predicted from the crop and from its mirror image, pelvis on pelvis; NaN without flip",
            "m",
        ),
        _field("truncation", pa.float32(), "share of the mesh's joints outside the image"),
        _field("score", pa.float32(), "quality in [0, 1] from the figures above, as docs/FORMAT.md says; 0 without valid joints"),
    ],
    metadata={"format": "pseudogt", "format_version": str(FORMAT_VERSION)},
)
