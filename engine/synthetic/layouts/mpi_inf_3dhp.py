"""MPI-INF-3DHP's layouts: the authors' JSON files, a training sequence as downloaded, and the test set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np

from engine.synthetic.layouts.matlab import cell, write_mat
from engine.synthetic.layouts.studio import extrinsics, fit_record, joints_box, whole_person, world_mm
from engine.synthetic.shots import Shot, TrueImage
from schemas.skeletons import MI17

CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
"""The camera that view 0, 1, 2, ... of a shot is written as: those that everybody uses."""
ALL_CAMERAS = 14
_ARM, _LEG = ("Collar", "Shoulder", "Elbow", "Wrist", "Hand"), ("Hip", "Knee", "Ankle", "Foot", "Toe")
JOINTS28 = (
    *("Chest", "Chest", "Spine", "Torso", "Pelvis", "Neck", "Head", "Head_top"),
    *(f"{side}_{part}" for parts in (_ARM, _LEG) for side in "LR" for part in parts),
)
"""What stands for the rows of annot.mat: spine3, spine4, spine2, spine, pelvis, neck, head, head_top, left_clavicle, ..."""
UNIVERSAL = 0.93
"""Height of the universal skeleton over a person's here."""
Frames = Literal["imageFrames", "folders", "flat", "hybrik", "videos"]
_PATTERNS: dict[Frames, str] = {
    "imageFrames": "imageFrames/video_{camera}/frame_{number:06d}.jpg",
    "folders": "imageSequence/video_{camera}/img_{number:06d}.jpg",
    "flat": "imageSequence/img_{camera}_{number:06d}.jpg",
    "hybrik": "images/S{subject}_Seq{sequence}_V{camera}/img_S{subject}_Seq{sequence}_V{camera}_{number:06d}.jpg",
}


def write_json(root: Path, shots: list[Shot], *, subject: int = 1, sequence: int = 1, step: int = 3, fits: bool = True) -> list[TrueImage]:
    """The authors' JSON layout: the first person of every shot, frame number instant * step."""
    images, annotations, truth = [], [], []
    joints: dict[str, Any] = {}
    fitted: dict[str, Any] = {}
    for identity, shot in enumerate(shots):
        person, number, frame = shot.persons[0], CAMERAS[shot.view], shot.instant * step
        file_name = f"S{subject}_Seq{sequence}_video_{number}_F{frame:06d}.jpg"
        image_path = f"images_1k/S{subject}/Seq{sequence}/imageSequence/{file_name}"
        _write(root / image_path, shot.jpeg)
        about = {"subject_idx": subject, "seq_idx": sequence, "cam_idx": number, "frame_idx": frame}
        images.append({"id": identity, "file_name": file_name, "width": shot.hw[1], "height": shot.hw[0], **about})
        box = joints_box(shot.joints_img(0, MI17.joints), 1.1)
        annotations.append({"id": 1000 + identity, "image_id": identity, "bbox": box, "iscrowd": 0, "area": box[2] * box[3]})
        joints[str(frame)] = world_mm(np.stack([person.joints[name] for name in MI17.joints]))
        fitted[str(frame)] = fit_record(person.pose_72, person.betas_10, person.transl_3, person.root_3)
        truth.append(TrueImage(image_path, (whole_person(shot, 0, MI17.joints, str(1000 + identity)),)))
    views = {CAMERAS[shot.view]: shot.camera for shot in shots}
    cameras = {str(n): {**extrinsics(c), "focal": c.focal.tolist(), "princpt": c.princpt.tolist()} for n, c in views.items()}
    contents = {"1k": {"images": images, "annotations": annotations}} | {
        name: {str(subject): {str(sequence): value}}
        for name, value in (("camera_1k", cameras), ("joint_3d", joints), *((("SMPL_NeuralAnnot", fitted),) if fits else ()))
    }
    for name, content in contents.items():
        (root / f"MPI-INF-3DHP_{name}.json").write_text(json.dumps(content))
    return truth


