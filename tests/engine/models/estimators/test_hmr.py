from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from engine.body.smpl import Body
from engine.models.estimators.hmr import Hmr, HmrConfig

SMALL = {"backbone": "resnet18", "width": 0.125, "input_hw": (64, 64), "hidden": 32}


@pytest.fixture
def hmr(body: Body) -> Callable[..., Hmr]:
    def make(**fields: object) -> Hmr:
        torch.manual_seed(0)
        return Hmr(HmrConfig.model_validate(SMALL | fields), body)

    return make


@pytest.fixture
def batch(make_batch: Callable[..., dict[str, Tensor]]) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    return make_batch(6) | {"image": torch.randint(0, 256, (6, 3, 64, 64), generator=g, dtype=torch.uint8)}


def test_parameters_of_the_published_size(body: Body) -> None:
    """26.98 M: the ResNet's 23,508,032, and the regressor's layers by their formula."""
    model = Hmr(HmrConfig(), body)
    regressor = (2048 + 157) * 1024 + 1024 + 1024 * 1024 + 1024 + 1024 * 157 + 157
    assert sum(p.numel() for p in model.parameters()) == 23_508_032 + regressor == 26_977_501
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "regressor", "mean", "pixel_mean", "pixel_std"}


def test_it_starts_close_to_the_mean_person(hmr: Callable[..., Hmr], batch: dict[str, Tensor]) -> None:
    model = hmr(hidden=1024).eval()
    out = model(batch)
    assert (out.camera_B3 - torch.tensor([0.9, 0.0, 0.0])).abs().max() < 0.2
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    assert ((out.rotmats_B2433[:, 0] * upright).sum((1, 2)) > 2).all()
    p = model.parameters_of(out)
    assert p.pose_B72.shape == (6, 72) and p.betas_B10.shape == (6, 10) and p.latent_B32 is None
    assert (p.cam_transl_B3[:, 2] > 20).all()


def test_the_forward_is_the_pooled_features_iteration(hmr: Callable[..., Hmr], batch: dict[str, Tensor]) -> None:
    """Three residual corrections written out; ImageNet's pixel statistics; a map that is not 7x7."""
    model = hmr().eval()
    statistics = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    image = (batch["image"] / 255 - statistics[0]) / statistics[1]
    with torch.no_grad():
        features = model.backbone(image).mean((2, 3))
        state = torch.cat((model.mean.pose, model.mean.betas, model.mean.camera)).expand(6, -1)
        r = model.regressor
        for _ in range(3):
            hidden = r.fc2(r.fc1(torch.cat((features, state), 1)))
            state = state + torch.cat((r.pose(hidden), r.betas(hidden), r.camera(hidden)), 1)
        out = model(batch)
    torch.testing.assert_close(out.betas_B10, state[:, 144:154], atol=1e-5, rtol=0)
    torch.testing.assert_close(out.camera_B3, state[:, 154:], atol=1e-5, rtol=0)
    first = torch.nn.functional.normalize(state[:, 0:144:2].unflatten(1, (24, 3)), dim=2)
    torch.testing.assert_close(out.rotmats_B2433[..., 0], first, atol=1e-5, rtol=0)


def test_the_mean_person_travels_in_the_checkpoint(hmr: Callable[..., Hmr], batch: dict[str, Tensor]) -> None:
    model, other = hmr().eval(), hmr().eval()
    assert model.needs_mean_parameters
    model.set_mean_parameters(np.tile(np.eye(3), (24, 1, 1)), np.full(10, 0.5))
    assert not torch.equal(model(batch).betas_B10, other(batch).betas_B10)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(batch).betas_B10, other(batch).betas_B10)


def test_every_term_reaches_the_network(hmr: Callable[..., Hmr], batch: dict[str, Tensor]) -> None:
    model = hmr(losses={"vertices": 1.0}).train()
    terms = model.loss_terms(model(batch), batch)
    assert tuple(terms) == model.terms and set(model.loss_weights()) == set(terms)
    weights = {"joints_2d": 300, "joints_3d": 300, "pose": 60, "betas": 0.06, "camera": 60, "vertices": 60}
    total = model.total_loss(terms)
    assert total.item() == pytest.approx(sum(weights[name] * terms[name].item() for name in weights), rel=1e-5)
    for name in weights:
        model.zero_grad()
        terms[name].backward(retain_graph=True)
        assert model.backbone.conv1.weight.grad.abs().max() > 0, name


def test_overfits_a_small_batch(hmr: Callable[..., Hmr], batch: dict[str, Tensor]) -> None:
    """Images and persons that belong together: sixty steps bring the loss to a small part, and the bodies onto their targets."""
    model = hmr(dropout=0.0, width=0.25).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(60):
        terms = model.loss_terms(model(batch), batch)
        loss = model.total_loss(terms)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.1 * totals[0]


def test_crops_are_square() -> None:
    with pytest.raises(ValidationError, match="square"):
        HmrConfig(input_hw=(256, 192))
