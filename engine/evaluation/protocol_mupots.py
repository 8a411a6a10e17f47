"""MuPoTS-3D: 3DPCK and AUC as the official script computes them, and the PA-MPJPE that the paper quotes.

3DPCK and AUC. In each frame every true person takes, in the order of the truth, the prediction nobody has taken yet that shares most joints
with it in the image. The prediction's pelvis goes to the origin and its bones are given the true lengths. Truth is `univ_annot3`.
A person nobody matches counts as a miss in all joints ("all") or not at all ("matched"); predictions left over cost nothing. Each sequence
has its share of joints below 150 mm, and the figure is the mean over sequences.

PA-MPJPE on MuPoTS is published without a script. Ours: annotated boxes, valid persons, each with the prediction of its own box, 14 joints,
`annot3`, a similarity transform a person, mean over persons.

Predictions come from the annotated boxes, one a person, in the camera that their crop gives them; 2D joints are projected there.
Shapes: P predictions and G true persons of a frame, N persons of the test set, joints of `mi17` in mm and px.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from engine.body.cameras import project
from engine.body.smpl import Body
from engine.evaluation.metrics import auc, pck
from engine.evaluation.mi17 import COUNTED, mi_joints_mm, rooted, sequence_of
from engine.evaluation.person_errors import PersonErrors, joint_errors
from engine.evaluation.protocol import Kept, PredictedPeople, Protocol, joints_of, lacks
from engine.evaluation.results import Errors, JointErrors
from schemas.sample import Instance, Sample
from schemas.skeletons import MI17

MATCH_PX = 40.0
MISSED_MM = 1e5
"""The distance of every joint of a person nobody matches."""
_COMPARED = [MI17.index(name) for name in COUNTED if name != "Head_top"]
"""The joints a match is judged by: Neck and limbs."""
_PARENTS = {"Torso": "Pelvis", "Neck": "Torso", "Head_top": "Neck", "Head": "Neck"} | {
    joint: parent
    for s in "RL"
    for joint, parent in (
        (f"{s}_Shoulder", "Neck"), (f"{s}_Elbow", f"{s}_Shoulder"), (f"{s}_Wrist", f"{s}_Elbow"),
        (f"{s}_Hip", "Pelvis"), (f"{s}_Knee", f"{s}_Hip"), (f"{s}_Ankle", f"{s}_Knee"),
    )
}  # fmt: skip
"""Every joint after its parent; the pelvis has none."""


def match_persons(pred_P172: np.ndarray, target_G172: np.ndarray) -> np.ndarray:
    """The prediction of each true person, (G,) int, -1 for none, by joints in the image (px).

    A joint is shared if it is less than 40 px away in x and in y; a predicted joint at exactly (0, 0) is not there. The most shared joints
    win, the first prediction among equals, and none without any.
    """
    pred, target = _checked(pred_P172, 2, "predicted 2D joints"), _checked(target_G172, 2, "true 2D joints")
    near = (np.abs(target[:, None, _COMPARED] - pred[None][:, :, _COMPARED]) < MATCH_PX).all(axis=-1)
    shared_GP = (near & (pred[:, _COMPARED] != 0).any(axis=-1)[None]).sum(axis=-1)
    found = np.full(len(target), -1)
    for g, shared in enumerate(shared_GP):
        if len(shared) and shared.max() > 0:
            found[g] = shared.argmax()
            shared_GP[:, found[g]] = -1  # taken
    return found


def rescale_bones(pred_N173: np.ndarray, target_N173: np.ndarray) -> np.ndarray:
    """The predictions with the true bones' lengths, from the pelvis outwards, along the predictions' own directions.

    A bone without length has no direction: it and all that hangs on it are infinite, which is a miss.
    """
    pred, target = _checked(pred_N173, 3, "predicted joints"), _checked(target_N173, 3, "true joints")
    found = pred.copy()
    for joint, parent in _PARENTS.items():
        j, p = MI17.index(joint), MI17.index(parent)
        direction = pred[:, j] - pred[:, p]
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        true_length = np.linalg.norm(target[:, j] - target[:, p], axis=1, keepdims=True)
        bone = np.divide(direction * true_length, length, out=np.full_like(direction, np.inf), where=length > 0)
        found[:, j] = found[:, p] + bone
    return found


def frame_distances(
    pred_P173: np.ndarray, pred_P172: np.ndarray, target_G173: np.ndarray, target_G172: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances (G, 14) mm of a frame's true persons from what they are matched with, MISSED_MM without, and which are matched (G,).

    3D joints may be anywhere: both sides' pelvis goes to the origin. Either side may be empty. ValueError for what is not finite.
    """
    pred, target = rooted(_checked(pred_P173, 3, "predicted joints")), rooted(_checked(target_G173, 3, "true joints"))
    if len(pred) != len(pred_P172) or len(target) != len(target_G172):
        raise ValueError(
            f"expected 2D joints of {len(pred)} predictions and {len(target)} persons, found {len(pred_P172)}, {len(target_G172)}"
        )
    partner = match_persons(pred_P172, target_G172)
    matched = partner >= 0
    apart = np.full((len(target), len(COUNTED)), MISSED_MM)
    rescaled = rescale_bones(pred[partner[matched]], target[matched])
    apart[matched] = np.linalg.norm(rescaled - target[matched], axis=2)[:, : len(COUNTED)]
    return apart, matched


