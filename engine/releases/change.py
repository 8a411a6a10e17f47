"""How far two fits of one person lie apart: joints, rotations, and the pelvis on the photograph. Without the mesh, and without torch.

Rotations are unit quaternions, and every number has an axis of its own with the persons last, so that a thousand persons are one vector
operation. J = 24 kinematic joints in SMPL's order (Pelvis first), N persons; quaternions are (4, J, N), real part first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from engine.errors import EngineError
from engine.releases.store import Release
from schemas.skeletons import SMPL_PARENTS

_JOINTS = len(SMPL_PARENTS)
_LEVELS: list[list[int]] = [[0]]
while sum(map(len, _LEVELS)) < _JOINTS:
    _LEVELS.append([joint for joint in range(_JOINTS) if SMPL_PARENTS[joint] in _LEVELS[-1]])


class RestJoints(NamedTuple):
    """Kinematic joints of a body at rest, metres: those of the mean shape, and how they move with each beta."""

    mean_J3: np.ndarray
    shape_J3S: np.ndarray
    digest: str


class Bodies(NamedTuple):
    """Rest joints of the bodies of two releases, None where a body is not at hand; and why there are no millimetres or pixels."""

    a: RestJoints | None
    b: RestJoints | None
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether distances between the two releases' joints mean anything."""
        return self.a is not None and self.b is not None and self.a.digest == self.b.digest


class Change(NamedTuple):
    """What changed from a person's fit to another one: each (N,) float32, NaN where nobody can say.

    mm: mean distance of the 24 kinematic joints, pelvis on pelvis. degrees: mean angle of the 24 joint rotations, the global one among
    them. px: how far the projected pelvis moved on the photograph.
    """

    mm: np.ndarray
    degrees: np.ndarray
    px: np.ndarray


def open_bodies(a: Release, b: Release, smpl_dir: str | None = None) -> Bodies:
    """The bodies of two releases, as far as they are at hand; what is not is said in `notes`."""
    notes = []
    if (a.manifest.body, a.manifest.lineage.get("body")) != (b.manifest.body, b.manifest.lineage.get("body")):
        notes.append(
            f"no millimetres: one release is of the body {_name(a)}, the other of {_name(b)}, so distances between their joints "
            "mean nothing; angles are those of the parameters"
        )
    found = []
    for release in (a, b):
        try:
            found.append(_rest_joints(release, smpl_dir))
        except EngineError as error:
            found.append(None)
            notes.append(f"no millimetres and pixels: {error}")
    return Bodies(found[0], found[1], tuple(dict.fromkeys(notes)))


def _name(release: Release) -> str:
    return f"{release.manifest.body!r} ({release.manifest.lineage.get('body', 'of unknown digest')[:12]})"


def _rest_joints(release: Release, smpl_dir: str | None) -> RestJoints:
    from engine.body.config import BodyConfig
    from engine.body.smpl import load_body
    from engine.errors import ReleaseError

    kind = release.manifest.body
    if kind not in ("open", "smpl"):
        raise ReleaseError(f"{release.where}: is of the body {kind!r}, which is not known here")
    if kind == "smpl" and smpl_dir is None:
        raise ReleaseError(
            f"{release.where}: is of SMPL, which is to be had with --smpl_dir, smplx's model folder with your licensed files"
        )
    body = load_body(BodyConfig(kind=kind, smpl_dir=smpl_dir))
    if release.manifest.lineage.get("body") != body.digest:
        raise ReleaseError(f"{release.where}: expected its body {_name(release)}, found {kind!r} of the digest {body.digest[:12]}")
    return RestJoints(body.rest_joints.numpy(), body.rest_joints_shape.numpy(), body.digest)


