"""f as an annotator: a training checkpoint that predicts crops.

What is predicted comes from the checkpoint: crop size, pixel statistics, body, prior. How it is computed comes from
`NetworkAnnotatorConfig`. The backbone's batch norms are folded into its convolutions, which takes a quarter off the time on a CPU.

Shape suffixes: N crops, H and W of a crop, J joints of `pose2pose33`, P passes over the crops (1, or 2 with their mirror images).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from engine.annotators.base import LATENT_SIZE, Prediction
from engine.annotators.flip import average, disagreement, mirror_images, mirror_joints, mirror_prediction
from engine.annotators.identity import trained_from
from engine.annotators.network_config import NetworkAnnotatorConfig
from engine.annotators.quality import SKELETON
from engine.annotators.seen import Seen
from engine.body.pose_prior import PosePrior
from engine.body.smpl import Body
from engine.errors import CheckpointMismatch
from engine.models.estimator import Estimator
from engine.training.checkpoint import LoadedNetwork, load_network
from schemas.checkpoints import network_name
from schemas.crops import CropSpec

_PARAMETERS = (72, 10, 3, LATENT_SIZE)


class NetworkAnnotator:
    """Predicts with a trained estimator. Build it with `from_checkpoint`."""

    def __init__(self, network: LoadedNetwork, device: str, config: NetworkAnnotatorConfig | None = None) -> None:
        """Takes the network over: its backbone is changed for one without batch norms."""
        self.config = config or NetworkAnnotatorConfig()
        self._network = network
        self._device = torch.device(device)
        network.model.backbone = _prepared(network.model.backbone, self.config.compile, self._device)
        self._body = network.body if self._device.type == "cpu" else copy.deepcopy(network.body).cpu()

    @classmethod
    def from_checkpoint(cls, url: str, device: str = "auto", config: NetworkAnnotatorConfig | None = None) -> NetworkAnnotator:
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
        return cls(network, device, config)

    @property
    def digest(self) -> str:
        """sha256 of the weights' file."""
        return self._network.digest

    @property
    def crop(self) -> CropSpec:
        return self._network.model.config.crop

    @property
    def body(self) -> Body:
        return self._body

    @property
    def prior(self) -> PosePrior | None:
        """The pose prior whose latent it predicts, on the device it computes on; None without."""
        return self._network.prior

    @property
    def lineage(self) -> dict[str, str]:
        """What the network was trained from: name -> digest."""
        return trained_from(self._network.manifest.config_digest, self._network.manifest.training_sets)

    @torch.inference_mode()
    def predict(self, crops_NHW3: np.ndarray, seen: Seen | None = None) -> Prediction:
        """Parameters of uint8 RGB crops (N,H,W,3), see Prediction. `seen` is not looked at."""
        crops = torch.from_numpy(np.ascontiguousarray(crops_NHW3))
        if self._device.type == "cuda":
            crops = crops.pin_memory()
        images_N3HW = crops.to(self._device, non_blocking=True).permute(0, 3, 1, 2)  # lies in memory as channels_last wants it
        passes = [self._numbers(images_N3HW)]
        if self.config.flip:
            passes.append(self._numbers(mirror_images(images_N3HW)))
        numbers_PNX = torch.stack(passes).cpu().numpy()  # one transfer
        direct, direct_joints = _split(numbers_PNX[0])
        if not self.config.flip:
            return direct
        mirrored, mirrored_joints = _split(numbers_PNX[1])
        return average(direct, mirror_prediction(mirrored), disagreement(direct_joints, mirror_joints(mirrored_joints)))

    def _numbers(self, images_N3HW: Tensor) -> Tensor:
        """All numbers of a person in one float32 row: _PARAMETERS, and with flip the body's joints (J x 3)."""
        model = self._network.model
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            output = model({"image": images_N3HW})
        out = model.parameters_of(output)
        latent = out.betas_B10.new_full((len(images_N3HW), LATENT_SIZE), torch.nan) if out.latent_B32 is None else out.latent_B32
        parts = [out.pose_B72, out.betas_B10, out.cam_transl_B3, latent]
        if self.config.flip:
            parts.append(self._network.body.joints(out.pose_B72, out.betas_B10, skeleton=SKELETON).flatten(1))
        return torch.cat([part.float() for part in parts], dim=1)


def _prepared(backbone: nn.Module, compiled: bool, device: torch.device) -> nn.Module:
    backbone = fuse(backbone).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    if not compiled:
        return backbone
    return torch.compile(backbone, dynamic=False, mode="reduce-overhead" if device.type == "cuda" else None)


def _split(numbers_NX: np.ndarray) -> tuple[Prediction, np.ndarray]:
    *parameters, joints_NX = np.split(numbers_NX, np.cumsum(_PARAMETERS), axis=1)
    return Prediction(*(np.ascontiguousarray(part) for part in parameters)), joints_NX.reshape(len(numbers_NX), -1, 3)