def sequence_means(values_N: np.ndarray, sequences_N: np.ndarray) -> float | None:
    """The mean over sequences of their means over persons; a sequence without any figure has no part in it. None without any."""
    means = [values_N[(sequences_N == s) & ~np.isnan(values_N)] for s in np.unique(sequences_N)]
    means = [m.mean() for m in means if len(m)]
    return round(float(np.mean(means)), 4) if means else None


class Mupots(Protocol):
    """3DPCK and AUC, all and matched, and PA-MPJPE."""

    name = "mupots"
    truth = "17 joints (joints_cam) and those of the universal skeleton (joints_univ)"
    details = (
        "joints of the H36M regressor by name, annotated boxes; PA-MPJPE and MPJPE over 14 joints against annot3, means over persons "
        "(ours: no script is published); 3DPCK below 150 mm and AUC over 14 joints against univ_annot3, official 2D matching and bone "
        "lengths, means over sequences"
    )
    joints: ClassVar[tuple[str, ...]] = COUNTED

    def unfit(self, sample: Sample, instance: Instance) -> str | None:
        return "no truth" if lacks(instance, "joints_cam", MI17.joints) or lacks(instance, "joints_univ", MI17.joints) else None

    def measure(self, people: PredictedPeople, instances: Sequence[Instance], body: Body) -> Kept:
        joints = mi_joints_mm(people.vertices_BV3, body)
        pixels = project(joints / 1000 + people.transl_B3[:, None], people.focal_B2, people.princpt_B2)
        return {"pred": rooted(joints)[:, : len(COUNTED)], "pred_17": rooted(joints), "pred_img": pixels} | _truth(instances)

    def missed(self, instances: Sequence[Instance]) -> Kept | None:
        nothing = np.full((len(instances), len(MI17), 3), np.nan)
        return {"pred": nothing[:, : len(COUNTED)], "pred_17": nothing, "pred_img": nothing[..., :2]} | _truth(instances)

    def errors(self, kept: Kept, frames: Sequence[str]) -> PersonErrors:
        known = np.isfinite(kept["pred"]).all(axis=(1, 2))
        scored = joint_errors(kept["pred"][known], kept["target"][known], COUNTED)
        columns, joints = ({n: _spread(v, known) for n, v in part.items()} for part in (scored.columns, scored.joints))
        apart, matched = _distances_by_frame(kept, known, np.asarray(frames))
        only = {name: np.where(matched, share(apart).mean(axis=1), np.nan) for name, share in (("pck_matched", pck), ("auc_matched", auc))}
        return PersonErrors(COUNTED, columns, joints).with_pck(pck(apart), auc(apart)).with_columns(**only)

    def sequence(self, sample: Sample) -> str:
        return sequence_of(sample)

    def overall(self, errors: PersonErrors, sequences: np.ndarray) -> tuple[Errors, dict[str, JointErrors]]:
        """Millimetres are means over persons, PCK and AUC means over sequences."""
        means = {f"{name}_percent": sequence_means(100 * errors.column(name), sequences) for name in errors.SHARES}
        pck_N14 = 100 * errors.joints["pck"]
        joints = {
            name: found.model_copy(update={"pck_percent": sequence_means(pck_N14[:, j], sequences)})
            for j, (name, found) in enumerate(errors.joint_summary().items())
        }
        return errors.summary().model_copy(update=means), joints


def _truth(instances: Sequence[Instance]) -> Kept:
    cam, univ = (rooted(joints_of(instances, field, MI17.joints)) for field in ("joints_cam", "joints_univ"))
    return {"target": cam[:, : len(COUNTED)], "univ_17": univ, "target_img": joints_of(instances, "joints_img", MI17.joints)}


def _distances_by_frame(kept: Kept, known_N: np.ndarray, frames_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    apart, matched = np.full((len(frames_N), len(COUNTED)), MISSED_MM), np.zeros(len(frames_N), bool)
    order = np.argsort(frames_N, kind="stable")
    starts = np.flatnonzero(np.r_[True, frames_N[order][1:] != frames_N[order][:-1]])
    for frame in np.split(order, starts[1:]):
        mine = frame[known_N[frame]]
        apart[frame], matched[frame] = frame_distances(
            kept["pred_17"][mine], kept["pred_img"][mine], kept["univ_17"][frame], kept["target_img"][frame]
        )
    return apart, matched


def _spread(values: np.ndarray, known_N: np.ndarray) -> np.ndarray:
    """Rows put where their persons are; NaN for the others."""
    found = np.full((len(known_N), *values.shape[1:]), np.nan)
    found[known_N] = values
    return found


def _checked(joints: np.ndarray, size: int, what: str) -> np.ndarray:
    found = np.asarray(joints, np.float64)
    if found.ndim != 3 or found.shape[1:] != (len(MI17), size):
        raise ValueError(f"{what}: expected (persons, {len(MI17)}, {size}), found {found.shape}")
    if not np.isfinite(found).all():
        bad = np.flatnonzero(~np.isfinite(found).all(axis=(1, 2)))
        raise ValueError(f"{what}: {len(bad)} of {len(found)} persons are not finite (first: person {bad[0]})")
    return found
