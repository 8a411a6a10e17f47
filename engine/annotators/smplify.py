"""SMPLify as an annotator: the body fitted to each person's annotated 2D joints, in the virtual camera of the crop.

The baseline that annotation networks are measured against (paper, Tables 1 and 2), fitted in batches on whatever torch runs on. Starts
from the mean pose, or from a network's prediction, whose crop, body and prior it then takes over. A person of whom nothing was
annotated gets the start; `valid_joints` and `score` of the row say so.

Shape suffixes: N crops, J joints of `pose2pose33`.
"""

from __future__ import annotations

import numpy as np
import torch

from engine.annotators.base import Prediction
from engine.annotators.fitting.fit import fit_persons
from engine.annotators.fitting.problem import Observed, Start
from engine.annotators.identity import smplify_identity
from engine.annotators.network import NetworkAnnotator
from engine.annotators.network_config import NetworkAnnotatorConfig
from engine.annotators.seen import Seen
from engine.annotators.smplify_config import SmplifyConfig
from engine.body.cameras import virtual_camera
from engine.body.pose_prior import load_prior
from engine.body.smpl import Body, load_body
from schemas.crops import CropSpec


class SmplifyAnnotator:
    """Fits every person of a batch at once. `device`: 'auto', 'cpu' or 'cuda'."""

    def __init__(self, config: SmplifyConfig, device: str = "auto") -> None:
        """Raises what loading the body, the prior or the checkpoint of `init` raises."""
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        self._config, self._device = config, torch.device(device)
        self._network: NetworkAnnotator | None = None
        if config.init is not None:
            self._network = NetworkAnnotator.from_checkpoint(config.init, device, NetworkAnnotatorConfig())
        network = self._network
        self.crop = CropSpec(*config.crop_hw) if network is None else network.crop
        self.body: Body = load_body(config.body) if network is None else network.body
        prior = None if network is None else network.prior
        self._prior = (load_prior(config.prior) if prior is None else prior).to(self._device)
        self._fitted_body = self.body if self._device.type == "cpu" else load_body(self.body.config).to(self._device)
        self.identity = smplify_identity(config)

    @property
    def digest(self) -> str:
        return self.identity.digest

    def predict(self, crops_NHW3: np.ndarray, seen: Seen) -> Prediction:
        """Fits (N persons), each to its own joints; the crops are looked at by the network that it starts from, if there is one."""
        focal, princpt = (torch.from_numpy(value).to(self._device) for value in virtual_camera(self.crop.hw))
        joints, weight = (torch.from_numpy(value).to(self._device) for value in (seen.joints_BJ2, seen.weight_BJ))
        observed = Observed(joints, weight, focal, princpt)
        fitted = fit_persons(self._fitted_body, self._prior, observed, self._config.fit, self._start(crops_NHW3))
        values = (fitted.pose_N72, fitted.betas_N10, fitted.transl_N3, fitted.latent_N32)
        return Prediction(*(value.float().cpu().numpy() for value in values))

    def _start(self, crops_NHW3: np.ndarray) -> Start | None:
        if self._network is None:
            return None
        out = self._network.predict(crops_NHW3)
        latent = None if np.isnan(out.latent_N32).any() else out.latent_N32
        values = (out.pose_N72, out.betas_N10, out.cam_transl_N3, latent)
        return Start(*(None if value is None else torch.from_numpy(value).to(self._device) for value in values))
