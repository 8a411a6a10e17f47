"""EFT as an annotator: for each person a copy of the network, fine-tuned until what it says meets that person's annotated 2D joints.

Exemplar Fine-Tuning (Joo et al., 3DV 2021): fresh Adam a person, no augmentation, batch norms as trained, at most so many steps; the
network is the only prior. Hips, pelvis and ankles are left out of the 2D loss, because datasets put them elsewhere than the body does,
and the directions of the shins stand for the ankles. What is kept is the last forward pass, before a step that would follow it.

`trainable: head` is ours: the backbone's features are computed once and what comes after them is tuned, with weights of their own for
many persons at a time. `all` tunes every weight one person at a time, as published. Against the publication the 2D loss is a mean over
33 joints, not over 49, in units of half the crop's height, and the term that keeps a weak-perspective scale positive is left out.

Shape suffixes: B places of a batch, P persons tuned together, J joints of `pose2pose33`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from engine.annotators.base import LATENT_SIZE, Prediction
from engine.annotators.identity import eft_identity
from engine.annotators.seen import Seen
from engine.annotators.smplify_config import EftConfig
from engine.body.cameras import project, virtual_camera
from engine.body.rotations import matrix_to_axis_angle
from engine.body.smpl import Body
from engine.errors import CheckpointMismatch
from engine.models.estimator import Estimator
from engine.training.checkpoint import load_network
from schemas.checkpoints import network_name
from schemas.crops import CropSpec
from schemas.skeletons import POSE2POSE33

_TOGETHER = 16
"""Persons whose heads are tuned at a time. Part of the bytes: sums over another number may round otherwise."""
_IGNORED = tuple(POSE2POSE33.index(name) for name in ("Pelvis", "L_Hip", "R_Hip", "L_Ankle", "R_Ankle"))
_KNEES = tuple(POSE2POSE33.index(name) for name in ("L_Knee", "R_Knee"))
_ANKLES = tuple(POSE2POSE33.index(name) for name in ("L_Ankle", "R_Ankle"))
_SHORT_SHIN = 1 / 112
"""A shin shorter than a pixel of a 224 crop has no direction."""
_ADAM = (0.9, 0.999, 1e-8)

Weights = dict[str, Tensor]
Said = tuple[Tensor, ...]
"""rotmats (24, 3, 3), betas (10,), translation (3,), latent (32,) of a person."""


class EftAnnotator:
    """Fine-tunes a trained estimator for every person. `device`: 'auto', 'cpu' or 'cuda'."""

    def __init__(self, config: EftConfig, device: str = "auto") -> None:
        """Raises ConfigError without a base, and what loading it raises."""
        self.identity = eft_identity(config)
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._config, self._device = config, torch.device(device)
        network = load_network(self.identity.location, device)
        if not isinstance(network.model, Estimator):
            raise CheckpointMismatch(
                f"checkpoint {config.base}: holds a {network_name(network.manifest.model)!r} network, which gives no body"
            )
        self._model: Estimator = network.model
        self.body: Body = network.body if self._device.type == "cpu" else copy.deepcopy(network.body).cpu()
        frozen = {id(p) for m in self._model.modules() if isinstance(m, _BatchNorm) for p in m.parameters()}
        if config.trainable == "head":
            frozen |= {id(p) for p in self._model.backbone.parameters()}
        focal, princpt = (torch.from_numpy(value).to(self._device) for value in virtual_camera(self.crop.hw))
        self._camera, self._half = (focal, princpt), self.crop.height / 2
        self._backbone = self._model.features
        if config.trainable == "head":
            self._model.features = lambda features: features  # ty: ignore[invalid-assignment]
        self._start = self._reached({name: p.detach() for name, p in self._model.named_parameters() if id(p) not in frozen})

    @property
    def digest(self) -> str:
        return self.identity.digest

    @property
    def crop(self) -> CropSpec:
        return self._model.config.crop

    def predict(self, crops_NHW3: np.ndarray, seen: Seen) -> Prediction:
        """Bodies of N persons; who has no joints that count gets what the network says."""
        images = torch.from_numpy(np.ascontiguousarray(crops_NHW3)).to(self._device).permute(0, 3, 1, 2)
        joints = (torch.from_numpy(seen.joints_BJ2).to(self._device) - self._camera[1]) / self._half
        weight = torch.from_numpy(seen.weight_BJ).to(self._device)
        inputs, step = self._inputs(images), _TOGETHER if self._config.trainable == "head" else 1
        parts = [
            self._tuned(*_padded(step, inputs[i : i + step], joints[i : i + step], weight[i : i + step]))
            for i in range(0, len(images), step)
        ]
        rotmats, betas, transl, latent = (torch.cat(values)[: len(images)] for values in zip(*parts, strict=True))
        values = (matrix_to_axis_angle(rotmats).flatten(1), betas, transl, latent)
        return Prediction(*(value.float().cpu().numpy() for value in values))

    def _reached(self, weights: Weights) -> Weights:
        """Those of these weights that the body depends on: nothing else would move (Pose2Pose detaches its PositionNet's joints)."""
        blank = torch.zeros(1, 3, *self.crop.hw, dtype=torch.uint8, device=self._device)
        with torch.enable_grad():
            copies = {name: p.clone().requires_grad_() for name, p in weights.items()}
            out = functional_call(self._model, copies, ({"image": self._inputs(blank)},))
            told = out.joints_B333.sum() + out.cam_transl_B3.sum() + out.betas_B10.sum()
            found = torch.autograd.grad(told, list(copies.values()), allow_unused=True)
        return {name: weights[name] for name, gradient in zip(copies, found, strict=True) if gradient is not None}

    def _inputs(self, images: Tensor) -> Tensor:
        """What the tuned part is given of crops (N, 3, H, W): their features, or themselves."""
        if self._config.trainable == "all":
            return images
        with torch.no_grad():
            return self._backbone(images)

    def _tuned(self, inputs: Tensor, joints_PJ2: Tensor, weight_PJ: Tensor) -> Said:
        """What the networks of P persons say in the end, each tuned to its own joints."""
        config, P = self._config, len(inputs)
        weights = {name: p.expand(P, *p.shape).clone() for name, p in self._start.items()}
        moments = [{name: torch.zeros_like(p) for name, p in weights.items()} for _ in range(2)]
        counted_PJ = weight_PJ.clone()
        counted_PJ[:, list(_IGNORED)] = 0
        active_P = counted_PJ.any(1)
        one: Callable[..., Any] = grad_and_value(self._loss, has_aux=True)
        step = vmap(one) if config.trainable == "head" else _alone(one)  # a backbone's memory format is lost on vmap
        kept: Said | None = None
        for i in range(1, config.iterations + 1):
            gradients, (_, (error_P, said)) = step(weights, inputs, joints_PJ2, weight_PJ, counted_PJ)
            with torch.no_grad():
                kept = (
                    said
                    if kept is None
                    else tuple(torch.where(_like(active_P, new), new, old) for new, old in zip(said, kept, strict=True))
                )
                active_P = active_P & (error_P >= config.enough)
                if not bool(active_P.any()):
                    break
                _adam_step(weights, gradients, moments, i, config.learning_rate, active_P)
        assert kept is not None
        return tuple(value.detach() for value in kept)

    def _loss(self, weights: Weights, inputs: Tensor, joints_J2: Tensor, weight_J: Tensor, counted_J: Tensor) -> tuple[Tensor, Any]:
        """EFT's loss of one person, and beside it the 2D error and what the network says."""
        config = self._config
        out = functional_call(self._model, weights, ({"image": inputs[None]},))
        projected_J2 = (project(out.joints_B333 + out.cam_transl_B3[:, None], *self._camera)[0] - self._camera[1]) / self._half
        error = ((projected_J2 - joints_J2).square() * counted_J[:, None]).mean()
        loss = config.keypoints * error + config.betas * out.betas_B10.square().mean()
        loss = config.factor * (loss + config.shins * shin_loss(projected_J2, joints_J2, weight_J))
        latent = getattr(out, "latent_B32", None)
        latent = out.betas_B10.new_full((1, LATENT_SIZE), torch.nan) if latent is None else latent
        said = tuple(value[0].float().detach() for value in (out.rotmats_B2433, out.betas_B10, out.cam_transl_B3, latent))
        return loss, (error.detach(), said)


def shin_loss(projected_J2: Tensor, joints_J2: Tensor, weight_J: Tensor) -> Tensor:
    """Sum over both sides of 1 - cos of the angle between the shin as projected and as annotated, where knee and ankle were annotated."""
    knees, ankles = list(_KNEES), list(_ANKLES)
    ours, theirs = (points[ankles] - points[knees] for points in (projected_J2, joints_J2))
    weight = weight_J[knees] * weight_J[ankles] * (theirs.norm(dim=1) >= _SHORT_SHIN)
    cosine = nn.functional.cosine_similarity(ours, torch.where(weight[:, None] > 0, theirs, torch.ones_like(theirs)), dim=1)
    return (weight * (1 - cosine)).sum()


def _alone(one: Callable[..., Any]) -> Callable[..., Any]:
    """What vmap makes of a function, for one person."""

    def step(*args: Any) -> Any:
        return tree_map(lambda value: value[None], one(*tree_map(lambda value: value[0], args)))

    return step


def _adam_step(weights: Weights, gradients: Weights, moments: list[Weights], i: int, lr: float, active_P: Tensor) -> None:
    """Adam's i-th step (from 1), in place, of the persons that are still active; every person's moments are their own."""
    beta1, beta2, epsilon = _ADAM
    for name, gradient in gradients.items():
        first, second = moments[0][name], moments[1][name]
        first.mul_(beta1).add_(gradient, alpha=1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        change = (first / (1 - beta1**i)) / ((second / (1 - beta2**i)).sqrt() + epsilon)
        weights[name].sub_(torch.where(_like(active_P, change), lr * change, 0))


def _like(mask_P: Tensor, values: Tensor) -> Tensor:
    return mask_P.view(-1, *(1,) * (values.dim() - 1))


def _padded(size: int, *parts: Tensor) -> tuple[Tensor, ...]:
    """Each filled up with zeros to `size` rows: nobody, of whom nothing was seen."""
    return tuple(torch.cat((part, part.new_zeros(size - len(part), *part.shape[1:]))) if len(part) < size else part for part in parts)
