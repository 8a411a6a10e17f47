"""MuPoTS-3D's layouts: annot.mat and occlusion.mat a sequence, and the authors' JSON. Images are numbered from 0.

A view is a sequence, its instants are the frames: the camera stands still, as the set's did. Shots need several views or one camera.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from engine.synthetic.layouts.matlab import cell, write_mat
from engine.synthetic.layouts.studio import joints_box, whole_person
from engine.synthetic.shots import Shot, TrueImage
from schemas.skeletons import MI17

UNIVERSAL_HEIGHT = 0.93
"""univ_annot3 over annot3: one factor for each person in truth, one for all here."""


def write_raw(
    root: Path, shots: list[Shot], *, version: Literal["5", "7.3"] = "5", invalid: frozenset[tuple[int, int]] = frozenset()
) -> list[TrueImage]:
    """`MultiPersonTestSet/TS<n>/`; (frame, person) in `invalid` are not valid, as is everybody who is not in a frame."""
    truth = []
    for number, frames in _sequences(shots):
        people = max(len(shot.persons) for shot in frames)
        shape = (len(frames), people)
        annotations, occlusions = np.empty(shape, object), np.empty(shape, object)
        folder = root / "MultiPersonTestSet" / f"TS{number}"
        for f, shot in enumerate(frames):
            persons = []
            for p in range(people):
                valid = p < len(shot.persons) and (f, p) not in invalid
                pixels = shot.joints_img(p, MI17.joints) if p < len(shot.persons) else np.zeros((len(MI17), 2))
                points = shot.joints_cam(p, MI17.joints) * 1000 if p < len(shot.persons) else np.zeros((len(MI17), 3))
                annotations[f, p] = {
                    "annot2": pixels.T.copy(),
                    "annot3": points.T.copy(),
                    "univ_annot3": points.T * UNIVERSAL_HEIGHT,
                    "isValidFrame": np.array([[valid]]),
                }
                occlusions[f, p] = np.zeros((1, len(MI17)))
                if valid:
                    persons.append(whole_person(shot, p, MI17.joints, f"TS{number}_{f:06d}_{p}"))
            truth.append(_image(root, number, f, shot, persons))
        write_mat(folder / "annot.mat", {"annotations": cell(list(annotations.ravel(order="F")), shape)}, version)
        write_mat(folder / "occlusion.mat", {"occlusion_labels": cell(list(occlusions.ravel(order="F")), shape)}, version)
    return truth


def write_json(root: Path, shots: list[Shot], *, invalid: frozenset[tuple[int, int]] = frozenset()) -> list[TrueImage]:
    """`MuPoTS-3D.json` and the images in `MultiPersonTestSet/`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    truth = []
    for number, frames in _sequences(shots):
        for f, shot in enumerate(frames):
            intrinsic = [*shot.camera.focal.tolist(), *shot.camera.princpt.tolist()]
            file_name = f"TS{number}/img_{f:06d}.jpg"
            images.append({"id": len(images), "file_name": file_name, "width": shot.hw[1], "height": shot.hw[0], "intrinsic": intrinsic})
            persons = []
            for p in range(len(shot.persons)):
                identity, pixels, valid = len(annotations), shot.joints_img(p, MI17.joints), (f, p) not in invalid
                annotations.append(
                    {
                        "id": identity,
                        "image_id": images[-1]["id"],
                        "keypoints_cam": (shot.joints_cam(p, MI17.joints) * 1000).tolist(),
                        "keypoints_img": pixels.tolist(),
                        "bbox": joints_box(pixels, 1.1),
                        "is_valid": int(valid),
                    }
                )
                if valid:
                    persons.append(whole_person(shot, p, MI17.joints, str(identity)))
            truth.append(_image(root, number, f, shot, persons))
    (root / "MuPoTS-3D.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return truth


def _sequences(shots: list[Shot]) -> Iterator[tuple[int, list[Shot]]]:
    for view in sorted({shot.view for shot in shots}):
        yield view + 1, [shot for shot in shots if shot.view == view]


def _image(root: Path, number: int, frame: int, shot: Shot, persons: list[Any]) -> TrueImage:
    path = f"MultiPersonTestSet/TS{number}/img_{frame:06d}.jpg"
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(shot.jpeg)
    return TrueImage(path, tuple(persons))
