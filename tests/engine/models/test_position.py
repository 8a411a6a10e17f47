from __future__ import annotations

import numpy as np
import torch

from engine.models.position import PositionNet, soft_argmax_3d


def test_soft_argmax_against_a_loop_over_cells() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, 6) * 3
    result = soft_argmax_3d(logits).numpy()
    for b in range(2):
        for j in range(3):
            p = np.exp(logits[b, j].numpy().astype(np.float64))
            p /= p.sum()
            expected = np.zeros(3)
            for z in range(8):
                for y in range(8):
                    for x in range(6):
                        expected += p[z, y, x] * np.array([x, y, z])
            np.testing.assert_allclose(result[b, j], expected, atol=1e-5)


def test_a_peak_is_read_at_its_integer_cell() -> None:
    logits = torch.zeros(1, 1, 8, 8, 6)
    logits[0, 0, 7, 2, 5] = 100
    assert soft_argmax_3d(logits)[0, 0].tolist() == [5, 2, 7]


def test_fresh_net_points_at_the_middle() -> None:
    joints = PositionNet(32)(torch.rand(2, 32, 8, 6))
    assert joints.shape == (2, 25, 3)
    torch.testing.assert_close(joints, torch.tensor([2.5, 3.5, 3.5]).expand(2, 25, 3), atol=0.1, rtol=0)
