from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from engine.models.iterative_regressor import MEAN_CAMERA, Estimate, MeanPerson, RegressorStep


def test_three_steps_against_an_unrolled_numpy_computation() -> None:
    torch.manual_seed(0)
    step = RegressorStep(feature_dim=20, hidden=16).eval().double()
    features = torch.randn(3, 20, dtype=torch.float64)
    start = [torch.randn(3, n, dtype=torch.float64) for n in (144, 10, 3)]
    estimate = Estimate(*start)
    for _ in range(3):
        estimate = step(features, estimate)

    w = {name: value.numpy() for name, value in step.state_dict().items()}
    state = np.concatenate([x.numpy() for x in start], axis=1)
    heads = np.concatenate([w["pose.weight"], w["betas.weight"], w["camera.weight"]])
    head_biases = np.concatenate([w["pose.bias"], w["betas.bias"], w["camera.bias"]])
    for _ in range(3):
        x = np.concatenate([features.numpy(), state], axis=1)
        x = x @ w["fc1.weight"].T + w["fc1.bias"]  # no activation here, as in the authors' code
        x = x @ w["fc2.weight"].T + w["fc2.bias"]
        state = state + x @ heads.T + head_biases
    np.testing.assert_allclose(torch.cat(tuple(estimate), dim=1).detach().numpy(), state, atol=1e-12)


def test_output_layers_start_small_and_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    step = RegressorStep(feature_dim=32, hidden=64)
    for output in (step.pose, step.betas, step.camera):
        assert 0 < output.weight.abs().max() <= 0.01 * np.sqrt(6 / (64 + output.out_features))
    mean, features = MeanPerson()(2), torch.randn(2, 32)
    assert not torch.equal(step(features, mean).pose_B144, step(features, mean).pose_B144)
    step.eval()
    assert torch.equal(step(features, mean).pose_B144, step(features, mean).pose_B144)


def test_gradients_pass_through_every_iteration() -> None:
    """The gradient of the last estimate by the first one is that of all steps: not the identity, as a detached iteration would give."""
    torch.manual_seed(0)
    step = RegressorStep(feature_dim=4, hidden=8).eval()
    start = torch.zeros(1, 144, requires_grad=True)
    estimate = Estimate(start, torch.zeros(1, 10), torch.zeros(1, 3))
    for _ in range(3):
        estimate = step(torch.ones(1, 4), estimate)
    (gradient,) = torch.autograd.grad(estimate.pose_B144[0, 5], start)
    assert gradient[0, 5] != 0 and (gradient[0, :5] != 0).all()


def test_the_mean_person_is_upright_in_the_interleaved_layout() -> None:
    mean = MeanPerson()
    estimate = mean(2)
    assert set(mean.state_dict()) == {"pose", "betas", "camera"}
    assert estimate.camera_B3[1].tolist() == pytest.approx(MEAN_CAMERA)
    expected = np.tile(np.eye(3), (24, 1, 1))
    expected[0] = Rotation.from_rotvec([np.pi, 0, 0]).as_matrix()
    np.testing.assert_allclose(estimate.rotmats_B2433[0].numpy(), expected, atol=1e-7)

    rotmats = Rotation.from_rotvec(np.random.default_rng(0).normal(size=(24, 3))).as_matrix()
    mean.set_average(rotmats, np.arange(10))
    np.testing.assert_allclose(mean(1).rotmats_B2433[0, 1:].numpy(), rotmats[1:], atol=1e-6)
    np.testing.assert_allclose(mean.pose.unflatten(0, (24, 6))[7].numpy(), rotmats[7][:, :2].ravel(), atol=1e-7)  # even: first column
    np.testing.assert_allclose(mean(1).rotmats_B2433[0, 0].numpy(), expected[0], atol=1e-7)
    assert mean.betas.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("rotmats", "betas", "word"),
    [
        (np.eye(3), np.zeros(10), "24, 3, 3"),
        (np.tile(np.eye(3), (24, 1, 1)), np.full(10, np.nan), "betas"),
        (np.tile(np.eye(3) * 0.5, (24, 1, 1)), np.zeros(10), "rotation matrices"),
        (np.tile(np.diag([1.0, 1.0, -1.0]), (24, 1, 1)), np.zeros(10), "rotation matrices"),
    ],
)
def test_a_mean_that_is_none_is_refused(rotmats: np.ndarray, betas: np.ndarray, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        MeanPerson().set_average(rotmats, betas)
