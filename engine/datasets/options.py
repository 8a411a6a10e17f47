"""Options of single raw datasets. Published subsampling is a default here, so that a config can say otherwise."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.body.smpl import BodyConfig
from engine.config import Config


class FrameSplit(Config):
    """Which part of a MoCap dataset a split is."""

    subjects: tuple[int, ...] = Field(min_length=1, description="subject numbers")
    every_nth: int = Field(ge=1, description="frames: keep those whose index is a multiple of this")
    cameras: tuple[int, ...] = Field(min_length=1, description="camera numbers, as the dataset counts them")


class Human36mOptions(Config):
    """Human3.6M's splits, as the authors sample them, and the body its SMPL fits are for."""

    train: FrameSplit = Field(FrameSplit(subjects=(1, 5, 6, 7, 8), every_nth=5, cameras=(1, 2, 3, 4)), description="split 'train'")
    test: FrameSplit = Field(FrameSplit(subjects=(9, 11), every_nth=64, cameras=(4,)), description="split 'test'")
    excluded: tuple[str, ...] = Field(("s_11_act_02_subact_02_ca_01",), description="folders of images known to be corrupt")
    body: BodyConfig = Field(BodyConfig(), description="body of the SMPL fits; its rest pelvis carries them to the camera frame")


class CocoOptions(Config):
    """Which of COCO's annotations are read."""

    annotations: Literal["person_keypoints", "wholebody"] = Field(
        "person_keypoints",
        description="person_keypoints: COCO's own 17 joints; wholebody: COCO-WholeBody's feet and fingers too, as the authors read COCO "
        "(other terms: not for commercial use)",
    )


class MpiiOptions(Config):
    """Which of MPII's annotation files is read."""

    annotations: str | None = Field(
        None, description="file below the root, in any of MPII's published forms; null: the file of the split, the original .mat first"
    )


class Mpi3dhpOptions(Config):
    """MPI-INF-3DHP's splits: 'train' as the authors sample it, 'test' all valid frames of the test sequences.

    Frames of the raw layout are counted from 0, as rows of annot.mat are, whatever number their image has; in the authors' JSON layout
    they are what it calls frame_idx.
    """

    train: FrameSplit = Field(
        FrameSplit(subjects=(1, 2, 3, 4, 5, 6, 7, 8), every_nth=3, cameras=(0, 1, 2, 4, 5, 6, 7, 8)),
        description="split 'train'; cameras 3 and 9 to 13 (knee height and ceiling) are left out as everybody does",
    )
    test: tuple[int, ...] = Field((1, 2, 3, 4, 5, 6), min_length=1, description="split 'test': numbers of the sequences TS1 to TS6")
    body: BodyConfig = Field(BodyConfig(), description="body of the SMPL fits; its rest pelvis carries them to the camera frame")


class InstaVarietyOptions(Config):
    """InstaVariety's videos."""

    every_nth: int = Field(1, ge=1, description="frames of a track: keep those whose number is a multiple of this")


class Up3dOptions(Config):
    """UP-3D's fits."""

    body: BodyConfig = Field(BodyConfig(), description="body of the SMPL fits; they are kept where it falls on the joints of the image")


class PhotosOptions(Config):
    """Your own photographs and videos."""

    boxes: str | None = Field(None, description="file below the root with the persons' boxes, JSON or CSV; null: the detector finds them")
    detector: str | None = Field(
        None, description="person detector, where there are no boxes: ssdlite, or `module:function` of your own (docs/YOUR_PHOTOGRAPHS.md)"
    )
    min_score: float = Field(0.5, ge=0, le=1, description="persons the detector is less sure of are not taken; 0 to 1")
    skeleton: str = Field("coco17", description="skeleton of the keypoints in `boxes` or of the detector, if there are any")
    coordinates: Literal["upright", "stored"] = Field(
        "upright",
        description="boxes are of photographs as viewers show them, turned by their EXIF orientation, or of their pixels as stored; a COCO "
        "file that says width and height says it itself",
    )
    video_stride: int = Field(1, ge=1, description="frames of a video: keep those whose number is a multiple of this")
