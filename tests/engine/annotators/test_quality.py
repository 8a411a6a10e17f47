"""Quality figures against numbers worked out by hand, and the score against the program in docs/FORMAT.md."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.annotators.base import Prediction, no_latent
from engine.annotators.quality import measure, score, truncation
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17, POSE2POSE33

DOCUMENT = (Path(__file__).resolve().parents[3] / "docs" / "FORMAT.md").read_text()


def _instance(joints: dict[str, tuple[float, float]], box: tuple[float, float, float, float] = (0, 0, 100, 400)) -> Instance:
    return Instance(
        annotation_id="1",
        bbox_xywh=box,
        skeleton="coco17",
        joints_img=tuple(joints.get(joint, (0.0, 0.0)) for joint in COCO17.joints),
        joints_valid=tuple(joint in joints for joint in COCO17.joints),
    )


def _predicted(joints: dict[str, tuple[float, float]]) -> np.ndarray:
    """Joints (1,33,2) that lie in the photograph, at (1, 1) where nothing else is said."""
    points = np.ones((1, len(POSE2POSE33), 2))
    for joint, point in joints.items():
        points[0, POSE2POSE33.index(joint)] = point
    return points


def _measured(predicted: dict, truth: dict, latent: np.ndarray | None = None, apart: float | None = None) -> dict[str, float]:
    instance = _instance(truth)
    sample = Sample(key="k", dataset="d", image_path="p", width=500, height=500, instances=(instance,))
    latent = no_latent(1) if latent is None else latent[None].astype(np.float32)
    disagreement = None if apart is None else np.array([apart], np.float32)
    out = Prediction(*(np.zeros((1, n), np.float32) for n in (72, 10, 3)), latent, disagreement)
    return {name: float(values[0]) for name, values in measure(_predicted(predicted), [sample], [instance], out).items()}


def test_joints_are_compared_by_name_in_units_of_the_box() -> None:
    """The box is 100 x 400, so 200 px are 1: distances 5, 10 and 40 px are 0.025, 0.05 and 0.2."""
    truth = {"Nose": (50.0, 20.0), "L_Ear": (60.0, 20.0), "R_Ankle": (40.0, 390.0)}
    figures = _measured({"Nose": (53.0, 24.0), "L_Ear": (60.0, 30.0), "R_Ankle": (0.0, 390.0)}, truth)
    assert figures["valid_joints"] == 3
    assert figures["reprojection_error"] == pytest.approx((0.025 + 0.05 + 0.2) / 3)
    assert figures["visible_fraction"] == pytest.approx(2 / 3)
    similarity = (2**-0.0625 + 2**-0.25 + 2**-4) / 3
    assert figures["keypoint_similarity"] == pytest.approx(similarity)
    assert figures["score"] == pytest.approx(similarity / 2), "three joints are half of what is enough"


def test_one_wrong_keypoint_costs_its_own_share() -> None:
    truth = {joint: (50.0, 20.0 * i) for i, joint in enumerate(COCO17.joints)}
    right = _measured(truth, truth)
    wrong = _measured(truth | {"Nose": (450.0, 450.0)}, truth)
    assert right["score"] == right["keypoint_similarity"] == 1
    assert wrong["score"] == pytest.approx(16 / 17) and wrong["reprojection_error"] > 0.1


def test_a_tenth_of_the_box_is_one_half() -> None:
    truth = {joint: (50.0, 20.0 * i + 5) for i, joint in enumerate(COCO17.joints)}
    figures = _measured({joint: (x + 20, y) for joint, (x, y) in truth.items()}, truth)
    assert figures["score"] == pytest.approx(0.5)


def test_unusual_latents_and_disagreement_lower_the_score() -> None:
    truth = {joint: (50.0, 20.0 * i) for i, joint in enumerate(COCO17.joints)}
    latent = np.full(32, 12 / math.sqrt(32))
    assert _measured(truth, truth, latent)["score"] == pytest.approx(0.5)
    assert _measured(truth, truth, latent / 2)["score"] == pytest.approx(1)
    assert _measured(truth, truth, apart=0.2)["score"] == pytest.approx(0.5)
    both = _measured(truth, truth, latent, apart=0.2)
    assert (
        both["score"] == pytest.approx(0.25)
        and both["latent_norm"] == pytest.approx(12)
        and both["flip_disagreement"] == pytest.approx(0.2)
    )


def test_without_valid_joints_nothing_is_claimed() -> None:
    figures = _measured({}, {})
    assert all(math.isnan(figures[name]) for name in ("reprojection_error", "visible_fraction", "keypoint_similarity", "flip_disagreement"))
    assert (figures["valid_joints"], figures["score"]) == (0, 0.0)


@given(x=st.floats(-50, 150), y=st.floats(-50, 150))
def test_truncation_counts_joints_beyond_the_pixels(x: float, y: float) -> None:
    outside = not (-0.5 <= x < 99.5 and -0.5 <= y < 79.5)
    points = np.array([[[x, y], [10.0, 10.0]]])
    assert truncation(points, np.array([[100.0, 80.0]])) == pytest.approx([0.5 if outside else 0.0])


def _random_figures(n: int) -> dict[str, np.ndarray]:
    """Rows with everything there is: no joints, no latent, no flip, absurd values."""
    rng = np.random.default_rng(0)
    joints = rng.integers(0, 18, n)
    figures = {
        "keypoint_similarity": np.where(joints > 0, rng.uniform(0, 1, n), np.nan),
        "truncation": rng.uniform(0, 1, n) * (rng.uniform(size=n) < 0.5),
        "latent_norm": np.where(rng.uniform(size=n) < 0.2, np.nan, rng.gamma(3, 4, n)),
        "flip_disagreement": np.where(rng.uniform(size=n) < 0.5, np.nan, rng.gamma(1, 0.2, n)),
    }
    figures["latent_norm"][:3], figures["flip_disagreement"][3:6] = 1e30, 1e30
    return {name: values.astype(np.float32) for name, values in figures.items()} | {"valid_joints": joints.astype(np.int16)}


def test_scores_lie_in_0_to_1_and_are_0_without_joints() -> None:
    figures = _random_figures(2000)
    values = score(figures)
    assert ((values >= 0) & (values <= 1)).all() and (values[figures["valid_joints"] == 0] == 0).all() and (values > 0.5).any()


def test_the_documents_program_gives_the_score(tmp_path: Path) -> None:
    """It asserts the equality itself; a row that is wrong must make it fail."""
    (program,) = [p for p in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL) if "score *=" in p]
    figures = _random_figures(500)
    right = figures | {"score": score(figures).astype(np.float32)}
    wrong = right | {"score": right["score"] + np.float32(1e-3) * (np.arange(500) == 77)}
    for name, columns, code in (("right", right, 0), ("wrong", wrong, 1)):
        pq.write_table(pa.table(columns), tmp_path / name)
        done = subprocess.run([sys.executable, "-c", program, str(tmp_path / name)], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
