from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from engine.body.cameras import project, virtual_camera
from engine.body.rotations import axis_angle_to_matrix
from engine.body.smpl import Body
from engine.models.spin_losses import TERMS, SpinLossConfig, spin_loss_terms
from engine.models.weak_perspective import SpinOutput, WeakPerspective
from schemas.skeletons import POSE2POSE33

CROP = (128, 128)
WITH_VERTICES = SpinLossConfig(vertices=1.0)


@pytest.fixture
def truth(make_batch: Callable[..., dict[str, Tensor]], body: Body) -> tuple[SpinOutput, dict[str, Tensor]]:
    """Four persons, predicted as they are, with targets made as the loader makes them: cells of the crop, joints about the pelvis."""
    batch = make_batch(4)
    rotmats = axis_angle_to_matrix(batch["smpl_pose"].unflatten(1, (24, 3)))
    camera = torch.tensor([[0.9, 0.0, 0.0], [0.7, 0.1, 0.2], [1.1, -0.1, 0.0], [0.5, 0.3, 0.3]])
    output = WeakPerspective(CROP)(body, rotmats, batch["smpl_shape"], camera)
    pixels = project((output.joints_B333 + output.cam_transl_B3[:, None]).numpy(), *virtual_camera(CROP))
    cells = pixels * [6 / CROP[1], 8 / CROP[0]]
    batch["joint_img"] = torch.cat((torch.tensor(cells, dtype=torch.float32), torch.zeros(4, 33, 1)), dim=2)
    return output, batch


def test_the_truth_costs_nothing_but_the_cameras_prior(truth, body: Body) -> None:
    output, batch = truth
    terms = spin_loss_terms(output, batch, WITH_VERTICES, body)
    assert tuple(terms) == TERMS
    for name in set(TERMS) - {"camera"}:
        assert terms[name] < 1e-9, name
    assert terms["camera"].item() == pytest.approx(np.mean(np.exp(-10 * output.camera_B3[:, 0].double().numpy()) ** 2), rel=1e-5)


def test_half_masked_batch_against_the_closed_form(truth, body: Body) -> None:
    """SPIN's reductions by hand, on numpy arrays cut down to the valid persons, with 16 joints of weight 0 appended on the crop."""
    output, batch = truth
    g = torch.Generator().manual_seed(3)
    noisy = replace(
        output,
        rotmats_B2433=axis_angle_to_matrix(torch.randn(4, 24, 3, generator=g)),
        betas_B10=torch.randn(4, 10, generator=g),
        joints_B333=torch.randn(4, 33, 3, generator=g),
        joint_proj_B332=torch.randn(4, 33, 2, generator=g),
    )
    batch["joint_valid"] = (torch.rand(4, 33, generator=g) < 0.6).float()
    hips = [POSE2POSE33.index("L_Hip"), POSE2POSE33.index("R_Hip")]
    batch["joint_cam_valid"] = (torch.rand(4, 33, generator=g) < 0.6).float()
    batch["joint_cam_valid"][:2, hips] = 1
    batch["joint_cam_valid"][3, hips] = torch.tensor([1.0, 0.0])  # half a pelvis is none
    batch["is_3d"] = torch.tensor([1.0, 1.0, 0.0, 1.0])
    batch["smpl_pose_valid"] = torch.tensor([[0.0], [1.0], [1.0], [0.0]]).expand(4, 72)
    batch["smpl_shape_valid"] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    got = {name: float(term) for name, term in spin_loss_terms(noisy, batch, WITH_VERTICES, body).items()}

    b = {name: value.double().numpy() for name, value in batch.items() if name != "image"}
    conf = np.pad(b["joint_valid"], ((0, 0), (0, 49 - 33)))
    target = np.stack([b["joint_img"][..., 0] / 6 * 2 - 1, b["joint_img"][..., 1] / 8 * 2 - 1], axis=2)
    error = np.pad((noisy.joint_proj_B332.numpy() - target) ** 2, ((0, 0), (0, 49 - 33), (0, 0)))
    assert got["joints_2d"] == pytest.approx((conf[..., None] * error).mean(), rel=1e-4)

    valid = [0, 1]
    pred, true = noisy.joints_B333.numpy()[valid], b["joint_cam"][valid]
    offset = (pred - pred[:, hips].mean(1)[:, None]) - (true - true[:, hips].mean(1)[:, None])
    error = b["joint_cam_valid"][valid][..., None] * offset**2
    assert got["joints_3d"] == pytest.approx(error.sum() / (len(valid) * 24 * 3), rel=1e-4)

    valid = [1, 2]
    true = Rotation.from_rotvec(b["smpl_pose"][valid].reshape(-1, 3)).as_matrix().reshape(2, 24, 3, 3)
    assert got["pose"] == pytest.approx(((noisy.rotmats_B2433.numpy()[valid] - true) ** 2).mean(), rel=1e-4)
    assert got["betas"] == pytest.approx(((noisy.betas_B10.numpy()[1] - b["smpl_shape"][1]) ** 2).mean(), rel=1e-4)
    meshes = body(torch.cat((noisy.rotmats_B2433[1:2], torch.tensor(true[:1]))), torch.stack((noisy.betas_B10[1], batch["smpl_shape"][1])))
    pred, true = meshes.vertices_BV3.numpy()
    assert got["vertices"] == pytest.approx(np.abs(pred - true).mean(), rel=1e-4)


def test_a_batch_without_3d_has_finite_terms(truth, make_batch, body: Body) -> None:
    output, _ = truth
    terms = spin_loss_terms(output, make_batch(4, only_2d=True), WITH_VERTICES, body)
    assert {name for name, term in terms.items() if term == 0} == {"joints_3d", "pose", "betas", "vertices"}


def test_masked_targets_have_no_say(truth, body: Body) -> None:
    output, batch = truth
    batch["is_3d"], batch["smpl_shape_valid"] = torch.zeros(4), torch.zeros(4)
    batch["smpl_pose_valid"] = torch.zeros(4, 72)
    other = batch | {name: torch.randn_like(batch[name]) for name in ("joint_cam", "smpl_pose", "smpl_shape")}
    for name, term in spin_loss_terms(output, other, SpinLossConfig(), body).items():
        assert term == spin_loss_terms(output, batch, SpinLossConfig(), body)[name]


def test_weights_are_spins() -> None:
    """5, 5, 1, 0.001, 1 and 0, all of them times 60."""
    expected = {"joints_2d": 300, "joints_3d": 300, "pose": 60, "betas": 0.06, "camera": 60, "vertices": 0}
    assert SpinLossConfig().weights() == pytest.approx(expected)
