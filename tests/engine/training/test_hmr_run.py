"""The second estimator through everything the first goes through: trained, resumed, and read as an annotator with crops of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from engine.annotators.identity import read_identity
from engine.annotators.network import NetworkAnnotator
from engine.annotators.rows import annotate_batches
from engine.body.cameras import project, virtual_camera
from engine.loading.decode import Decoder
from engine.loading.mean_parameters import mean_parameters
from engine.loading.persons import person_batches
from engine.loading.sources import Source, SourceConfig
from engine.models.iterative_regressor import UPRIGHT
from engine.shards.reader import open_shard_set, read_samples
from engine.training.checkpoint import open_checkpoint
from engine.training.config import TrainAnnotatorConfig, TrainEstimatorConfig
from engine.training.loop import fit
from schemas.crops import CropSpec

HMR = {"name": "hmr", "backbone": "resnet18", "width": 0.125, "input_hw": (64, 64), "hidden": 16}
CROP = CropSpec(64, 64, "spin")
Make = Callable[..., TrainAnnotatorConfig]


class Killed(Exception):
    """Stands for a worker that dies."""


def _fit(config: TrainAnnotatorConfig, dies_at: int | None = None) -> None:
    def report(row: dict) -> None:
        if row["step"] == dies_at:
            raise Killed

    fit(config, 0, 1, torch.device("cpu"), report)


@pytest.fixture
def config(make_config: Make) -> TrainAnnotatorConfig:
    return make_config(model=HMR, log_every_steps=1)


def test_either_kind_of_run_takes_it_by_name(config: TrainAnnotatorConfig) -> None:
    values = config.model_dump(mode="json") | {"role": "estimator"}
    assert config.model.crop == TrainEstimatorConfig.model_validate(values).model.crop == CROP


def test_a_fresh_run_starts_from_the_sets_average_and_a_resumed_one_ends_alike(config: TrainAnnotatorConfig, sets, tmp_path) -> None:
    _fit(config)
    parts = config.model_copy(update={"out": config.out + "-parts"})
    with pytest.raises(Killed):
        _fit(parts, dies_at=5)
    _fit(parts)
    whole, resumed = (open_checkpoint(c.out).tensors("model.pt") for c in (config, parts))
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, atol=1e-6, rtol=0)
    source = Source(SourceConfig(url=sets[0]), str(tmp_path / "cache"), CROP, 100)
    mean = mean_parameters([source])
    np.testing.assert_allclose(whole["mean.betas"].numpy(), mean.betas_10, atol=1e-6)
    expected = np.concatenate([np.array([UPRIGHT]), mean.rotmats_2433[1:]])[..., :2].ravel()
    np.testing.assert_allclose(whole["mean.pose"].numpy(), expected, atol=1e-6)


def test_its_rows_project_where_its_own_crops_say(config: TrainAnnotatorConfig, sets) -> None:
    """Pseudo-GT of square crops: the body of a row, seen by the row's camera, is the body of the crop, carried back by its affine."""
    _fit(config)
    annotator = NetworkAnnotator.from_checkpoint(config.out, "cpu")
    assert annotator.crop == CROP and read_identity(config.out).name == "hmr"
    shards = open_shard_set(sets[1])
    samples = [item for entry in shards.manifest.shards for item in read_samples(shards.fetch(entry), entry)]
    (batch,) = person_batches(samples, Decoder(), annotator.crop, 64)
    assert batch.crops_NHW3.shape == (len(samples), 64, 64, 3)
    np.testing.assert_allclose(batch.boxes_N4[:, 2], [1.2 * max(s.instances[0].bbox_xywh[2:]) for s, _ in samples])

    rows = {row["key"]: row for row in annotate_batches([batch], annotator).table.to_pylist()}
    assert len(rows) == len(samples)
    prediction = annotator.predict(batch.crops_NHW3)
    for i, (sample, _) in enumerate(samples):
        row = rows[sample.key]
        with torch.no_grad():
            pose, betas = (torch.tensor([row[name]], dtype=torch.float32) for name in ("pose", "betas"))
            joints = annotator.body.joints(pose, betas).numpy() + np.float32(row["transl"])
        in_image = project(joints, np.array([row["focal"]]), np.array([row["princpt"]]))[0]
        assert row["transl"] == prediction.cam_transl_N3[i].tolist()
        affine = batch.affines_N23[i]
        in_crop = in_image @ affine[:, :2].T + affine[:, 2]
        np.testing.assert_allclose(in_crop, project(joints, *virtual_camera((64, 64)))[0], atol=2e-3)
