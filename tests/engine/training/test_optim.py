from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engine.training.config import OptimConfig
from engine.training.optim import WeightAverage, learning_rate


def test_paper_schedule_divides_by_ten_at_epochs() -> None:
    config = OptimConfig()
    rates = [learning_rate(config, epoch * 100 + 99, 100, 1500) for epoch in range(15)]
    assert rates == pytest.approx([1e-4] * 11 + [1e-5] * 2 + [1e-6] * 2)


def test_warmup_rises_to_the_rate() -> None:
    config = OptimConfig(warmup_steps=10)
    assert [learning_rate(config, s, 100, 1500) for s in (0, 4, 9, 10, 50)] == pytest.approx([1e-5, 5e-5, 1e-4, 1e-4, 1e-4])


@given(total=st.integers(1, 5000), warmup=st.integers(0, 50))
def test_onecycle_rises_to_the_peak_and_falls_to_nothing(total: int, warmup: int) -> None:
    config = OptimConfig(schedule="onecycle", lr=1e-3, warmup_steps=warmup)
    rates = [learning_rate(config, s, 10, total) for s in range(total)]
    assert all(0 < r <= 1e-3 * (1 + 1e-9) for r in rates)
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak]) and rates[peak:] == sorted(rates[peak:], reverse=True)
    if total > 200:
        assert rates[-1] < 1e-6


def test_average_follows_the_weights() -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(0.0)
    average = WeightAverage(model, 0.99)
    expected = 0.0
    for step in range(20):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.update(model, step)
        decay = min(0.99, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert average.state["weight"][0, 0].item() == pytest.approx(expected, rel=1e-5)


def test_average_copies_counters_and_leaves_the_model_alone() -> None:
    model = nn.BatchNorm1d(3)
    average = WeightAverage(model, 0.5)
    model(torch.randn(8, 3))
    before = model.running_mean.clone()
    average.update(model, 1000)
    assert average.state["num_batches_tracked"].item() == 1
    torch.testing.assert_close(average.state["running_mean"], before / 2)
    assert torch.equal(model.running_mean, before)
