"""The paper's configs parse as their jobs' configs, say the published values, and fit one another; so do the page's commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from string import Template

import pytest

from engine.config import Config, load_config
from engine.evaluation.run import EvaluateConfig
from engine.fanout.config import AnnotateConfig
from engine.loading.augmentation import AugmentConfig
from engine.shards.ingest import IngestConfig
from engine.training.config import TrainAnnotatorConfig, TrainEstimatorConfig

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "jobs" / "configs" / "paper"
PAGE = REPO / "docs" / "REPRODUCE.md"
PLACES = {"DATA": "/data", "MODELS": "/models", "OUT": "/out"}
JOBS: dict[str, type[Config]] = {
    "ingest": IngestConfig,
    "train_annotator": TrainAnnotatorConfig,
    "annotate": AnnotateConfig,
    "train_estimator": TrainEstimatorConfig,
    "evaluate": EvaluateConfig,
}
STAGES = {"train_f": "train_annotator", "train_g": "train_estimator", "train_g_hmr": "train_estimator"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    """The configs with their placeholders filled in, as envsubst does."""
    folder = tmp_path_factory.mktemp("paper")
    for template in FOLDER.glob("*.yaml"):
        (folder / template.name).write_text(Template(template.read_text()).substitute(PLACES))
    return folder


def parse(path: Path, *overrides: str) -> Config:
    job = STAGES.get(path.stem, path.stem.split("_")[0])
    return load_config(JOBS[job], ["--config", str(path), *overrides])


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.yaml")))
def test_every_config_is_its_jobs(filled: Path, name: str) -> None:
    assert parse(filled / name)
    assert "$" not in (filled / name).read_text()


def test_f_is_trained_as_published(filled: Path) -> None:
    f = parse(filled / "train_f.yaml")
    assert (f.optim.lr, f.optim.schedule, f.optim.milestones, f.epochs, f.max_steps) == (1e-4, "steps", (11, 13), 15, None)
    assert (f.loading.batch_size, f.loading.augment, f.precision) == (192, AugmentConfig(), "fp32")
    assert (f.optim.warmup_steps, f.optim.grad_clip, f.optim.ema_decay) == (0, None, None)
    assert (f.model.name, f.model.backbone, f.model.width, f.model.input_hw) == ("pose2pose", "resnet50", 1, (256, 192))
    assert (f.model.output_stride, f.model.feature_dim, f.model.head) == (32, 512, "vposer")
    assert (f.model.pixel_mean, f.model.pixel_std, f.model.rotation_start) == ((0, 0, 0), (1, 1, 1), "zero")
    losses = f.model.losses
    assert (losses.latent_l2, losses.shape_l2, losses.pose_target) == (0.01, 0.01, "axis_angle")
    seven = ("joint_img", "smpl_joint_img", "smpl_pose", "smpl_shape", "joint_proj", "joint_cam", "smpl_joint_cam")
    assert [getattr(losses, name) for name in seven] == [1.0] * 7
    assert (f.body.kind, f.prior.kind) == ("smpl", "vposer")
    assert f.loading.itw[0].supervise == "2d" and [s.url for s in f.itw_3d] == ["/out/shards/3dpw_train"] and f.backbone_init


def test_g_is_pose2poses_and_nothing_of_the_recipes(filled: Path) -> None:
    f, g = parse(filled / "train_f.yaml"), parse(filled / "train_g.yaml")
    assert (g.optim.lr, g.optim.milestones, g.epochs, g.model.head, g.itw_3d) == (1e-4, (4, 6), 7, "6d", ())
    assert (g.model.losses.latent_l2, g.model.losses.shape_l2) == (0, 0)
    same = ("backbone", "width", "input_hw", "output_stride", "feature_dim", "rotation_start")
    assert all(getattr(f.model, name) == getattr(g.model, name) for name in same)
    assert (g.body, g.loading.mocap, g.loading.augment) == (f.body, f.loading.mocap, f.loading.augment)


def test_what_one_stage_writes_the_next_one_reads(filled: Path) -> None:
    ingested = {parse(path).out for path in filled.glob("ingest_*.yaml")}
    f, g = parse(filled / "train_f.yaml"), parse(filled / "train_g.yaml")
    annotate, evaluate = parse(filled / "annotate.yaml"), parse(filled / "evaluate.yaml")
    for training in (f, g):
        assert {s.url for s in (*training.loading.mocap, *training.loading.itw, *training.itw_3d)} <= ingested
    assert annotate.annotator == f.out and annotate.shard_set in {s.url for s in f.loading.itw}
    (photos,) = g.loading.itw
    assert (photos.url, photos.release) == (annotate.shard_set, f"{annotate.out}#{annotate.name}")
    assert [n.checkpoint for n in evaluate.networks] == [f.out, g.out]
    assert {*(t.url for t in evaluate.test_sets), *evaluate.mean_pose_from} <= ingested
    assert evaluate.body.model_copy(update={"h36m_regressor": None}) == f.body


def commands() -> list[list[str]]:
    """Every `python jobs/...` line of the page, its line continuations joined."""
    text = PAGE.read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if line.startswith("python jobs/")]


def test_the_pages_commands_parse(filled: Path) -> None:
    found = commands()
    assert {Path(words[1]).stem for words in found} == set(JOBS)
    for _, script, option, config, *overrides in found:
        assert option == "--config" and (REPO / script).is_file()
        overrides = [Template(word).substitute(PLACES) for word in overrides]
        assert load_config(JOBS[Path(script).stem], ["--config", str(filled / Path(config).name), *overrides])


def test_the_pages_overrides_parse_and_change_something(filled: Path) -> None:
    """The table's cells hold overrides in back quotes, for f in one column and for g in the next."""
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("|") and "`--" in line]
    assert len(rows) >= 4
    for cells in rows:
        for name, cell in zip(("train_f", "train_g"), cells[2:4], strict=True):
            overrides = [Template(o).substitute(PLACES) for quoted in re.findall(r"`(--[^`]+)`", cell) for o in shlex.split(quoted)]
            if overrides:
                assert parse(filled / f"{name}.yaml", *overrides) != parse(filled / f"{name}.yaml")
