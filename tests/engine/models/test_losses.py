from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.body.rotations import axis_angle_to_matrix
from engine.models.estimators.pose2pose import Pose2PoseOutput
from engine.models.losses import TERMS, LossConfig, loss_terms
from schemas.skeletons import POSE2POSE25, POSE2POSE33

DATA_3D = ("smpl_joint_img", "smpl_pose", "smpl_shape", "joint_cam", "smpl_joint_cam")


@pytest.fixture
def output(network, make_batch) -> Pose2PoseOutput:
    return network().train()(make_batch(3))


def _random_masks(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    masks = [k for k in batch if k.endswith(("valid", "trunc"))] + ["is_3d"]
    return batch | {k: (torch.rand(batch[k].shape, generator=g) < 0.6).float() for k in masks}


def test_every_term_against_numpy(network, output: Pose2PoseOutput, make_batch) -> None:
    batch = _random_masks(make_batch(3))
    terms = loss_terms(output, batch, LossConfig())
    b = {k: v.double().numpy() for k, v in batch.items() if k != "image"}
    rows = [POSE2POSE33.joints.index(name) for name in POSE2POSE25.joints]
    img, proj, joints, pose, betas, latent = (
        getattr(output, k).detach().double().numpy()
        for k in ("joint_img_B253", "joint_proj_B332", "joints_B333", "pose_B72", "betas_B10", "latent_B32")
    )
    relative = joints - joints[:, :1]
    expected = dict.fromkeys(TERMS, 0.0)
    B = 3
    for i in range(B):
        for j, r in enumerate(rows):
            for axis in range(3):
                mask = b["joint_trunc"][i, r] * (b["is_3d"][i] if axis == 2 else 1)
                expected["joint_img"] += mask * abs(img[i, j, axis] - b["joint_img"][i, r, axis]) / (B * 25 * 3)
                fit = abs(img[i, j, axis] - b["smpl_joint_img"][i, r, axis])
                expected["smpl_joint_img"] += b["smpl_joint_trunc"][i, r] * fit / (B * 25 * 3)
        for r in range(33):
            for axis in range(3):
                cam = abs(relative[i, r, axis] - b["joint_cam"][i, r, axis]) / (B * 33 * 3)
                expected["joint_cam"] += b["joint_cam_valid"][i, r] * b["is_3d"][i] * cam
                fit = abs(relative[i, r, axis] - b["smpl_joint_cam"][i, r, axis]) / (B * 33 * 3)
                expected["smpl_joint_cam"] += b["smpl_joint_valid"][i, r] * fit
            for axis in range(2):
                expected["joint_proj"] += b["joint_trunc"][i, r] * abs(proj[i, r, axis] - b["joint_img"][i, r, axis]) / (B * 33 * 2)
        for k in range(72):
            expected["smpl_pose"] += b["smpl_pose_valid"][i, k] * abs(pose[i, k] - b["smpl_pose"][i, k]) / (B * 72)
        for k in range(10):
            expected["smpl_shape"] += b["smpl_shape_valid"][i] * abs(betas[i, k] - b["smpl_shape"][i, k]) / (B * 10)
    expected["latent_l2"], expected["shape_l2"] = np.mean(latent**2), np.mean(betas**2)
    for name in TERMS:
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name
    config = LossConfig(joint_cam=3.0, smpl_pose=0.0)
    total = sum(getattr(config, name) * expected[name] for name in TERMS)
    assert network(losses=config.model_dump()).total_loss(terms).item() == pytest.approx(total, rel=1e-4)


def test_2d_supervision_gives_no_3d_gradient(network, make_batch) -> None:
    model, batch = network().train(), make_batch(3, only_2d=True)
    terms = loss_terms(model(batch), batch, LossConfig())
    for name in DATA_3D:
        assert terms[name].item() == 0
    sum(terms[name] for name in DATA_3D).backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.parameters())
    assert terms["joint_img"] > 0 and terms["joint_proj"] > 0


def test_depth_of_positions_is_free_without_3d(network, make_batch) -> None:
    batch = make_batch(2, only_2d=True)
    out = network().eval()(batch)
    moved = replace(out, joint_img_B253=out.joint_img_B253 + torch.tensor([0.0, 0.0, 3.0]))
    torch.testing.assert_close(loss_terms(out, batch, LossConfig())["joint_img"], loss_terms(moved, batch, LossConfig())["joint_img"])


