"""The energy of a fit against a second implementation, in numpy, from the pose as it is written and the mesh."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.fitting import KINDS, first, people
from engine.annotators.fitting.config import FitConfig
from engine.annotators.fitting.fit import fit_persons
from engine.annotators.fitting.problem import FAR_PX, Observed, as_target
from engine.body.cameras import project
from engine.body.config import BodyConfig
from engine.body.pose_prior import PriorConfig, load_prior
from engine.body.smpl import load_body
from schemas.skeletons import SMPL24


@pytest.mark.parametrize("crop_height", [256, 512])
def test_energy_is_what_it_says(crop_height: int) -> None:
    """In pixels of a crop 256 high, whatever the crop's height."""
    body, prior, scale = load_body(BodyConfig()), load_prior(PriorConfig()), crop_height / 256
    seen = first(people(body, 6, KINDS[3]).observed, 6)
    weight = seen.weight_NJ * torch.linspace(0.2, 1, 33)
    observed = Observed(seen.joints_NJ2 * scale, weight, seen.focal * scale, seen.princpt * scale)
    config = FitConfig(slots=32)
    fitted = fit_persons(body, prior, observed, config)
    last = config.stages[-1]

    vertices = body(fitted.pose_N72, fitted.betas_N10, fitted.transl_N3).vertices_BV3
    joints = body.regress(vertices, "pose2pose33").double().numpy()
    pixels = project(joints, seen.focal.numpy()[None], seen.princpt.numpy()[None])
    square = (pixels - seen.joints_NJ2.double().numpy()) ** 2
    data = (weight.numpy()[..., None] ** 2 * last.robust_px**2 * square / (last.robust_px**2 + square)).sum((1, 2))
    pose = fitted.pose_N72.double().numpy()
    bends = [
        pose[:, 3 * SMPL24.index("L_Elbow") + 1],
        -pose[:, 3 * SMPL24.index("R_Elbow") + 1],
        -pose[:, 3 * SMPL24.index("L_Knee")],
        -pose[:, 3 * SMPL24.index("R_Knee")],
    ]
    height = float(np.ptp(body.v_template[:, 1].numpy()))
    depth = np.log(fitted.transl_N3[:, 2].double().numpy() / (5000 * height * 1.25 / 256)) ** 2
    total = data + last.pose * (fitted.latent_N32.double().numpy() ** 2).sum(1) + last.shape * (fitted.betas_N10.numpy() ** 2).sum(1)
    total = total + last.angle * sum(np.exp(2 * bend) for bend in bends) + last.depth * depth
    assert np.allclose(fitted.energy_N.numpy(), total, rtol=2e-4)
    assert np.allclose(fitted.data_term_N.numpy(), data, rtol=5e-4, atol=1e-2)
    assert torch.allclose(
        body.joints(fitted.pose_N72, fitted.betas_N10)[0], torch.from_numpy(joints[0]).float() - fitted.transl_N3[0], atol=1e-4
    )


def test_joints_that_are_none_do_not_count() -> None:
    joints = torch.zeros(1, 33, 2)
    joints[0, 0, 0], joints[0, 1, 1], joints[0, 2, 0], joints[0, 3, 0] = torch.nan, torch.inf, 1e30, FAR_PX + 200
    weight = torch.ones(1, 33)
    weight[0, 4], weight[0, 5], weight[0, 6] = torch.nan, -1, 3
    target = as_target(Observed(joints, weight, torch.tensor([5000.0, 5000.0]), torch.tensor([96.0, 128.0])), 33)
    assert target.confidence_BJ[0].tolist() == [0] * 6 + [1] * 27
    assert target.joints_BJ2.isfinite().all()


@pytest.mark.parametrize("wrong", [{"joints": (2, 32, 2)}, {"weight": (3, 33)}, {"focal": 0.0}, {"focal": float("nan")}])
def test_wrong_shapes_and_cameras_are_named(wrong: dict) -> None:
    joints, weight = torch.zeros(wrong.get("joints", (2, 33, 2))), torch.zeros(wrong.get("weight", (2, 33)))
    focal = torch.full((2,), wrong.get("focal", 5000.0))
    with pytest.raises(ValueError, match="observed: expected"):
        as_target(Observed(joints, weight, focal, torch.zeros(2)), 33)
