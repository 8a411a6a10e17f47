"""How far two fits lie apart, against the body's own kinematics, smplx and SciPy's rotations."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from smplx.lbs import batch_rigid_transform, batch_rodrigues

from engine.body.config import BodyConfig
from engine.body.smpl import Body, load_body
from engine.releases.change import Bodies, RestJoints, angles_between, measure_change, open_bodies, quaternions
from engine.storage import Store
from schemas.skeletons import SMPL_PARENTS
from tests.engine.releases.conftest import publish_tables, random_rows


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body(BodyConfig())


def _bodies(body: Body) -> Bodies:
    rest = RestJoints(body.rest_joints.numpy(), body.rest_joints_shape.numpy(), body.digest)
    return Bodies(rest, rest, ())


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    return np.array(rows[name].to_pylist(), np.float64)


def _joints(body: Body, rows: pa.Table) -> np.ndarray:
    """smplx's own kinematics in float64: posed joints (N, 24, 3)."""
    pose, betas = (torch.from_numpy(_numbers(rows, name)) for name in ("pose", "betas"))
    rest = body.rest_joints.double() + torch.einsum("bs,jcs->bjc", betas, body.rest_joints_shape.double())
    turns = batch_rodrigues(pose.reshape(-1, 3)).view(-1, 24, 3, 3)
    return batch_rigid_transform(turns, rest, torch.tensor([0, *SMPL_PARENTS[1:]]))[0].numpy()


def test_millimetres_degrees_and_pixels(body: Body) -> None:
    a, b = random_rows(0, 50), random_rows(1, 50)
    change = measure_change(a, b, _bodies(body))
    first, second = _joints(body, a), _joints(body, b)
    moved = np.linalg.norm((first - first[:, :1]) - (second - second[:, :1]), axis=-1).mean(1) * 1000
    np.testing.assert_allclose(change.mm, moved, atol=0.005)
    turns = [Rotation.from_rotvec(_numbers(rows, "pose").reshape(-1, 3)) for rows in (a, b)]
    np.testing.assert_allclose(change.degrees, np.rad2deg((turns[0].inv() * turns[1]).magnitude()).reshape(50, 24).mean(1), atol=1e-4)
    pixels = []
    for rows, joints in ((a, first), (b, second)):
        pelvis = joints[:, 0] + _numbers(rows, "transl")
        pixels.append(_numbers(rows, "focal") * pelvis[:, :2] / pelvis[:, 2:] + _numbers(rows, "princpt"))
    np.testing.assert_allclose(change.px, np.linalg.norm(pixels[0] - pixels[1], axis=1), atol=0.005)


def test_the_joints_are_those_of_the_body(body: Body) -> None:
    a, b = random_rows(2, 20), random_rows(3, 20)
    joints = []
    for rows in (a, b):
        pose, betas = (torch.from_numpy(_numbers(rows, name)).float() for name in ("pose", "betas"))
        joints.append((posed := body(pose, betas).joints_B243) - posed[:, :1])
    moved = (joints[0] - joints[1]).norm(dim=-1).mean(1) * 1000
    np.testing.assert_allclose(measure_change(a, b, _bodies(body)).mm, moved, atol=0.01)


vectors = st.lists(st.floats(-7, 7, width=32), min_size=72, max_size=72)


@settings(max_examples=50, deadline=None)
@given(a=vectors, b=vectors)
def test_angles_of_any_rotation_vectors(a: list[float], b: list[float]) -> None:
    """Angles beyond pi too, which are other names of smaller ones."""
    first, second = (np.array(v, np.float32) for v in (a, b))
    found = angles_between(quaternions(first[:, None]), quaternions(second[:, None]))[:, 0]
    turns = [Rotation.from_rotvec(v.astype(np.float64).reshape(24, 3)) for v in (first, second)]
    np.testing.assert_allclose(found, (turns[0].inv() * turns[1]).magnitude(), atol=3e-6)


def test_nothing_moved_is_exactly_nothing_and_little_is_little(body: Body) -> None:
    a = random_rows(4, 10)
    assert not any(values.any() for values in measure_change(a, a, _bodies(body)))
    at = a.schema.get_field_index("pose")
    pose = _numbers(a, "pose")
    pose[:, 3:6] = 0
    start = a.set_column(at, a.schema.field(at), pa.array(list(pose.astype(np.float32)), a.schema.field(at).type))
    pose[:, 3] = np.deg2rad(0.001)
    turned = a.set_column(at, a.schema.field(at), pa.array(list(pose.astype(np.float32)), a.schema.field(at).type))
    np.testing.assert_allclose(measure_change(start, turned, _bodies(body)).degrees, 0.001 / 24, rtol=1e-3)


def test_bodies_that_differ_or_are_not_at_hand(body: Body) -> None:
    store = Store("memory://bodies")
    ours = publish_tables(store, "ours", {"x": random_rows(0, 3)}, body="x")
    ours = type(ours)(store, ours.manifest.model_copy(update={"lineage": ours.manifest.lineage | {"body": body.digest}}), ours.digest)
    smpl = type(ours)(store, ours.manifest.model_copy(update={"body": "smpl", "lineage": {"body": "5" * 64}}), ours.digest)
    assert open_bodies(ours, ours).same and not open_bodies(ours, ours).notes
    found = open_bodies(ours, smpl)
    assert not found.same and found.a is not None and found.b is None
    assert "one release is of the body 'open'" in found.notes[0] and "--smpl_dir" in found.notes[1]
    change = measure_change(random_rows(0, 5), random_rows(1, 5), found)
    assert np.isnan(change.mm).all() and np.isnan(change.px).all() and (change.degrees > 0).all()
    shifted = Bodies(found.a, found.a._replace(digest="other"), ())
    change = measure_change(random_rows(0, 5), random_rows(1, 5), shifted)
    assert np.isnan(change.mm).all() and (change.px > 0).all()
    edited = open_bodies(ours, type(ours)(store, ours.manifest.model_copy(update={"lineage": {"body": "4" * 64}}), ours.digest))
    assert edited.b is None and "expected its body 'open' (444444444444), found 'open' of the digest" in edited.notes[1]
