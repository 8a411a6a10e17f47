"""The sets of joints in use, by name.

Joints travel between skeletons by name and never by position, so an index that appears in code always comes from
`Skeleton.index`. Names are Pose2Pose's ("L_Hip"); a dataset's own spelling is translated in its loader.
"""

from __future__ import annotations

from functools import cache

from schemas.skeleton import Skeleton


def _limbs(*extra: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    sides = [
        (f"{s}_{a}", f"{s}_{b}") for s in "LR" for a, b in (("Hip", "Knee"), ("Knee", "Ankle"), ("Shoulder", "Elbow"), ("Elbow", "Wrist"))
    ]
    return tuple(sides) + extra


_FINGERS = ("Index_1", "Middle_1", "Ring_1", "Pinky_1")
_FEET = ("Big_toe", "Small_toe", "Heel")
_LEGS_AND_ARMS = (
    "Pelvis",
    "L_Hip",
    "R_Hip",
    "L_Knee",
    "R_Knee",
    "L_Ankle",
    "R_Ankle",
    "Neck",
    "L_Shoulder",
    "R_Shoulder",
    "L_Elbow",
    "R_Elbow",
    "L_Wrist",
    "R_Wrist",
)
_TORSO = (("Pelvis", "L_Hip"), ("Pelvis", "R_Hip"), ("Pelvis", "Neck"), ("Neck", "L_Shoulder"), ("Neck", "R_Shoulder"), ("Neck", "Nose"))
_FACE = (("Nose", "L_Eye"), ("Nose", "R_Eye"), ("L_Eye", "L_Ear"), ("R_Eye", "R_Ear"))
_FEET_BONES = tuple((f"{s}_Ankle", f"{s}_{part}") for s in "LR" for part in _FEET)
_HAND_BONES = tuple((f"{s}_Wrist", f"{s}_{part}") for s in "LR" for part in _FINGERS)

POSE2POSE33 = Skeleton(
    "pose2pose33",
    _LEGS_AND_ARMS
    + tuple(f"L_{f}" for f in _FINGERS)
    + tuple(f"R_{f}" for f in _FINGERS)
    + ("Nose", "L_Eye", "R_Eye", "L_Ear", "R_Ear")
    + tuple(f"L_{f}" for f in _FEET)
    + tuple(f"R_{f}" for f in _FEET),
    _limbs(*_TORSO, *_FACE, *_FEET_BONES, *_HAND_BONES),
)
"""What f and g are supervised on (Pose2Pose's joint set)."""

POSE2POSE25 = Skeleton(
    "pose2pose25",
    _LEGS_AND_ARMS + tuple(f"L_{f}" for f in _FEET) + tuple(f"R_{f}" for f in _FEET) + ("L_Ear", "R_Ear", "L_Eye", "R_Eye", "Nose"),
    _limbs(*_TORSO, *_FACE, *_FEET_BONES),
)
"""What PositionNet localises."""

H36M17 = Skeleton(
    "h36m17",
    (
        "Pelvis",
        "R_Hip",
        "R_Knee",
        "R_Ankle",
        "L_Hip",
        "L_Knee",
        "L_Ankle",
        "Torso",
        "Neck",
        "Head",
        "Head_top",
        "L_Shoulder",
        "L_Elbow",
        "L_Wrist",
        "R_Shoulder",
        "R_Elbow",
        "R_Wrist",
    ),
    _limbs(
        ("Pelvis", "R_Hip"),
        ("Pelvis", "L_Hip"),
        ("Pelvis", "Torso"),
        ("Torso", "Neck"),
        ("Neck", "Head"),
        ("Head", "Head_top"),
        ("Neck", "L_Shoulder"),
        ("Neck", "R_Shoulder"),
    ),
)

EVAL14 = tuple(name for name in H36M17.joints if name not in ("Pelvis", "Torso", "Head"))
"""The 14 joints of H36M17 that the 3DPW protocol scores."""

COCO17 = Skeleton(
    "coco17",
    (
        "Nose",
        "L_Eye",
        "R_Eye",
        "L_Ear",
        "R_Ear",
        "L_Shoulder",
        "R_Shoulder",
        "L_Elbow",
        "R_Elbow",
        "L_Wrist",
        "R_Wrist",
        "L_Hip",
        "R_Hip",
        "L_Knee",
        "R_Knee",
        "L_Ankle",
        "R_Ankle",
    ),
    _limbs(("L_Hip", "R_Hip"), ("L_Shoulder", "R_Shoulder"), ("L_Shoulder", "L_Hip"), ("R_Shoulder", "R_Hip"), *_FACE),
    root=None,
)

SMPL24 = Skeleton(
    "smpl24",
    (
        "Pelvis",
        "L_Hip",
        "R_Hip",
        "Torso",
        "L_Knee",
        "R_Knee",
        "Spine",
        "L_Ankle",
        "R_Ankle",
        "Chest",
        "L_Foot",
        "R_Foot",
        "Neck",
        "L_Collar",
        "R_Collar",
        "Head",
        "L_Shoulder",
        "R_Shoulder",
        "L_Elbow",
        "R_Elbow",
        "L_Wrist",
        "R_Wrist",
        "L_Hand",
        "R_Hand",
    ),
    _limbs(
        ("Pelvis", "L_Hip"),
        ("Pelvis", "R_Hip"),
        ("Pelvis", "Torso"),
        ("Torso", "Spine"),
        ("Spine", "Chest"),
        ("Chest", "Neck"),
        ("Chest", "L_Collar"),
        ("Chest", "R_Collar"),
        ("L_Collar", "L_Shoulder"),
        ("R_Collar", "R_Shoulder"),
        ("Neck", "Head"),
        ("L_Ankle", "L_Foot"),
        ("R_Ankle", "R_Foot"),
        ("L_Wrist", "L_Hand"),
        ("R_Wrist", "R_Hand"),
    ),
)
"""SMPL's kinematic joints, in the order of its pose vector."""

SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
"""Parent of each SMPL24 joint; the root has none (-1)."""

_LSP_LIMBS = ("R_Ankle", "R_Knee", "R_Hip", "L_Hip", "L_Knee", "L_Ankle")
_LSP_ARMS = ("R_Wrist", "R_Elbow", "R_Shoulder", "L_Shoulder", "L_Elbow", "L_Wrist")
_NO_PELVIS = (("L_Hip", "R_Hip"), ("L_Shoulder", "R_Shoulder"), ("L_Shoulder", "L_Hip"), ("R_Shoulder", "R_Hip"))

LSP14 = Skeleton("lsp14", (*_LSP_LIMBS, *_LSP_ARMS, "Neck", "Head_top"), _limbs(*_NO_PELVIS, ("Neck", "Head_top")), root=None)
"""LSP and LSPET, and UP-3D's 2D joints."""

MPII16 = Skeleton(
    "mpii16",
    (*_LSP_LIMBS, "Pelvis", "Thorax", "Neck", "Head_top", *_LSP_ARMS),
    _limbs(
        ("Pelvis", "L_Hip"),
        ("Pelvis", "R_Hip"),
        ("Pelvis", "Thorax"),
        ("Thorax", "Neck"),
        ("Neck", "Head_top"),
        ("Thorax", "L_Shoulder"),
        ("Thorax", "R_Shoulder"),
    ),
)
"""MPII, by its joint ids; its "upper neck" is Neck."""

CROWDPOSE14 = Skeleton(
    "crowdpose14",
    (
        "L_Shoulder",
        "R_Shoulder",
        "L_Elbow",
        "R_Elbow",
        "L_Wrist",
        "R_Wrist",
        "L_Hip",
        "R_Hip",
        "L_Knee",
        "R_Knee",
        "L_Ankle",
        "R_Ankle",
        "Head_top",
        "Neck",
    ),
    _limbs(*_NO_PELVIS, ("Neck", "Head_top")),
    root=None,
)

COCO_WHOLEBODY32 = Skeleton(
    "coco_wholebody32",
    (
        *COCO17.joints,
        "Pelvis",
        *(f"{s}_{part}" for s in "LR" for part in _FEET),
        *(f"{s}_{part}" for s in "LR" for part in _FINGERS),
    ),
    COCO17.bones + _FEET_BONES + _HAND_BONES,
)
"""COCO-WholeBody as the authors read it: the middle of the hips, feet, and the first joint of four fingers (H4W data/MSCOCO)."""

MI17 = Skeleton(
    "mi17",
    (
        "Head_top",
        "Neck",
        "R_Shoulder",
        "R_Elbow",
        "R_Wrist",
        "L_Shoulder",
        "L_Elbow",
        "L_Wrist",
        "R_Hip",
        "R_Knee",
        "R_Ankle",
        "L_Hip",
        "L_Knee",
        "L_Ankle",
        "Pelvis",
        "Torso",
        "Head",
    ),
    H36M17.bones,
)
"""MPI-INF-3DHP's 17 relevant joints, and MuPoTS-3D's."""

MUCO21 = Skeleton(
    "muco21",
    (*MI17.joints, "R_Hand", "L_Hand", "R_Toe", "L_Toe"),
    MI17.bones + tuple((f"{s}_{a}", f"{s}_{b}") for s in "LR" for a, b in (("Wrist", "Hand"), ("Ankle", "Toe"))),
)

INSTAVARIETY25 = Skeleton(
    "instavariety25",
    (
        "R_Heel",
        *_LSP_LIMBS[1:5],
        "L_Heel",
        *_LSP_ARMS,
        "Neck",
        "Head_top",
        "Nose",
        "L_Eye",
        "R_Eye",
        "L_Ear",
        "R_Ear",
        "L_Big_toe",
        "R_Big_toe",
        "L_Small_toe",
        "R_Small_toe",
        "L_Ankle",
        "R_Ankle",
    ),
    _limbs(*_NO_PELVIS, ("Neck", "Nose"), *_FACE, *_FEET_BONES),
    root=None,
)
"""InstaVariety's 14 joints, whose first and sixth are heels, its 5 of the face and its 6 of the feet."""

SKELETONS: dict[str, Skeleton] = {
    s.name: s
    for s in (
        POSE2POSE33,
        POSE2POSE25,
        H36M17,
        COCO17,
        COCO_WHOLEBODY32,
        SMPL24,
        LSP14,
        MPII16,
        CROWDPOSE14,
        MI17,
        MUCO21,
        INSTAVARIETY25,
    )
}


@cache
def shared_joints(source: str, target: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Index pairs (source indices, target indices) of the joints two skeletons share by name, in the target's order.

    `target_BTx[:, t] = source_BSx[:, s]` copies every shared joint; what the source lacks stays as it was.
    """
    src, dst = SKELETONS[source], SKELETONS[target]
    names = [n for n in dst.joints if n in src]
    return tuple(src.index(n) for n in names), tuple(dst.index(n) for n in names)
