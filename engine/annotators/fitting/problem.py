"""What a fit is given and what it gives: joints in a crop, a place to start from, a body.

Shapes: N persons, J = 33 joints of `pose2pose33`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.body.cameras import FOCAL_AT_256

FAR_PX = 4096.0
"""A joint this far from the principal point, in a crop 256 high, is no joint of the person; it counts as not seen."""


@dataclass(frozen=True)
class Observed:
    """2D joints of N persons in pixels of their crops' virtual camera (`engine.body.cameras.virtual_camera`).

    joints_NJ2, and weight_NJ: 0 is not seen, 1 is annotated, anything between a confidence (the energy takes its square).
    focal (2,) and princpt (2,): of the one camera all crops share, px.
    """

    joints_NJ2: Tensor
    weight_NJ: Tensor
    focal: Tensor
    princpt: Tensor

    def __len__(self) -> int:
        return len(self.joints_NJ2)


@dataclass(frozen=True)
class Start:
    """Where a fit starts: axis-angle pose_N72 (rad), betas_N10, transl_N3 (m, camera frame), and the prior's latent_N32 of the pose.

    Without latent_N32 the prior's encoder gives it. The pose's own body rotations are not kept beyond that: a fit is always a pose the
    prior decodes, so the start is the nearest one the prior knows.
    """

    pose_N72: Tensor
    betas_N10: Tensor
    transl_N3: Tensor
    latent_N32: Tensor | None = None

    def rows(self, index: Tensor) -> Start:
        """These rows, in this order."""
        latent = None if self.latent_N32 is None else self.latent_N32[index]
        return Start(self.pose_N72[index], self.betas_N10[index], self.transl_N3[index], latent)

    def check(self, count: int, latent_dim: int) -> None:
        """ValueError unless it has the shapes of so many persons."""
        shapes = {"pose_N72": (count, 72), "betas_N10": (count, 10), "transl_N3": (count, 3), "latent_N32": (count, latent_dim)}
        for name, expected in shapes.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != expected:
                raise ValueError(f"start: expected {name} {expected}, found {tuple(value.shape)}")


@dataclass(frozen=True)
class Fitted:
    """Fits of N persons, float32, all finite, in the camera frame of the crop (x right, y down, z forward).

    pose_N72: axis-angle, rad, root first, hands zero; its body joints are what the prior decodes latent_N32 to. betas_N10.
    transl_N3: added to the posed vertices, m. energy_N and data_term_N: the energy of the last stage, and its 2D part.
    iterations_N: of the start that won. seen_N: joints that counted; where it is 0 the fit is the prior's mean, standing in the crop.
    """

    pose_N72: Tensor
    betas_N10: Tensor
    transl_N3: Tensor
    latent_N32: Tensor
    energy_N: Tensor
    data_term_N: Tensor
    iterations_N: Tensor
    seen_N: Tensor


@dataclass(frozen=True)
class Target:
    """`Observed` made safe, in pixels of a crop 256 high about the principal point: what the energy sees.

    confidence_BJ is 0 wherever joints_BJ2 was not finite or too far away, and joints_BJ2 is 0 there. aspect: fy / fx.
    """

    joints_BJ2: Tensor
    confidence_BJ: Tensor
    aspect: float

    def __len__(self) -> int:
        return len(self.joints_BJ2)

    def rows(self, index: Tensor) -> Target:
        """These rows, in this order."""
        return Target(self.joints_BJ2[index], self.confidence_BJ[index], self.aspect)

    def put(self, index: Tensor, rows: Target) -> None:
        """Overwrite rows in place."""
        self.joints_BJ2[index], self.confidence_BJ[index] = rows.joints_BJ2, rows.confidence_BJ


def as_target(observed: Observed, joints: int, dtype: torch.dtype = torch.float32) -> Target:
    """`observed` in the unit of the energy. ValueError for wrong shapes or a camera that is none; wrong numbers are joints not seen."""
    xy, weight = observed.joints_NJ2.to(dtype), observed.weight_NJ.to(dtype)
    if xy.shape != (len(weight), joints, 2) or weight.shape != (len(xy), joints):
        raise ValueError(
            f"observed: expected joints (N, {joints}, 2) and weights (N, {joints}), found {tuple(xy.shape)} and {tuple(weight.shape)}"
        )
    focal, princpt = (torch.as_tensor(value, dtype=torch.float64).flatten().tolist() for value in (observed.focal, observed.princpt))
    if len(focal) != 2 or len(princpt) != 2 or not all(0 < f < 1e9 for f in focal):
        raise ValueError(f"observed: expected focal (2,) above 0 and princpt (2,), px, found {focal} and {princpt}")
    scaled = (xy - torch.tensor(princpt, dtype=dtype, device=xy.device)) * (FOCAL_AT_256 / focal[0])
    good = scaled.isfinite().all(-1) & (scaled.abs().amax(-1) < FAR_PX) & weight.isfinite()
    confidence = torch.where(good, weight, 0.0).clamp(0, 1)
    return Target(torch.where((confidence > 0)[..., None], scaled, 0.0), confidence, focal[1] / focal[0])
