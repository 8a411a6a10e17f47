from __future__ import annotations

import numpy as np
import torch

from engine.body.rotations import rotation_6d_to_matrix
from engine.models.rotation import IDENTITY_6D, UPRIGHT_6D, RotationNet, sample_at_joints


def test_sampling_against_bilinear_by_hand() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 4, 8, 6)
    xy = torch.rand(2, 25, 2) * torch.tensor([5.0, 7.0])
    got = sample_at_joints(features, xy).numpy()
    for b in range(2):
        for j in range(25):
            x, y = xy[b, j].tolist()
            x0, y0 = int(np.floor(x)), int(np.floor(y))
            expected = np.zeros(4)
            for dx in (0, 1):
                for dy in (0, 1):
                    weight = (1 - abs(x - x0 - dx)) * (1 - abs(y - y0 - dy))
                    if weight > 0:
                        expected += weight * features[b, :, y0 + dy, x0 + dx].numpy()
            np.testing.assert_allclose(got[b, j], expected, atol=1e-4)


def test_starting_rotations() -> None:
    upright = rotation_6d_to_matrix(torch.tensor([UPRIGHT_6D]))[0]
    torch.testing.assert_close(upright, torch.diag(torch.tensor([1.0, -1.0, -1.0])))
    torch.testing.assert_close(rotation_6d_to_matrix(torch.tensor([IDENTITY_6D]))[0], torch.eye(3))


def test_rotation_losses_do_not_reach_the_joints() -> None:
    net = RotationNet(8, 4, 32, "upright")
    features, joints = torch.rand(2, 8, 8, 6, requires_grad=True), torch.full((2, 25, 3), 2.5, requires_grad=True)
    sum(out.sum() for out in net(features, joints)).backward()
    assert joints.grad is None
    assert features.grad is not None and features.grad.abs().sum() > 0


def test_layer_sizes_are_the_papers() -> None:
    net = RotationNet(2048, 512, 126, "zero")
    assert net.root.in_features == net.body.in_features == 12875
    assert (net.root.out_features, net.body.out_features, net.shape.out_features, net.camera.out_features) == (6, 126, 10, 3)
    assert net.root.bias.abs().sum() == 0
    assert 0.008 < net.body.weight.std() < 0.012
