"""Metrics against scipy's optimiser and Procrustes, roma's registration, quaternions and loops; their invariances; degenerate input."""

import numpy as np
import pytest
import roma
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from engine.evaluation.metrics import align_similarity, auc, distances, mpjpe, mpvpe, pa_mpjpe, pa_mpvpe, pck, per_axis_errors
from tests.engine.evaluation import second

SHAPES = {
    "as it is": [1, 1, 1], "mirrored": [-1, 1, 1], "planar": [1, 1, 0], "mirrored and planar": [-1, 1, 0], "collinear": [0, 1, 0],
    "zero size": [0, 0, 0],
}  # fmt: skip


def _poses(seed: int, persons: int = 6, points: int = 14, noise: float = 80.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 300, (persons, points, 3))
    return target + rng.normal(0, noise, target.shape), target


def test_mpjpe_is_the_mean_distance():
    pred, target = np.zeros((1, 2, 3)), np.array([[[3.0, 4, 0], [0, 0, 12]]])
    assert mpjpe(pred, target) == pytest.approx([8.5])
    assert mpvpe(pred, target) == pytest.approx([8.5])


@pytest.mark.parametrize("noise", [1.0, 80.0, 1000.0])
def test_pa_mpjpe_agrees_with_roma(noise):
    pred, target = _poses(1, persons=40, noise=noise)
    rotation, translation, scale = roma.rigid_points_registration(torch.tensor(pred), torch.tensor(target), compute_scaling=True)
    moved = scale[:, None, None] * torch.einsum("bij,bnj->bni", rotation, torch.tensor(pred)) + translation[:, None]
    expected = (moved - torch.tensor(target)).norm(dim=2).mean(dim=1).numpy()
    np.testing.assert_allclose(pa_mpjpe(pred, target), expected, atol=0.01)


def test_alignment_agrees_with_scipy_procrustes_where_no_reflection_is_involved():
    pred, target = _poses(2, persons=1)
    standard_target, standard_pred, _ = procrustes(target[0], pred[0])
    centred = target[0] - target[0].mean(0)
    np.testing.assert_allclose(align_similarity(pred, target)[0] - target[0].mean(0), standard_pred * np.linalg.norm(centred), atol=1e-6)
    np.testing.assert_allclose(standard_target * np.linalg.norm(centred), centred, atol=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
def test_pa_mpjpe_agrees_with_explicit_optimisation(mirrored):
    pred, target = _poses(3, persons=3)
    if mirrored:
        pred = pred * [-1.0, 1, 1]

    def residual(x, p, t):
        return (np.exp(x[6]) * Rotation.from_rotvec(x[:3]).apply(p) + 100 * x[3:6] - t).ravel()

    for p, t, found in zip(pred, target, pa_mpjpe(pred, target), strict=True):
        starts = [np.r_[Rotation.random(random_state=i).as_rotvec(), np.zeros(4)] for i in range(12)]
        best = min((least_squares(residual, x, args=(p, t), xtol=1e-14, ftol=1e-14) for x in starts), key=lambda r: r.cost)
        expected = np.linalg.norm(residual(best.x, p, t).reshape(-1, 3), axis=1).mean()
        assert found == pytest.approx(expected, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(0.05, 20),
    shift=st.lists(st.floats(-5000, 5000), min_size=3, max_size=3),
)
def test_pa_errors_do_not_change_under_similarity_transforms_of_the_prediction(seed, scale, shift):
    pred, target = _poses(seed % 1000, persons=3)
    turned = Rotation.random(random_state=seed).apply(pred.reshape(-1, 3)).reshape(pred.shape) * scale + shift
    np.testing.assert_allclose(pa_mpjpe(turned, target), pa_mpjpe(pred, target), atol=1e-5)
    np.testing.assert_allclose(per_axis_errors(turned, target), per_axis_errors(pred, target), atol=1e-5)
    same = Rotation.random(random_state=seed).apply(target.reshape(-1, 3)).reshape(pred.shape) * scale + shift
    np.testing.assert_allclose(pa_mpvpe(same, target), 0, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), points=st.integers(1, 30))
