"""InstaVariety's tfrecords as human_dynamics writes them: the same keys, types and shapes, and what its documentation gets wrong.

A track's frames are shots, one after the other, each with its first person annotated and stored as it is; that the same shots return in
many tracks costs nothing, so files of any length are written without rendering.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.synthetic.layouts.tfrecord import FeatureValue, encode_example, write_records
from engine.synthetic.shots import Shot, TrueImage, TruePerson, true_person
from schemas.skeletons import INSTAVARIETY25

_BODY, _FACE, _FEET = slice(0, 14), slice(14, 19), slice(19, 25)
_FEATURES = 2048


@dataclass(frozen=True)
class TrackFiles:
    """How much is written, and which of the forms in circulation."""

    files: int = 1
    tracks: int = 2
    """A file."""
    frames: int = 5
    """A track."""
    phis: bool = True
    """HMR's features, with which coordinates are in [-1, 1] of the JPEG; without, they are its pixels."""
    toes: bool = True
    face: bool = True
    time_pts: bool = False
    """As test files have it."""
    untrimmed: int = 7
    """Names of frames of the whole video beyond those of the track."""


def write(root: Path, shots: list[Shot], split: str = "train", layout: TrackFiles | None = None) -> list[TrueImage]:
    """`<split>/insta_variety_%02d_copy00_hmr_noS5.ckpt-642561.tfrecord` below the root, one track in memory at a time."""
    layout = layout or TrackFiles()
    frames = [_Frame(shot, layout) for shot in shots]
    truth: list[TrueImage] = []
    for number in range(layout.files):
        name = f"insta_variety_{number:02d}_copy00_hmr_noS5.ckpt-642561"
        path = f"{split}/{name}.tfrecord"
        write_records(root / path, _tracks(frames, number, layout))
        for track in range(layout.tracks):
            for place, frame in enumerate(_chosen(frames, number * layout.tracks + track, layout)):
                key = f"{name.replace('.', '_')}_{track}_{place}"
                truth.append(TrueImage(f"{path}#{track}/{place}", (TruePerson(key, frame.true.joints_img, None, frame.true.absent),)))
    return truth


class _Frame:
    """A shot as frames of tracks hold it, worked out once."""

    def __init__(self, shot: Shot, layout: TrackFiles) -> None:
        height, width = shot.hw
        self.jpeg, self.hw = shot.jpeg, shot.hw
        xy_J2 = shot.joints_img(0, INSTAVARIETY25.joints)
        names = INSTAVARIETY25.joints
        told = names[_BODY] + (names[_FACE] if layout.face else ()) + (names[_FEET] if layout.toes else ())
        true = true_person(shot, 0, told)
        self.true = TruePerson(None, true.joints_img, None, true.absent | set(names) - set(told))
        self.centre = np.round(xy_J2.mean(0)).astype(np.int64)
        if layout.phis:
            xy_J2 = xy_J2 / (width, height) * 2 - 1
        self.labels_3J = np.concatenate([xy_J2.T, np.ones((1, len(names)))])


def _chosen(frames: list[_Frame], track: int, layout: TrackFiles) -> list[_Frame]:
    return [frames[(track * layout.frames + place) % len(frames)] for place in range(layout.frames)]


def _tracks(frames: list[_Frame], file: int, layout: TrackFiles) -> Iterator[bytes]:
    for track in range(layout.tracks):
        number = file * layout.tracks + track
        yield encode_example(_track(_chosen(frames, number, layout), number, layout))


def _track(frames: list[_Frame], number: int, layout: TrackFiles) -> dict[str, FeatureValue]:
    n = len(frames)
    labels_N3J = np.stack([frame.labels_3J for frame in frames])
    centres = np.stack([frame.centre for frame in frames])
    video = f"/data2/Data/instagram_download/frames_raw/dunking/{number:08d}"
    features: dict[str, FeatureValue] = {
        "mosh/shape": -np.ones(10),
        "meta/has_3d": np.array([0]),
        "meta/has_3d_joints": np.array([0]),
        "meta/N": np.array([n]),
        "image/filenames": [f"{video}/frame{i + 1:06d}.jpg".encode() for i in range(n + layout.untrimmed)],
        "image/heightwidths": np.array([frame.hw for frame in frames]),
        "image/xys": labels_N3J[:, :2, _BODY],
        "image/visibilities": labels_N3J[:, 2, _BODY].astype(np.int64),
        "image/centers": centres,
        "mosh/gt3ds": np.zeros((n, 14, 3)),
        "mosh/poses": -np.ones((n, 72)),
        "image/scale_factors": np.full((n, 2), 0.75),
        "image/crop_pts": centres - 150,
        "image/cams": np.zeros((n, 3)),
        "image/encoded": [frame.jpeg for frame in frames],
    }
    if layout.face:
        features["image/face_pts"] = labels_N3J[..., _FACE]
    if layout.toes:
        features["image/toe_pts"] = labels_N3J[..., _FEET]
    if layout.phis:
        features["image/phis"] = np.tile(np.linspace(0, 1, _FEATURES), (n, 1))
    if layout.time_pts:
        features["meta/time_pts"] = np.array([0, n])
    return features
