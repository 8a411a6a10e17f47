"""UP-3D's layout: an image, joints, a fit of Python 2 and a window for each person, all in one folder.

The fits' focal length is 5000 px in the fitted image, whatever the photograph's was. So each person is put on the axis of its own joints
where such a camera sees it as large: the picture shows it from nearer, and joints are those of the fit.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from engine.synthetic.shots import Shot, TrueImage, TruePerson
from engine.synthetic.threedpw import python2_pickle
from schemas.skeletons import LSP14, SMPL24

FOCAL = 5000.0
_FITTED_PX = 500


def write(root: Path, shots: list[Shot], *, confidences: bool = True, cropped: bool = True, crop_info: bool = True) -> list[TrueImage]:
    """`up-3d/` with the first person of each shot; every second one in `test`, the others halved into `train` and `val`.

    `cropped` fits were made on a part of the photograph, resized; `crop_info`: the files that say so are there.
    """
    folder = root / "up-3d"
    folder.mkdir(parents=True, exist_ok=True)
    truth, lines = [], []
    for i, shot in enumerate(shots):
        stem = folder / f"{i:05d}"
        height, width = shot.hw
        x0, x1, y0, y1 = (width // 8, width, height // 16, height - height // 16) if cropped else (0, width, 0, height)
        fitted_wh = (round(_FITTED_PX * (x1 - x0) / (y1 - y0)), _FITTED_PX) if cropped else (width, height)
        scale = np.array([(x1 - x0) / fitted_wh[0], (y1 - y0) / fitted_wh[1]])
        focal, princpt = FOCAL * scale, np.array(fitted_wh) / 2 * scale + (x0, y0)
        person = shot.persons[0]
        pose, transl = person.smpl_in_camera(shot.camera)
        points = {name: shot.joints_cam(0, (name,))[0] - transl for name in LSP14.joints}
        root_cam = shot.camera.to_camera(person.by_skeleton[SMPL24.name])[0]
        depth = root_cam[2] * focal.mean() / shot.camera.focal.mean()
        middle = (shot.camera.to_pixels(root_cam) - princpt) / focal * depth
        t = np.array([*middle, depth]) - (root_cam - transl)
        pixels = np.stack([(points[name] + t)[:2] / (points[name] + t)[2] * focal + princpt for name in LSP14.joints])
        labelled = ((pixels > 0) & (pixels < (width, height))).all(1)
        rows = np.vstack([pixels.T, np.full((1, len(LSP14)), 0.9)] if confidences else [pixels.T]) * labelled
        np.save(f"{stem}_joints.npy", rows)
        body_joints = shot.camera.to_camera(person.by_skeleton[SMPL24.name]) - transl + t
        j2d = (body_joints[:, :2] / body_joints[:, 2:] * focal + princpt - (x0, y0)) / scale
        fit = {"j2d": np.vstack([j2d, j2d[:1]]), "t": t, "rt": np.zeros(3), "f": FOCAL, "pose": pose, "betas": person.betas_10}
        Path(f"{stem}_body.pkl").write_bytes(python2_pickle(fit | {"trans": np.zeros(3)}, protocol=0))
        if crop_info:
            Path(f"{stem}_fit_crop_info.txt").write_text(f"{fitted_wh[1]} {fitted_wh[0]} {y0} {y1} {x0} {x1}")
        Path(f"{stem}_dataset_info.txt").write_text(f"mpii {i}")
        Path(f"{stem}_quality_info.txt").write_text("high\n")
        cv2.imwrite(f"{stem}_image.png", cv2.imdecode(np.frombuffer(shot.jpeg, np.uint8), cv2.IMREAD_COLOR))
        lines.append(f"/{i:05d}_image.png\n")
        names = LSP14.joints
        seen = {name: pixels[j] for j, name in enumerate(names) if labelled[j]}
        truth.append(TrueImage(f"up-3d/{i:05d}_image.png", (TruePerson(f"{i:05d}", seen, None, frozenset(names) - seen.keys()),)))
    parts = {"test": lines[1::2], "trainval": lines[::2], "train": lines[::4], "val": lines[2::4]}
    for split, part in parts.items():
        (folder / f"{split}.txt").write_text("".join(part))
    return truth
