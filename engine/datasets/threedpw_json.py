"""3DPW as the authors' converters write it: one JSON file a split, images with their camera, annotations with joints and SMPL parameters.

Two versions exist. In one a camera is `focal` and `princpt`; in the other it has `R` and `t` as well, although joints and parameters are in
the camera frame in both, so that whoever applies them does it twice. What is in which frame is therefore decided by the numbers, once for a
file: the joints' by which of joint_cam and R joint_cam + t falls on joint_img, the parameters' by whose pelvis and hips they agree with.

The file is read three times, as a stream: images, the survey that decides, persons. Memory is a row an image and some numbers a person.

Legend: J the 24 SMPL joints.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from engine.datasets.base import Found, ImageFile, RawItem, SkippedInstances, Unreadable, make_instance, safe_key
from engine.datasets.geometry import carry_to_camera, degenerate, is_camera, rounded
from engine.datasets.json_stream import array_items
from engine.datasets.mocap_tables import INVALID, ODD, UNKNOWN, whole
from engine.datasets.threedpw_person import MAX_ROOT_M, Gender, gender_of, in_picture
from engine.errors import RawDataError
from schemas.sample import Camera, Instance, SmplParams
from schemas.skeletons import SMPL24

REPROJECTION_PX = 0.5
"""joint_img is made from joint_cam, so they agree but for the file's digits."""
MAX_FITTED_ROOT_M = 0.1
"""The neutral body's pelvis and the gendered one's are millimetres to centimetres apart."""
MAX_TURN = 0.5
"""Length of the difference of two unit vectors, half a radian: from the right hip to the left, and where the root rotation takes +x."""
_PELVIS, _L_HIP, _R_HIP = (SMPL24.index(name) for name in ("Pelvis", "L_Hip", "R_Hip"))


class Convention(NamedTuple):
    """Which of a file's numbers R and t still have to be applied to."""

    joints_in_world: bool
    smpl_in_world: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    id: int
    sequence: str
    index: int
    file_name: str
    wh: tuple[int, int]
    camera: Camera
    extrinsics: tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class _Numbers:
    """What an annotation says of one person."""

    joints_J3: np.ndarray
    image_J2: np.ndarray
    pose_72: np.ndarray
    betas_10: np.ndarray
    trans_3: np.ndarray
    fitted_pelvis_3: np.ndarray | None
    """Pelvis of the body that the converter posed, where it wrote it."""
    gender: Gender


@dataclass
class _Survey:
    """Numbers of a sequence's persons: how far joints and parameters are from agreeing, if they are in the camera frame or in the world."""

    instances: int = 0
    off_px: tuple[array, array] = field(default_factory=lambda: (array("d"), array("d")))
    apart: tuple[array, array] = field(default_factory=lambda: (array("d"), array("d")))


class ConvertedFile:
    """A converted split. RawDataError if the file is damaged, or none of its joints fall on their own 2D joints."""

    def __init__(self, path: Path, image_file: Callable[[str], Path]) -> None:
        self.path = path
        self._image_file = image_file

    def items(self) -> Iterator[Found]:
        frames = _read_frames(self.path)
        surveys = self._survey(frames)
        convention = self._decide(surveys)
        wrong = {name: message for name, survey in surveys.items() if (message := _disagreement(survey, convention))}
        if wrong and len(wrong) == len(surveys):
            raise RawDataError(f"{self.path}: {next(iter(wrong.values()))}, and so in all of its {len(wrong)} sequences")
        for name, message in wrong.items():
            yield Unreadable(
                safe_key(name, "sequence"), "calibration_wrong", f"{self.path}, sequence {name}: {message}", surveys[name].instances
            )
        for annotation in array_items(self.path, "annotations"):
            try:
                frame = frames.get(whole(annotation["image_id"]))
            except ODD:
                yield SkippedInstances(INVALID)
                continue
            if frame is None:
                yield SkippedInstances(UNKNOWN)
            elif frame.sequence not in wrong:
                yield self._item(annotation, frame, convention)

    def _survey(self, frames: dict[int, _Frame]) -> dict[str, _Survey]:
        found: dict[str, _Survey] = {}
        for annotation in array_items(self.path, "annotations"):
            try:
                frame = frames[whole(annotation["image_id"])]
            except ODD:
                continue
            survey = found.setdefault(frame.sequence, _Survey())
            survey.instances += 1
            if (numbers := _read_numbers(annotation)) is None:
                continue
            for world in (False, True):
                cam_J3 = _to_camera(numbers.joints_J3, frame, world)
                survey.off_px[world].append(_off_px(cam_J3, numbers, frame))
            # Both frames are tried against the joints as they project best, so that joints and parameters may differ.
            best = _to_camera(numbers.joints_J3, frame, survey.off_px[True][-1] < survey.off_px[False][-1])
            for world in (False, True):
                survey.apart[world].append(_apart(numbers, best, frame, world))
        return found

    def _decide(self, surveys: dict[str, _Survey]) -> Convention:
        """One decision for the file: the frame that fits the typical person better."""

        def typical(values: list[array]) -> float:
            return _median(np.concatenate([np.empty(0), *values]))

        off, apart = (
            [typical([values(survey)[world] for survey in surveys.values()]) for world in (False, True)]
            for values in (attrgetter("off_px"), attrgetter("apart"))
        )
        return Convention(joints_in_world=off[True] < off[False], smpl_in_world=apart[True] < apart[False])

    def _item(self, annotation: dict[str, Any], frame: _Frame, convention: Convention) -> Found:
        person = _person(annotation, frame, convention)
        if isinstance(person, SkippedInstances):
            return person
        image_path = f"imageFiles/{frame.sequence}/{frame.file_name}"
        key = safe_key(f"{frame.sequence}_{frame.index:05d}", f"image_{frame.id}")
        return RawItem(key, image_path, ImageFile(self._image_file(image_path)), *frame.wh, (person,))


