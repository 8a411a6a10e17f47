"""How a network annotates; free of torch, because a plan needs it and a finished job has a plan."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config import Config


class NetworkAnnotatorConfig(Config):
    """How a network is computed when it annotates. Every field may change a bit of the rows, so all of them belong into the plan."""

    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="of the backbone; bf16 wants CUDA or a CPU with AVX-512 BF16, where it takes half the time of fp32"
    )
    compile: bool = Field(default=False, description="torch.compile the backbone, on CUDA with CUDA graphs; costs a minute at the start")
    flip: bool = Field(default=False, description="predict the mirror image too and average: twice the time, and flip_disagreement")
