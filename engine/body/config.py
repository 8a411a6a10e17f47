"""Which body model a job uses: the config alone, so that a plan is made without torch."""

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
