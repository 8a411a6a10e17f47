from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from engine.body.pose_prior import PosePrior
from engine.body.smpl import Body
from engine.errors import ConfigError
from engine.models.estimators.pose2pose import Pose2Pose, Pose2PoseConfig

Network = Callable[..., Pose2Pose]


@pytest.mark.parametrize("head", ["vposer", "6d"])
def test_shapes_and_rotation_layout(network: Network, make_batch, head: str) -> None:
    out = network(head=head).eval()(make_batch(2))
    assert out.joint_img_B253.shape == (2, 25, 3)
    assert out.rotmats_B2433.shape == (2, 24, 3, 3)
    assert out.pose_B72.shape == (2, 72)
    assert out.betas_B10.shape == (2, 10)
    assert out.joints_B333.shape == (2, 33, 3)
    assert out.joint_proj_B332.shape == (2, 33, 2)
    assert (out.latent_B32 is None) == (head == "6d")
    R = out.rotmats_B2433
    torch.testing.assert_close(R @ R.transpose(2, 3), torch.eye(3).expand_as(R), atol=1e-4, rtol=0)
    assert out.pose_B72[:, -6:].abs().max() == 0  # both hands
    # The first joint is the root's 6D, the next 21 are the body head's.
    model = network(head=head).eval()
    with torch.no_grad():
        model.rotation.root.bias += 5.0
        model.rotation.body.weight.zero_()
        model.rotation.body.bias.zero_()
    changed = model(make_batch(2)).rotmats_B2433
    assert not torch.allclose(changed[:, 0], R[:, 0])
    assert torch.allclose(changed[0, 1:], changed[1, 1:])


def test_starts_upright_before_the_camera(network: Network, make_batch) -> None:
    out = network(head="6d").eval()(make_batch(2))
    root = out.rotmats_B2433[:, 0]
    angle = torch.acos(((root * torch.diag(torch.tensor([1.0, -1.0, -1.0]))).sum((1, 2)).sub(1) / 2).clamp(-1, 1))
    assert angle.max() < np.deg2rad(10)
    assert (out.cam_transl_B3[:, 2] > 20).all() and (out.cam_transl_B3[:, 2] < 40).all()


def test_projection_by_hand(network: Network, make_batch) -> None:
    """5000 px at 256x192 and the crop's centre; then cells: /192 x 6 and /256 x 8."""
    torch.manual_seed(0)
    model = network(input_hw=(256, 192), output_stride=32).eval()
    image = torch.randint(0, 256, (2, 3, 256, 192), dtype=torch.uint8)
    out = model({"image": image})
    points = out.joints_B333.detach().numpy().astype(np.float64) + out.cam_transl_B3.detach().numpy()[:, None]
    pixels = points[..., :2] / (points[..., 2:] + 1e-4) * 5000 + np.array([96, 128])
    np.testing.assert_allclose(out.joint_proj_B332.detach().numpy(), pixels * [6 / 192, 8 / 256], atol=1e-3)


def test_joints_are_the_posed_bodys(network: Network, make_batch, body: Body) -> None:
    with torch.no_grad():
        out = network().eval()(make_batch(2))
        mesh = body(out.rotmats_B2433, out.betas_B10).vertices_BV3
        torch.testing.assert_close(out.joints_B333, body.regress(mesh, "pose2pose33"), atol=1e-5, rtol=0)


def test_body_and_prior_are_not_the_networks(network: Network) -> None:
    model = network()
    names = set(model.state_dict())
    assert {name.split(".")[0] for name in names} == {"backbone", "position", "rotation", "pixel_mean", "pixel_std"}
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"backbone", "position", "rotation"}


def test_prior_stays_in_eval_mode_while_training(network: Network, make_batch) -> None:
    model = network().train()
    assert not any(m.training for m in model.prior.modules())
    z = torch.randn(4, 32)
    assert torch.equal(model.prior.decode(z), model.prior.decode(z))


def test_gradients_reach_every_parameter(network: Network, make_batch) -> None:
    for head in ("vposer", "6d"):
        model = network(head=head).train()
        batch = make_batch(3)
        model.total_loss(model.loss_terms(model(batch), batch)).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_pixel_statistics_travel_in_the_state_dict(network: Network, make_batch) -> None:
    batch = make_batch(2)
    plain, normalised = network().eval(), network(pixel_mean=(0.5, 0.4, 0.3), pixel_std=(0.2, 0.3, 0.4)).eval()
    assert not torch.allclose(plain(batch).betas_B10, normalised(batch).betas_B10)
    plain.load_state_dict(normalised.state_dict())
    torch.testing.assert_close(plain(batch).betas_B10, normalised(batch).betas_B10)


def test_heads_stay_in_float32_under_autocast(network: Network, make_batch) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network().eval()(make_batch(2))
    assert {x.dtype for x in (out.joint_img_B253, out.rotmats_B2433, out.joints_B333, out.joint_proj_B332)} == {torch.float32}


@pytest.mark.parametrize("head", ["vposer", "6d"])
def test_overfits_a_few_consistent_persons(network: Network, make_batch, head: str) -> None:
    torch.manual_seed(0)
    model, batch = network(head=head, losses={"pose_target": "matrix", "latent_l2": 0, "shape_l2": 0}).train(), make_batch(4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(60):
        loss = model.total_loss(model.loss_terms(model(batch), batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_config_refuses_other_maps_and_a_missing_prior(body: Body, prior: PosePrior) -> None:
    with pytest.raises(ValidationError, match=r"expected \(128, 96\)"):
        Pose2PoseConfig(input_hw=(128, 128), output_stride=16)
    with pytest.raises(ConfigError, match="needs a pose prior"):
        Pose2Pose(Pose2PoseConfig(backbone="resnet18", width=0.125), body, None)
