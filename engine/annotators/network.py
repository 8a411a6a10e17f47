"""f as an annotator: a training checkpoint that predicts crops.

Everything that decides its output comes from the checkpoint: crop size, pixel statistics, body, prior. float32 throughout.
"""

from __future__ import annotations

import numpy as np
import torch

from engine.annotators.base import Prediction, no_latent
from engine.annotators.identity import trained_from
from engine.body.smpl import Body
from engine.errors import CheckpointMismatch
from engine.models.estimator import Estimator
from engine.training.checkpoint import LoadedNetwork, load_network
from schemas.checkpoints import network_name
from schemas.crops import CropSpec


class NetworkAnnotator:
    """Predicts with a trained estimator. Build it with `from_checkpoint`."""

    def __init__(self, network: LoadedNetwork, device: str) -> None:
        self._network = network
        self._device = torch.device(device)

    @classmethod
    def from_checkpoint(cls, url: str, device: str = "auto") -> NetworkAnnotator:
        """The network of a run directory (its last checkpoint) or of one checkpoint. `device`: 'auto', 'cpu' or 'cuda'.

        Raises MissingInput, CheckpointMismatch, StorageError or UnsafeInput as `load_network` does.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        network = load_network(url, device)
        if not isinstance(network.model, Estimator):
            raise CheckpointMismatch(
                f"checkpoint {url}: holds a {network_name(network.manifest.model)!r} network, which gives no body; "
                "expected a run of jobs/train_annotator.py or jobs/train_estimator.py"
            )
        return cls(network, device)

    @property
    def digest(self) -> str:
        """sha256 of the weights' file."""
        return self._network.digest

    @property
    def crop(self) -> CropSpec:
        return self._network.model.config.crop

    @property
    def body(self) -> Body:
        return self._network.body

    @property
    def lineage(self) -> dict[str, str]:
        """What the network was trained from: name -> digest."""
        return trained_from(self._network.manifest.config_digest, self._network.manifest.training_sets)

    @torch.inference_mode()
    def predict(self, crops_NHW3: np.ndarray) -> Prediction:
        """Parameters of uint8 RGB crops (N,H,W,3), see Prediction."""
        images_N3HW = torch.from_numpy(np.ascontiguousarray(crops_NHW3.transpose(0, 3, 1, 2))).to(self._device)
        model = self._network.model
        out = model.parameters_of(model({"image": images_N3HW}))
        numbers = (x.float().cpu().numpy() for x in (out.pose_B72, out.betas_B10, out.cam_transl_B3))
        return Prediction(*numbers, no_latent(len(crops_NHW3)) if out.latent_B32 is None else out.latent_B32.float().cpu().numpy())
