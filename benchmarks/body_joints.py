"""The training loop's SMPL joints against smplx's full layer, forward and backward, side by side in one run.

Both give pose2pose33 of the same bodies from the same inputs; smplx skins every vertex first.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import smplx
import torch
from smplx.utils import Struct

from engine.body.body_files import OPEN_BODY, read_body_file
from engine.body.rotations import axis_angle_to_matrix
from engine.body.smpl import BodyConfig, load_body

BATCH, ROUNDS = 64, 30
ANY_VERTEX = dict.fromkeys(smplx.vertex_ids.vertex_ids["smplh"], 0)
"""smplx picks 21 vertices by SMPL's numbering, which the open body does not have; they are not used here."""


def seconds(call: Callable[[], torch.Tensor], inputs: list[torch.Tensor]) -> float:
    began = time.perf_counter()
    torch.autograd.grad(call().square().sum(), inputs)
    return time.perf_counter() - began


def measure() -> list[dict]:
    """The row of bench.json: milliseconds a batch, ours and smplx's."""
    torch.set_num_threads(1)
    body = load_body(BodyConfig())
    pose, betas = (0.3 * torch.randn(BATCH, 72)).requires_grad_(), torch.randn(BATCH, 10).requires_grad_()
    layer = smplx.SMPLLayer(model_path="", data_struct=Struct(**vars(read_body_file(OPEN_BODY))), vertex_ids=ANY_VERTEX)

    def ours() -> torch.Tensor:
        return body.joints(pose, betas)

    def reference() -> torch.Tensor:
        rotmats = axis_angle_to_matrix(pose.view(BATCH, 24, 3))
        vertices = layer(betas=betas, body_pose=rotmats[:, 1:], global_orient=rotmats[:, :1]).vertices
        return body.regress(vertices, "pose2pose33")

    assert (ours() - reference()).abs().max() < 1e-5
    times = [(seconds(ours, [pose, betas]), seconds(reference, [pose, betas])) for _ in range(ROUNDS)]
    mine, theirs = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    unit = f"ms a batch of {BATCH}, forward and backward, 1 thread"
    return [{"name": "smpl_joints_vs_smplx", "ours": mine, "reference": theirs, "ratio": theirs / mine, "unit": unit}]