def _disagreement(survey: _Survey, convention: Convention) -> str | None:
    """Why a sequence's numbers cannot be trusted, or None."""
    off = _median(np.array(survey.off_px[convention.joints_in_world]))
    if survey.off_px[0] and not off <= REPROJECTION_PX:
        return (
            f"expected joint_cam to project onto joint_img within {REPROJECTION_PX} px, found {off:.1f} px (median); "
            "its cam_param is of another camera or size of image"
        )
    apart = _median(np.array(survey.apart[convention.smpl_in_world]))
    if survey.apart[0] and not apart <= 1:
        return (
            "expected smpl_param and joint_cam of one body, found their pelvis or the direction of their hips "
            f"{apart:.1f} times as far apart as can be (median); they are in different frames"
        )
    return None


def _read_frames(path: Path) -> dict[int, _Frame]:
    """Images by id; those with a missing or odd field are not among them."""
    found: dict[int, _Frame] = {}
    for image in array_items(path, "images"):
        try:
            param = image["cam_param"]
            camera = Camera(focal=rounded(param["focal"]), princpt=rounded(param["princpt"]))
            identity, wh = whole(image["id"]), (whole(image["width"]), whole(image["height"]))
            sequence, file_name, index = image["sequence"], image["file_name"], whole(image["frame_idx"])
            extrinsics = None
            if "R" in param and "t" in param:
                R, t = np.array(param["R"], np.float64).reshape(3, 3), np.array(param["t"], np.float64).reshape(3)
                extrinsics = (R, t) if np.isfinite(t).all() and np.allclose(R @ R.T, np.eye(3), atol=1e-3) else None
            if min(wh) > 0 and is_camera(camera) and isinstance(sequence, str) and isinstance(file_name, str):
                found[identity] = _Frame(identity, sequence, index, file_name, wh, camera, extrinsics)
        except ODD:
            continue
    return found


def _read_numbers(annotation: dict[str, Any]) -> _Numbers | None:
    """None where a field is missing, of another size or not finite."""
    try:
        smpl, joints = annotation["smpl_param"], len(SMPL24)
        arrays = [
            np.asarray(value, np.float64).reshape(shape)
            for value, shape in (
                (annotation["joint_cam"], (joints, 3)),
                (annotation["joint_img"], (joints, 2)),
                (smpl["pose"], 72),
                (smpl["shape"], -1),
                (smpl["trans"], 3),
            )
        ]
        arrays[3] = arrays[3][:10].reshape(10)
        fitted = annotation.get("fitted_joint_cam")
        pelvis = None if fitted is None else np.asarray(fitted, np.float64).reshape(joints, 3)[_PELVIS]
        if not all(np.isfinite(a).all() for a in arrays) or (pelvis is not None and not np.isfinite(pelvis).all()):
            return None
        return _Numbers(*arrays, fitted_pelvis_3=pelvis, gender=gender_of(smpl.get("gender", "neutral")))
    except ODD:
        return None


def _to_camera(points_X3: np.ndarray, frame: _Frame, world: bool) -> np.ndarray:
    """Points in the camera frame; NaN where they would be in the world and the frame has no R and t."""
    if not world:
        return points_X3
    if frame.extrinsics is None:
        return np.full_like(points_X3, np.nan)
    R, t = frame.extrinsics
    return points_X3 @ R.T + t


