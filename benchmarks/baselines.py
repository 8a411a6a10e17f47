"""Who annotates, side by side: f, fitting and fine-tuning on the same photographs, persons a second and errors against the truth.

With PSEUDOGT_DEMO, the folder that `jobs/demo.py` made, its photographs, its f and its truth are taken; without, a small world is made
and an f trained for some seconds, which is a poor start for the others. Batches are those of the fan-out; what is counted is seconds of one
thread, so that a busy machine tells the same. Fine-tuning of all weights is asked for a few persons, and beside it stands f of the same.

The reference of every row is f's own number. Errors are those of the 3DPW protocol (mm, the fewer the better, so the ratio is f's
over ours), and the mean reprojection error of the annotated joints in percent of the square root of the box's area.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine.annotators.base import Annotator
from engine.annotators.registry import AnnotatorsConfig, resolve_annotator
from engine.annotators.rows import annotate_batches
from engine.datasets.base import DatasetConfig
from engine.evaluation.meshes import mesh
from engine.evaluation.protocol_3dpw import score_meshes
from engine.evaluation.pseudo_gt import read_truth
from engine.loading.decode import Decoder
from engine.loading.persons import CropBatch, person_batches
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.reader import open_shard_set, read_samples
from engine.synthetic.config import SyntheticConfig
from engine.synthetic.world import write_world
from engine.training.config import TrainAnnotatorConfig
from engine.training.loop import fit

BATCH = 64
PERSONS, FEW = 768, 16
STEPS = 200
DEMO = "PSEUDOGT_DEMO"
REPO = Path(__file__).resolve().parents[1]
MODEL = {"backbone": "resnet18", "width": 0.5, "output_stride": 16, "input_hw": (128, 96), "feature_dim": 128, "losses": {"joint_cam": 10}}


@dataclass(frozen=True)
class World:
    """Photographs as a shard set, an f, and the truth of who is on them."""

    shards: str
    f: str
    truth: str
    words: str


@dataclass(frozen=True)
class Found:
    """Persons a second, and mean errors by name."""

    per_second: float
    errors: dict[str, float]


def measure() -> list[dict[str, Any]]:
    """Rows of bench.json: `baseline_NAME` persons a second, `baseline_NAME_ERROR` each error."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="baselines-") as scratch:
        world = _demo(os.environ[DEMO]) if DEMO in os.environ else _own(Path(scratch))
        ways: dict[str, tuple[str, dict[str, Any]]] = {
            "smplify": ("smplify", {}),
            "smplify_from_f": ("smplify", {"smplify": {"init": world.f}}),
            "eft_head": ("eft", {"eft": {"base": world.f}}),
            "eft_all": ("eft", {"eft": {"base": world.f, "trainable": "all"}}),
        }
        rows = []
        of_f = {n: _annotated(world, world.f, {}, n) for n in (PERSONS, FEW)}
        for name, (annotator, sections) in ways.items():
            persons = FEW if name == "eft_all" else PERSONS
            rows += _rows(name, _annotated(world, annotator, sections, persons), of_f[persons], f"{world.words}, {persons} persons")
        return rows


def _annotated(world: World, annotator: str, sections: dict[str, Any], persons: int) -> Found:
    _, make = resolve_annotator(annotator, AnnotatorsConfig.model_validate(sections), "cpu")
    made = make()
    size = min(BATCH, persons)
    batches = list(islice(_batches(world, made, size), -(-persons // size)))
    annotate_batches(batches[:1], made, size)
    began = time.process_time()
    table = annotate_batches(batches, made, size).table
    return Found(sum(map(len, batches)) / (time.process_time() - began), _errors(world, made, table))


def _batches(world: World, annotator: Annotator, size: int) -> Iterator[CropBatch]:
    shards = open_shard_set(world.shards)
    decoder = Decoder(threads=1)
    for entry in shards.manifest.shards:
        yield from person_batches(list(read_samples(shards.fetch(entry), entry)), decoder, annotator.crop, size)


def _errors(world: World, annotator: Annotator, table: pa.Table) -> dict[str, float]:
    truth = read_truth(Path(world.truth).read_bytes(), world.truth)
    place = {name: i for i, name in enumerate(truth["annotation_id"].to_pylist())}
    at = [place[name] for name in table["annotation_id"].to_pylist()]
    mine, true = ([np.array(t[name].to_pylist(), np.float32) for name in ("pose", "betas")] for t in (table, truth.take(pa.array(at))))
    scored = [
        score_meshes(*(mesh(annotator.body, *(values[i : i + BATCH] for values in side)) for side in (mine, true)), annotator.body)
        for i in range(0, len(at), BATCH)
    ]
    errors = type(scored[0]).joined(scored).summary()
    seen = table["reprojection_error"].to_numpy()
    return {
        "pa_mpjpe": errors.pa_mpjpe_mm,
        "mpjpe": errors.mpjpe_mm,
        "mpvpe": errors.mpvpe_mm or np.nan,
        "reprojection": 100 * float(np.nanmean(seen)),
    }


def _rows(name: str, found: Found, of_f: Found, words: str) -> list[dict[str, Any]]:
    speed = {"ours": found.per_second, "reference": of_f.per_second, "ratio": found.per_second / of_f.per_second}
    unit = f"persons/s of one thread, batch {BATCH}, CPU; {words}"
    rows: list[dict[str, Any]] = [{"name": f"baseline_{name}", **speed, "unit": unit}]
    for error, value in found.errors.items():
        unit = "% of the box" if error == "reprojection" else "mm"
        beside = of_f.errors[error]
        rows.append({"name": f"baseline_{name}_{error}", "ours": value, "reference": beside, "ratio": beside / value, "unit": unit})
    return rows


def _demo(out: str) -> World:
    return World(f"{out}/shards/itw", f"{out}/runs/f", f"{out}/world/truth/coco_train2017.parquet", "the demo's photographs and f")


def _own(folder: Path) -> World:
    config = SyntheticConfig(out=str(folder / "world"), mocap_images=200, itw_images=300, itw3d_train_images=96, itw3d_test_images=1)
    paths = write_world(config)
    for name, dataset, split in (("mocap", "human36m", "train"), ("itw", "coco", "train2017"), ("itw3d", "3dpw", "train")):
        raw = DatasetConfig(name=dataset, root=paths[dataset], split=split)
        ingest(IngestConfig(dataset=raw, out=str(folder / name), workers=0), say=lambda _: None)
    values = {
        "out": str(folder / "f"), "backbone_init": str(REPO / "engine/models/assets/pose2d_resnet18_w50.pt"), "model": MODEL,
        "loading": {"mocap": [{"url": str(folder / "mocap")}], "itw": [{"url": str(folder / "itw"), "supervise": "2d"}], "batch_size": 32},
        "itw_3d": [{"url": str(folder / "itw3d")}], "itw_3d_half": "mocap", "optim": {"lr": 1e-3, "schedule": "onecycle"},
        "max_steps": STEPS,
    }  # fmt: skip
    fit(TrainAnnotatorConfig.model_validate(values), 0, 1, torch.device("cpu"), lambda row: None)
    truth = str(Path(paths["truth"]) / "coco_train2017.parquet")
    return World(str(folder / "itw"), str(folder / "f"), truth, f"a small world and an f of {STEPS} steps")