def test_matrix_target_has_no_jump_at_half_a_turn(network, make_batch, output: Pose2PoseOutput) -> None:
    """A root turned by pi - d and by pi + d: nearly one rotation, but opposite axis-angle vectors."""
    batch = make_batch(3)
    root = torch.zeros(3, 3)
    losses = {}
    for target in ("axis_angle", "matrix"):
        for angle in (torch.pi - 0.01, -torch.pi + 0.01):
            root[:, 0] = angle
            pose = torch.cat((root, batch["smpl_pose"][:, 3:]), dim=1)
            losses[target, angle > 0] = loss_terms(output, batch | {"smpl_pose": pose}, LossConfig(pose_target=target))["smpl_pose"].item()
    assert abs(losses["matrix", True] - losses["matrix", False]) < 1e-3
    assert abs(losses["axis_angle", True] - losses["axis_angle", False]) > 1e-2


def test_pose_target_matrix_is_zero_at_the_truth(output: Pose2PoseOutput, make_batch) -> None:
    batch = make_batch(3)
    exact = batch | {"smpl_pose": output.pose_B72.detach()}
    for target in ("axis_angle", "matrix"):
        assert loss_terms(output, exact, LossConfig(pose_target=target))["smpl_pose"].item() < 1e-5


def test_masked_entries_stay_in_the_denominator(output: Pose2PoseOutput, make_batch) -> None:
    batch = make_batch(3)
    whole = loss_terms(output, batch, LossConfig())["smpl_shape"]
    first = loss_terms(output, batch | {"smpl_shape_valid": torch.tensor([1.0, 0.0, 0.0])}, LossConfig())["smpl_shape"]
    alone = (output.betas_B10[0] - batch["smpl_shape"][0]).abs().mean()
    torch.testing.assert_close(first, alone / 3)
    assert first < whole


def test_without_a_prior_the_body_pose_is_regularised(network, make_batch) -> None:
    """For small angles the term is the mean square of the 63 axis-angle numbers; root and hands do not count."""
    batch = make_batch(2)
    out = network(head="6d")(batch)
    pose = torch.randn(2, 24, 3, dtype=torch.double) * 0.01
    terms = loss_terms(replace(out, rotmats_B2433=axis_angle_to_matrix(pose)), batch, LossConfig())
    assert terms["latent_l2"].item() == pytest.approx(pose[:, 1:22].square().mean().item(), rel=1e-3)
    rest = torch.eye(3).expand(2, 24, 3, 3).clone().requires_grad_()
    loss_terms(replace(out, rotmats_B2433=rest), batch, LossConfig())["latent_l2"].backward()
    assert torch.isfinite(rest.grad).all()


@pytest.mark.parametrize("head, numbers", [("vposer", 32), ("6d", 63)])
def test_l2_summed_is_that_many_times_the_mean(network, make_batch, head: str, numbers: int) -> None:
    batch = make_batch(2)
    out = network(head=head)(batch)
    mean, total = (loss_terms(out, batch, LossConfig(l2_reduction=reduction)) for reduction in ("mean", "sum"))
    assert total["latent_l2"].item() == pytest.approx(numbers * mean["latent_l2"].item(), rel=1e-5)
    assert total["shape_l2"].item() == pytest.approx(10 * mean["shape_l2"].item(), rel=1e-5)
    assert total["joint_img"] == mean["joint_img"]


def test_l2_of_photographs_alone_leaves_out_whoever_has_3d(output: Pose2PoseOutput, make_batch) -> None:
    """The first person has 3D joints, the second a fit, the third 2D alone; what is left out still counts in the mean."""
    batch = make_batch(3)
    masks = {"is_3d": torch.tensor([1.0, 0.0, 0.0]), "smpl_pose_valid": torch.tensor([0.0, 1.0, 0.0])[:, None].expand(3, 72)}
    terms = loss_terms(output, batch | masks, LossConfig(l2_on="2d_only"))
    for name, values in (("latent_l2", output.latent_B32), ("shape_l2", output.betas_B10)):
        torch.testing.assert_close(terms[name], values[2].square().mean() / 3)


def test_a_fit_of_half_the_weight_is_half_of_every_term_that_it_teaches(output: Pose2PoseOutput, make_batch) -> None:
    batch = make_batch(3)
    of_the_fit = {"smpl_joint_trunc", "smpl_joint_valid", "smpl_pose_valid", "smpl_shape_valid"}
    half = batch | {name: batch[name] * 0.5 for name in of_the_fit}
    config = LossConfig(l2_on="2d_only")
    whole, found = loss_terms(output, batch, config), loss_terms(output, half, config)
    for name in TERMS:
        factor = 0.5 if name in {"smpl_joint_img", "smpl_pose", "smpl_shape", "smpl_joint_cam"} else 1
        assert found[name].item() == pytest.approx(factor * whole[name].item(), rel=1e-5), name