def _off_px(cam_J3: np.ndarray, numbers: _Numbers, frame: _Frame) -> float:
    """Median distance of projected joints from joint_img; the converter projects those behind the camera as well."""
    with np.errstate(divide="ignore", invalid="ignore"):
        image_J2 = cam_J3[:, :2] / cam_J3[:, 2:] * frame.camera.focal + frame.camera.princpt
    return _median(np.linalg.norm(image_J2 - numbers.image_J2, axis=1))


def _apart(numbers: _Numbers, cam_J3: np.ndarray, frame: _Frame, world: bool) -> float:
    """How far SMPL parameters and joints in the camera frame are apart, as a multiple of what one body's can be: pelvis or hips."""
    if world and frame.extrinsics is None:
        return np.inf
    root = Rotation.from_rotvec(numbers.pose_72[:3]).as_matrix()
    if world and frame.extrinsics is not None:
        root = frame.extrinsics[0] @ root
    fitted = numbers.fitted_pelvis_3
    pelvis = _to_camera(numbers.trans_3 if fitted is None else fitted, frame, world)
    root_m = np.linalg.norm(pelvis - cam_J3[_PELVIS]) / (MAX_ROOT_M if fitted is None else MAX_FITTED_ROOT_M)
    hips = cam_J3[_L_HIP] - cam_J3[_R_HIP]
    turn = np.linalg.norm(root[:, 0] - hips / max(float(np.linalg.norm(hips)), 1e-6)) / MAX_TURN
    return float(max(root_m, turn))


def _person(annotation: Any, frame: _Frame, convention: Convention) -> Instance | SkippedInstances:
    try:
        number, bbox = whole(annotation["person_id"]), tuple(map(float, annotation["bbox"]))
        numbers = _read_numbers(annotation)
    except ODD:
        return SkippedInstances(INVALID)
    if numbers is None or len(bbox) != 4 or not np.isfinite(bbox).all():
        return SkippedInstances(INVALID)
    cam_J3 = _to_camera(numbers.joints_J3, frame, convention.joints_in_world)
    if not _off_px(cam_J3, numbers, frame) <= REPROJECTION_PX:
        return SkippedInstances("projection_disagrees")
    if not _apart(numbers, cam_J3, frame, convention.smpl_in_world) <= 1:
        return SkippedInstances(INVALID)
    valid_J = in_picture(cam_J3, numbers.image_J2, frame.wh)
    if not valid_J.any():
        return SkippedInstances("outside_image")
    if degenerate(bbox, *frame.wh):
        return SkippedInstances("degenerate_box")
    return make_instance(
        annotation_id=f"{frame.sequence}_{number}_{frame.index}", bbox_xywh=bbox, skeleton=SMPL24.name,
        joints_img=rounded(numbers.image_J2), joints_valid=tuple(valid_J.tolist()), joints_cam=rounded(cam_J3),
        smpl=_smpl(numbers, cam_J3[_PELVIS], frame, convention.smpl_in_world), camera=frame.camera,
    )  # fmt: skip


def _smpl(numbers: _Numbers, cam_pelvis_3: np.ndarray, frame: _Frame, world: bool) -> SmplParams:
    """Parameters in the camera frame, posing the pelvis where the joints have it as far as the file allows.

    The converter turned the root about the neutral body's rest pelvis p instead of the gendered one's, q. It wrote where p went, R p + ...,
    so that with R the difference q - p is known and with it q, without a body model. Without R the published translation stands.
    """
    if world:
        assert frame.extrinsics is not None
        R, t = frame.extrinsics
        rest = R.T @ (cam_pelvis_3 - t) - numbers.trans_3
        return carry_to_camera(numbers.pose_72, numbers.betas_10, numbers.trans_3, rest, R, t, gender=numbers.gender)
    transl = numbers.trans_3
    if frame.extrinsics is not None and numbers.fitted_pelvis_3 is not None:
        neutral = numbers.fitted_pelvis_3 - numbers.trans_3
        gendered = neutral + frame.extrinsics[0].T @ (cam_pelvis_3 - numbers.fitted_pelvis_3)
        transl = cam_pelvis_3 - gendered
    return SmplParams(
        pose=rounded(numbers.pose_72), betas=rounded(numbers.betas_10), transl=rounded(transl), gender=numbers.gender
    )  # fmt: skip


def _median(values: np.ndarray) -> float:
    """The median, infinite where half of the values are not numbers."""
    return float(np.median(np.where(np.isfinite(values), values, np.inf))) if len(values) else float("nan")
