from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.models.heatmaps import decode_heatmaps, gaussian_heatmaps


def test_targets_are_the_gaussian_pixel_by_pixel() -> None:
    xy = torch.tensor([[[3.0, 4.0], [0.3, 7.9]], [[-1.5, 2.25], [5.0, 11.0]]])
    maps = gaussian_heatmaps(xy, (8, 6), sigma=1.5)
    assert maps.shape == (2, 2, 8, 6)
    for b in range(2):
        for j in range(2):
            for row in range(8):
                for column in range(6):
                    x, y = xy[b, j].tolist()
                    expected = math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * 1.5**2))
                    assert maps[b, j, row, column].item() == pytest.approx(expected, abs=1e-6)
    assert maps[0, 0, 4, 3] == 1


def test_half_precision_positions_give_float32_maps() -> None:
    assert gaussian_heatmaps(torch.zeros(1, 1, 2, dtype=torch.bfloat16), (4, 4), 2.0).dtype == torch.float32


def test_known_peaks() -> None:
    maps = torch.zeros(1, 6, 5, 7)
    maps[0, 0, 2, 3] = 1.0  # alone
    maps[0, 1, 2, 3], maps[0, 1, 2, 4], maps[0, 1, 1, 3] = 1.0, 0.5, 0.25  # higher to the right and above
    maps[0, 2, 0, 0], maps[0, 2, 0, 1] = 2.0, 1.0  # in a corner: both axes lack a neighbour
    maps[0, 3, 4, 2], maps[0, 3, 4, 1] = 1.0, 0.5  # at the lower border: x alone moves
    maps[0, 4, 1, 6], maps[0, 4, 2, 6] = 1.0, 0.5  # at the right border: y alone moves
    maps[0, 5] = -1.0
    maps[0, 5, 3, 1] = -0.5  # all negative
    peaks, values = decode_heatmaps(maps)
    expected = [[3, 2], [3.25, 1.75], [0, 0], [1.75, 4], [6, 1.25], [1, 3]]
    assert peaks[0].tolist() == expected
    assert values[0].tolist() == [1.0, 1.0, 2.0, 1.0, 1.0, -0.5]


@given(x=st.floats(1, 21), y=st.floats(1, 29), sigma=st.floats(1, 3))
def test_decoding_a_target_gives_the_joint_back_to_a_quarter_of_a_pixel(x: float, y: float, sigma: float) -> None:
    peaks, values = decode_heatmaps(gaussian_heatmaps(torch.tensor([[[x, y]]]), (32, 24), sigma))
    assert (peaks[0, 0] - torch.tensor([x, y])).abs().max() <= 0.25 + 1e-4
    assert 0.75 < values.item() <= 1


def test_decoding_is_the_same_whatever_the_memory_format() -> None:
    maps = torch.rand(2, 4, 8, 6, generator=torch.Generator().manual_seed(0))
    for a, b in zip(decode_heatmaps(maps), decode_heatmaps(maps.to(memory_format=torch.channels_last)), strict=True):
        assert torch.equal(a, b)
