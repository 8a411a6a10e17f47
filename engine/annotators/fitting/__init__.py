"""Fitting the body to 2D joints, batched over persons. A library of torch alone: `smplify.py` makes an annotator of it."""

from engine.annotators.fitting.config import FitConfig, Stage
from engine.annotators.fitting.fit import fit_persons
from engine.annotators.fitting.problem import Fitted, Observed, Start

__all__ = ["FitConfig", "Fitted", "Observed", "Stage", "Start", "fit_persons"]
