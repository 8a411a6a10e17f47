"""Plots are valid PNGs, and nothing to draw draws nothing."""

import io

import numpy as np
from PIL import Image

from engine.report.plots import histograms, loss_curves


def _size(png: bytes) -> tuple[int, int]:
    image = Image.open(io.BytesIO(png))
    image.load()
    assert image.format == "PNG"
    return image.size


def test_loss_curves_have_a_panel_a_term():
    rows = [{"step": s, "epoch": 0, "loss": 3.0 / s, "joint_img": 1.0 / s, "samples_per_s": 9.0} for s in (1, 2, 3)]
    one = _size(loss_curves({"f": [{"step": 1, "loss": 1.0}]}))
    two = _size(loss_curves({"f": rows, "g": [{"step": 1, "loss": 2.0, "smpl_pose": float("nan"), "note": "text"}]}))
    assert two[0] > 1.5 * one[0] and two[1] == one[1]
    assert loss_curves({"f": []}) is None and loss_curves({}) is None


def test_histograms_leave_out_what_is_not_finite():
    assert _size(histograms({"score": np.array([0.1, np.nan, 0.9]), "truncation": np.zeros(5)}, {"score": (0.0, 1.0)}))[0] > 400
    assert histograms({"latent_norm": np.full(3, np.nan)}) is None