def test_alignment_never_loses_to_centring_in_squares_and_axes_bound_distances(seed, points):
    pred, target = _poses(seed, persons=4, points=points)
    aligned = align_similarity(pred, target)
    centred = pred - pred.mean(1, keepdims=True) + target.mean(1, keepdims=True)
    assert (((aligned - target) ** 2).sum((1, 2)) <= ((centred - target) ** 2).sum((1, 2)) + 1e-6).all()
    axes, distance = per_axis_errors(pred, target), pa_mpjpe(pred, target)
    assert (axes.max(1) <= distance + 1e-9).all() and (distance <= axes.sum(1) + 1e-9).all()


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    points=st.integers(3, 17),
    noise=st.sampled_from([0.0, 20.0, 400.0]),
    of_pred=st.sampled_from(list(SHAPES)),
    of_target=st.sampled_from(list(SHAPES)),
)
def test_alignment_agrees_with_quaternions_on_whatever_shape(seed, points, noise, of_pred, of_target):
    pred, target = _poses(seed, persons=2, points=points, noise=noise)
    turn = Rotation.random(2, random_state=seed).as_matrix()
    pred, target = pred * np.array(SHAPES[of_pred], float) @ turn[0], target * np.array(SHAPES[of_target], float) @ turn[1]
    found = align_similarity(pred, target)
    expected = np.stack([second.aligned(p, t) for p, t in zip(pred, target, strict=True)])
    np.testing.assert_allclose(((found - target) ** 2).sum((1, 2)), ((expected - target) ** 2).sum((1, 2)), rtol=1e-6, atol=1e-4)
    unique = points > 4 and "mirrored" not in (of_pred + of_target)  # elsewhere several transforms may be equally good
    if unique and of_target in ("as it is", "zero size"):
        np.testing.assert_allclose(pa_mpjpe(pred, target), [second.pa(p, t) for p, t in zip(pred, target, strict=True)], atol=1e-4)
        axes = [np.abs(e - t).mean(0) for e, t in zip(expected, target, strict=True)]
        np.testing.assert_allclose(per_axis_errors(pred, target), axes, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.floats(0, 400), st.integers(0, 32).map(lambda k: 5.0 * k), st.just(np.inf)), min_size=1, max_size=17))
def test_pck_and_auc_agree_with_loops(apart):
    row = np.array([apart])
    assert pck(row).mean() == pytest.approx(second.pck(apart)) and auc(row).mean() == pytest.approx(second.auc(apart))
    assert pck(row, 50).mean() == pytest.approx(second.pck(apart, 50)) and (auc(row) <= pck(row)).all()


def test_pck_is_strict_and_wants_distances():
    assert pck(np.array([[149.999, 150.0, 0.0]])).tolist() == [[1, 0, 1]]
    assert auc(np.array([[0.0, 150.0]])).tolist() == [[30 / 31, 0]]
    for share in (pck, auc):
        with pytest.raises(ValueError, match="1 of 2 distances are NaN"):
            share(np.array([[1.0, np.nan]]))
    pred, target = _poses(0)
    np.testing.assert_allclose(distances(pred, target)[0], second.apart(pred[0], target[0]))


def test_a_mirrored_prediction_is_not_forgiven():
    _, target = _poses(4)
    assert (pa_mpjpe(target * [-1.0, 1, 1], target) > 50).all()


def test_degenerate_inputs_stay_finite():
    _, target = _poses(5, persons=1)
    point = np.full_like(target, 7.0)
    expected = np.linalg.norm(target - target.mean(1, keepdims=True), axis=2).mean(1)
    np.testing.assert_allclose(pa_mpjpe(point, target), expected)
    np.testing.assert_allclose(pa_mpjpe(target, point), 0, atol=1e-9)
    line = np.linspace(0, 100, 14)[None, :, None] * np.ones(3)
    np.testing.assert_allclose(pa_mpjpe(line * [1.0, 0, 0], line), 0, atol=1e-6)
    flat = target * [1.0, 1, 0]
    np.testing.assert_allclose(pa_mpjpe(flat * [-1.0, 1, 1], flat), 0, atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(bad):
    pred, target = _poses(6)
    pred[2, 3, 1] = bad
    with pytest.raises(ValueError, match=r"prediction of 1 of 6 persons is not finite \(first: person 2\)"):
        pa_mpjpe(pred, target)


def test_shapes_that_differ_are_named():
    with pytest.raises(ValueError, match="found"):
        mpjpe(np.zeros((2, 14, 3)), np.zeros((2, 17, 3)))
