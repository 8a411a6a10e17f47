"""The 49 joints of SPIN's files: 25 of OpenPose and 24 of annotated datasets, the same that EFT's and CLIFF's files have.

Source: the joint lists of SPIN (Kolotouros et al., ICCV 2019).
"""

from __future__ import annotations

import numpy as np

from schemas.sample import Instance, Sample
from schemas.skeletons import SKELETONS

OPENPOSE = 25
_LEGS = ("R_Ankle", "R_Knee", "R_Hip", "L_Hip", "L_Knee", "L_Ankle")
_ARMS = ("R_Wrist", "R_Elbow", "R_Shoulder", "L_Shoulder", "L_Elbow", "L_Wrist")
_FACE = ("Nose", "L_Eye", "R_Eye", "L_Ear", "R_Ear")
ANNOTATED_24 = (*_LEGS, *_ARMS, "Neck", "Head_top", "Pelvis", "Thorax", "H36M_Spine", "H36M_Jaw", "H36M_Head", *_FACE)
"""Joints 25 to 48, by our names; those of Human3.6M that lie elsewhere than the others' of the same name are named apart."""
_H36M = {"Torso": "H36M_Spine", "Head": "H36M_Jaw", "Head_top": "H36M_Head"}
_OF_SKELETON = {name: _H36M for name in ("h36m17", "mi17", "muco21")}
_NOT_THE_SAME = {"smpl24": {"Neck", "Head"}}
"""SMPL's neck is not LSP's: such joints are left out."""


def part_24(instance: Instance) -> np.ndarray:
    """(24, 3) x, y, px of the photograph, and 1 where annotated, in SPIN's order; zeros where not."""
    skeleton = SKELETONS[instance.skeleton]
    names, absent = _OF_SKELETON.get(skeleton.name, {}), _NOT_THE_SAME.get(skeleton.name, ())
    part = np.zeros((len(ANNOTATED_24), 3))
    for name, xy, valid in zip(skeleton.joints, instance.joints_img, instance.joints_valid, strict=True):
        named = names.get(name, name)
        if valid and name not in absent and named in ANNOTATED_24:
            part[ANNOTATED_24.index(named)] = (*xy, 1)
    return part


def centre_scale(instance: Instance) -> tuple[np.ndarray, float]:
    """Centre (2,) px of the annotated box, and 1.2 times its longer side in units of 200 px."""
    x, y, w, h = instance.bbox_xywh
    return np.array([x + w / 2, y + h / 2]), 1.2 * max(w, h) / 200


def image_name(sample: Sample) -> str:
    """The photograph's path in its dataset, which SPIN's and CLIFF's files call `imgname`."""
    return sample.image_path
