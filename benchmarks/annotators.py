"""Annotating with a ResNet-50 Pose2Pose at 256x192, on one thread: each way to compute it against the network as it was trained.

Random weights, batch norms with statistics of their own. The last rows say how many persons a second the rows after the network take,
beside the network in the way that is fastest: they must never be what a worker waits for.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

import numpy as np
import torch

from engine.annotators.base import Annotator
from engine.annotators.network import NetworkAnnotator, NetworkAnnotatorConfig
from engine.annotators.rows import batch_rows
from engine.body.pose_prior import PriorConfig, load_prior
from engine.body.smpl import BodyConfig, load_body
from engine.loading.persons import CropBatch
from engine.models.estimators.pose2pose import Pose2Pose, Pose2PoseConfig
from engine.training.checkpoint import LoadedNetwork
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17

BATCH, ROUNDS = 64, 3
WAYS = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "fp32_compiled": {"compile": True},
    "bf16_compiled": {"precision": "bf16", "compile": True},
}


def per_second(call: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Persons a second of the fastest of some rounds, the first one left out."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return BATCH / min(times[1:])


def trained() -> LoadedNetwork:
    """A network as a checkpoint would give it."""
    torch.manual_seed(0)
    body, prior = load_body(BodyConfig()), load_prior(PriorConfig())
    model = Pose2Pose(Pose2PoseConfig(), body, prior)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    model.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return LoadedNetwork(model, None, body, prior, "")


def rows_per_second(annotator: Annotator) -> float:
    """Persons a second of `batch_rows`, for persons of COCO."""
    rng, points = np.random.default_rng(0), [(float(i), float(i)) for i in range(17)]
    person = Instance(annotation_id="1", bbox_xywh=(0, 0, 90, 160), skeleton=COCO17.name, joints_img=points, joints_valid=[True] * 17)
    sample = Sample(key="k", dataset="d", image_path="p", width=200, height=200, instances=(person,))
    crops = rng.integers(0, 256, (BATCH, *annotator.crop.hw, 3), dtype=np.uint8)
    boxes = np.tile([0.0, 0.0, 120.0, 160.0], (BATCH, 1))
    batch = CropBatch(crops, boxes, np.zeros((BATCH, 2, 3)), [sample] * BATCH, [person] * BATCH)
    out = annotator.predict(crops)
    return per_second(lambda: batch_rows(batch, out, annotator.body, annotator.crop), rounds=50)


def measure() -> list[dict]:
    """Rows of bench.json: persons a second."""
    torch.set_num_threads(1)
    network = trained()
    crops = np.random.default_rng(0).integers(0, 256, (BATCH, *network.model.config.input_hw, 3), dtype=np.uint8)
    images = torch.from_numpy(crops).permute(0, 3, 1, 2)
    with torch.inference_mode():
        reference = per_second(lambda: network.model.parameters_of(network.model({"image": images})))
    rows, unit = [], f"persons/s, batch {BATCH}, 1 thread"
    for name, settings in WAYS.items():
        own = LoadedNetwork(copy.deepcopy(network.model), None, network.body, network.prior, "")
        annotator = NetworkAnnotator(own, "cpu", NetworkAnnotatorConfig(**settings))
        ours = per_second(lambda annotator=annotator: annotator.predict(crops))
        rows.append({"name": f"annotate_{name}", "ours": ours, "reference": reference, "ratio": ours / reference, "unit": unit})
    fastest, of_rows = max(row["ours"] for row in rows), rows_per_second(annotator)
    return [*rows, {"name": "rows_vs_network", "ours": of_rows, "reference": fastest, "ratio": of_rows / fastest, "unit": unit}]
