"""The layouts of LSP, (3, 14, N) and flags for what is covered, of LSPET, (14, 3, N) and flags for what is there, and of HR-LSPET.

Each picture has one person, its first.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from engine.synthetic.layouts.matlab import write_mat
from engine.synthetic.shots import Shot, TrueImage, TruePerson, true_person
from schemas.skeletons import LSP14

_NAMES = LSP14.joints


def write_lsp(root: Path, shots: list[Shot]) -> list[TrueImage]:
    """`joints.mat` and `images/im0001.jpg`...; every joint is told, also those outside the picture. The first half is for training."""
    joints = np.zeros((3, len(_NAMES), len(shots)))
    truth = []
    for i, shot in enumerate(shots):
        pixels = shot.joints_img(0, _NAMES)
        joints[:2, :, i], joints[2, :, i] = pixels.T, ~shot.inside(0, _NAMES)
        name = f"images/im{i + 1:04d}.jpg"
        _write_image(root / name, shot)
        truth.append(TrueImage(name, (TruePerson(f"im{i + 1:04d}", dict(zip(_NAMES, pixels, strict=True))),)))
    write_mat(root / "joints.mat", {"joints": joints})
    return truth


def write_lspet(root: Path, shots: list[Shot], *, hr_numbers: list[int] | None = None) -> list[TrueImage]:
    """`joints.mat` and `images/im00001.jpg`...; joints outside the picture are not there and have junk coordinates.

    With `hr_numbers`, HR-LSPET: PNGs of those numbers in the root, their joints without gaps.
    """
    joints = np.zeros((len(_NAMES), 3, len(shots)))
    truth = []
    for i, shot in enumerate(shots):
        inside = shot.inside(0, _NAMES)
        junk = np.linspace(-250, 0, 2 * len(_NAMES)).reshape(-1, 2)
        joints[:, :2, i] = np.where(inside[:, None], shot.joints_img(0, _NAMES), junk)
        joints[:, 2, i] = inside
        stem = f"im{hr_numbers[i] if hr_numbers else i + 1:05d}"
        name = f"{stem}.png" if hr_numbers else f"images/{stem}.jpg"
        _write_image(root / name, shot)
        truth.append(TrueImage(name, (true_person(shot, 0, _NAMES, stem),)))
    write_mat(root / "joints.mat", {"joints": joints})
    return truth


def _write_image(path: Path, shot: Shot) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        path.write_bytes(shot.jpeg)
    else:
        cv2.imwrite(str(path), cv2.imdecode(np.frombuffer(shot.jpeg, np.uint8), cv2.IMREAD_COLOR))
