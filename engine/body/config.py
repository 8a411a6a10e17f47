"""Which body model and pose prior a job uses: the configs alone, so that a plan is made without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from engine.config import Config


class BodyConfig(Config):
    """Which body model to use."""

    kind: Literal["open", "smpl"] = Field("open", description="open: the bundled free body; smpl: SMPL from the user's licensed files")
    smpl_dir: str | None = Field(
        None, description="smplx's model folder, holding smpl/SMPL_NEUTRAL.pkl (or .npz); MALE and FEMALE beside it where data has genders"
    )
    h36m_regressor: str | None = Field(
        None, description="path of J_regressor_h36m_correct.npy (17, 6890); needed with kind=smpl for evaluation"
    )


class PriorConfig(Config):
    """Which pose prior to use."""

    kind: Literal["open", "vposer"] = Field("open", description="open: the bundled free prior; vposer: VPoser from the user's files")
    vposer_dir: str | None = Field(
        None,
        description="a VPoser directory: v1's (snapshots/*.pt and *.ini: the unpacked vposer_v1_0, or what train_pose_prior wrote) or v2's "
        "(snapshots/*.ckpt and *.yaml: the unpacked V02_05); of several snapshots, the one of the highest epoch in its name",
    )
    vposer_version: Literal["auto", "v1", "v2"] = Field(
        "auto", description="which VPoser vposer_dir must hold; auto: whichever it does. A latent of one version means nothing to the other"
    )


OPEN_PRIOR_DIGEST = "a2e88bb885831ac9e7850460a79e998e121c16f6fecfd54bd57579591ae18e32"
"""`PosePrior.digest` of the bundled prior, for plans, which do not load it."""