def measure_change(a: pa.Table, b: pa.Table, bodies: Bodies) -> Change:
    """Change from each row of `a` to the row of `b` at the same place (PSEUDO_GT_SCHEMA, the same persons)."""
    count = a.num_rows
    nothing = np.full(count, np.nan, np.float32)
    if not count:
        return Change(nothing, nothing, nothing)
    turns = [quaternions(_columns(rows, "pose")) for rows in (a, b)]
    rests = [_rest(rows, body) for rows, body in ((a, bodies.a), (b, bodies.b))]
    mm = px = nothing
    if rests[0] is not None and rests[1] is not None:
        px = _length(_pelvis_px(a, rests[0]) - _pelvis_px(b, rests[1]))
        if bodies.same:
            moved_3JN = posed_joints(turns[0], rests[0]) - posed_joints(turns[1], rests[1])
            mm = 1000 * _length(moved_3JN).mean(0)
    degrees = np.rad2deg(angles_between(*turns)).mean(0)
    return Change(mm.astype(np.float32), degrees.astype(np.float32), px.astype(np.float32))


def quaternions(pose_XN: np.ndarray) -> np.ndarray:
    """Unit quaternions (4, J, N) of axis-angle poses (J * 3, N), radians."""
    vectors = pose_XN.reshape(_JOINTS, 3, -1).transpose(1, 0, 2)
    angle = _length(vectors)
    small = angle < 1e-6
    scale = np.where(small, 0.5, np.sin(angle / 2) / np.where(small, 1, angle))
    return np.concatenate([np.cos(angle / 2)[None], vectors * scale])


def angles_between(a_4JN: np.ndarray, b_4JN: np.ndarray) -> np.ndarray:
    """Angle (J, N) in [0, pi], radians, of the rotation from each quaternion to the other. Exact near 0 too, where an arc cosine is not."""
    real = (a_4JN * b_4JN).sum(0)
    turned = a_4JN[0] * b_4JN[1:] - b_4JN[0] * a_4JN[1:] - _cross(a_4JN[1:], b_4JN[1:])
    return 2 * np.arctan2(_length(turned), np.abs(real))


def posed_joints(turns_4JN: np.ndarray, rest_3JN: np.ndarray) -> np.ndarray:
    """Joints (3, J, N) of posed bodies, pelvis at the origin, in the unit of the joints at rest."""
    world, posed = np.empty_like(turns_4JN), np.zeros_like(rest_3JN)
    world[:, 0] = turns_4JN[:, 0]
    for level in _LEVELS[1:]:
        parents = [SMPL_PARENTS[joint] for joint in level]
        turn, bone = world[:, parents], rest_3JN[:, level] - rest_3JN[:, parents]
        posed[:, level] = posed[:, parents] + _rotate(turn, bone)
        world[:, level] = _product(turn, turns_4JN[:, level])
    return posed


def _rest(rows: pa.Table, body: RestJoints | None) -> np.ndarray | None:
    """Joints at rest (3, J, N) of the rows' shapes."""
    if body is None:
        return None
    moved = body.shape_J3S.transpose(1, 0, 2).reshape(3 * _JOINTS, -1) @ _columns(rows, "betas")
    return (body.mean_J3.T.reshape(-1, 1) + moved).reshape(3, _JOINTS, -1)


def _pelvis_px(rows: pa.Table, rest_3JN: np.ndarray) -> np.ndarray:
    """The projected pelvis (2, N). The pelvis is where the global rotation turns about, so the pose does not move it."""
    x_3N = (rest_3JN[:, 0] + _columns(rows, "transl")).astype(np.float64)
    return _columns(rows, "focal") * x_3N[:2] / x_3N[2] + _columns(rows, "princpt")


def _columns(rows: pa.Table, name: str) -> np.ndarray:
    """A column of vectors as (numbers, N), each number's values side by side."""
    flat = rows[name].combine_chunks().flatten().to_numpy()
    return np.ascontiguousarray(flat.reshape(rows.num_rows, -1).T)


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("i...,i...->...", vectors, vectors))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product: the rotation b, then a."""
    imaginary = a[0] * b[1:] + b[0] * a[1:] + _cross(a[1:], b[1:])
    return np.concatenate([(a[0] * b[0] - (a[1:] * b[1:]).sum(0))[None], imaginary])


def _rotate(turn: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    twice = 2 * _cross(turn[1:], vectors)
    return vectors + turn[0] * twice + _cross(turn[1:], twice)