def write_raw(
    root: Path,
    shots: list[Shot],
    *,
    subject: int = 1,
    sequence: int = 1,
    frames: Frames = "videos",
    first_number: int = 1,
    version: Literal["5", "7.3"] = "5",
) -> list[TrueImage]:
    """A sequence as downloaded: the first person of every shot, frame instant; `first_number` is that of the first unpacked image.

    Cameras no view is written as have joints of zeros, as many frames as the others, and a calibration of their own.
    """
    folder = root / f"S{subject}" / f"Seq{sequence}"
    instants = 1 + max(shot.instant for shot in shots)
    annot2, annot3 = np.zeros((ALL_CAMERAS, instants, 28, 2)), np.zeros((ALL_CAMERAS, instants, 28, 3))
    pictures: dict[int, list[bytes]] = {}
    truth = []
    for shot in sorted(shots, key=lambda s: (s.view, s.instant)):
        number = CAMERAS[shot.view]
        annot2[number, shot.instant], annot3[number, shot.instant] = shot.joints_img(0, JOINTS28), shot.joints_cam(0, JOINTS28) * 1000
        pictures.setdefault(number, []).append(shot.jpeg)
        key = f"S{subject}_Seq{sequence}_video_{number}_F{shot.instant:06d}"
        if frames == "videos":
            path = f"{folder.relative_to(root)}/imageSequence/video_{number}.avi#{shot.instant}"
        else:
            name = _PATTERNS[frames].format(camera=number, number=shot.instant + first_number, subject=subject, sequence=sequence)
            path = f"{folder.relative_to(root)}/{name}"
            _write(root / path, shot.jpeg)
        truth.append(TrueImage(path, (whole_person(shot, 0, MI17.joints, key),)))
    for number, jpegs in pictures.items() if frames == "videos" else ():
        write_video(folder / "imageSequence" / f"video_{number}.avi", jpegs)
    per_camera = {
        "annot2": cell(list(annot2.reshape(ALL_CAMERAS, instants, 56)), (ALL_CAMERAS, 1)),
        "annot3": cell(list(annot3.reshape(ALL_CAMERAS, instants, 84)), (ALL_CAMERAS, 1)),
        "univ_annot3": cell(list(annot3.reshape(ALL_CAMERAS, instants, 84) * UNIVERSAL), (ALL_CAMERAS, 1)),
    }
    counts = {"cameras": np.arange(ALL_CAMERAS, dtype=np.float64)[None], "frames": np.arange(instants, dtype=np.float64)[:, None]}
    write_mat(folder / "annot.mat", per_camera | counts, version)
    (folder / "camera.calibration").write_text(calibration_text(shots))
    return truth


def calibration_text(shots: list[Shot]) -> str:
    """camera.calibration of all fourteen cameras, a 10 mm sensor each; those without a view stand where the first one does."""
    views = {CAMERAS[shot.view]: shot for shot in reversed(shots)}
    lines = ["Skeletool Camera Calibration File V1.0"]
    for number in range(ALL_CAMERAS):
        shot = views.get(number, shots[0])
        camera, (height, width) = shot.camera, shot.hw
        intrinsic, extrinsic = np.eye(4), np.eye(4)
        intrinsic[[0, 1], [0, 1]], intrinsic[:2, 2] = camera.focal, camera.princpt
        extrinsic[:3, :3], extrinsic[:3, 3] = camera.rotation, camera.translation * 1000
        lines += [
            f"name          {number}",
            f"  sensor      {10:g} {10 * height / width:g}",
            f"  size        {width} {height}",
            "  animated    0",
            f"  intrinsic   {' '.join(f'{v:.9g}' for v in intrinsic.ravel())} ",
            f"  extrinsic   {' '.join(f'{v:.9g}' for v in extrinsic.ravel())} ",
            "  radial      0",
        ]
    return "\n".join(lines) + "\n"


def write_video(path: Path, jpegs: list[bytes]) -> None:
    """An .avi of motion JPEG, 25 frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        images = [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) for jpeg in jpegs]
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuvj420p"
        for image in images:
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_test(root: Path, shots: list[Shot], *, sequence: int = 1, invalid: tuple[int, ...] = ()) -> list[TrueImage]:
    """A test sequence of one camera's shots: the first person of each, in their order; frames `invalid` (from 0) are declared so."""
    folder = root / "mpi_inf_3dhp_test_set" / f"TS{sequence}"
    truth = []
    for frame, shot in enumerate(shots):
        path = folder / "imageSequence" / f"img_{frame + 1:06d}.jpg"
        _write(path, shot.jpeg)
        if frame not in invalid:
            truth.append(TrueImage(str(path.relative_to(root)), (whole_person(shot, 0, MI17.joints, f"TS{sequence}_F{frame + 1:06d}"),)))
    annot2 = np.stack([shot.joints_img(0, MI17.joints).T for shot in shots], -1)[:, :, None]
    annot3 = np.stack([shot.joints_cam(0, MI17.joints).T for shot in shots], -1)[:, :, None] * 1000
    valid = np.array([[float(frame not in invalid) for frame in range(len(shots))]])
    single = (..., 0, 0) if len(shots) == 1 else ...
    variables = {
        "activity_annotation": np.ones_like(valid),
        "annot2": annot2[single],
        "annot3": annot3[single],
        "bb_crop": np.zeros((34, len(shots))),
        "univ_annot3": annot3[single] * UNIVERSAL,
        "valid_frame": valid,
    }
    write_mat(folder / "annot_data.mat", variables, "7.3")
    return truth


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
