"""Skeletons: names, flips and mapping by name."""

from __future__ import annotations

import pytest

from schemas.skeletons import COCO17, EVAL14, H36M17, POSE2POSE25, POSE2POSE33, SKELETONS, SMPL24, SMPL_PARENTS, shared_joints


def test_published_flip_pairs() -> None:
    pairs = lambda s: {(i, j) for i, j in enumerate(s.flip_permutation) if i < j}  # noqa: E731
    assert pairs(POSE2POSE33) == {
        (1, 2),
        (3, 4),
        (5, 6),
        (8, 9),
        (10, 11),
        (12, 13),
        (14, 18),
        (15, 19),
        (16, 20),
        (17, 21),
        (23, 24),
        (25, 26),
        (27, 30),
        (28, 31),
        (29, 32),
    }
    assert pairs(H36M17) == {(1, 4), (2, 5), (3, 6), (11, 14), (12, 15), (13, 16)}
    assert pairs(SMPL24) == {(1, 2), (4, 5), (7, 8), (10, 11), (13, 14), (16, 17), (18, 19), (20, 21), (22, 23)}
    assert pairs(COCO17) == {(i, i + 1) for i in range(1, 17, 2)}


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_flipping_twice_changes_nothing(skeleton) -> None:
    p = skeleton.flip_permutation
    assert [p[p[i]] for i in range(len(p))] == list(range(len(p)))


def test_sizes_and_the_14_scored_joints() -> None:
    assert [len(s) for s in (POSE2POSE33, POSE2POSE25, H36M17, COCO17, SMPL24)] == [33, 25, 17, 17, 24]
    assert [H36M17.index(n) for n in EVAL14] == [1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 16]


def test_parents_come_before_their_children() -> None:
    assert len(SMPL_PARENTS) == 24 and all(p < i for i, p in enumerate(SMPL_PARENTS))


def test_shared_joints_carry_equal_names() -> None:
    source, target = shared_joints("h36m17", "pose2pose33")
    names = [POSE2POSE33.joints[t] for t in target]
    assert names == [H36M17.joints[s] for s in source]
    assert "Torso" not in names and "Neck" in names and len(names) == 14


def test_unknown_joint_is_named() -> None:
    with pytest.raises(KeyError, match="Tail"):
        COCO17.index("Tail")
