"""What a study is: base settings of f and g, named changes to them, and tables whose rows name the changes.

A row of a table is an f (and the pseudo-GT it makes) and, where asked, a g trained on that pseudo-GT. Rows of different tables that
mean the same network share it: networks are cells, planned once, and a cell is done when its results are in the store.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from engine.config import Config, merge, validate
from engine.fanout.config import PoolConfig
from engine.training.config import TrainAnnotatorConfig, TrainConfig, TrainEstimatorConfig

Kind = Literal["start", "f", "g"]
KINDS: dict[str, type[TrainConfig]] = {"start": TrainEstimatorConfig, "f": TrainAnnotatorConfig, "g": TrainEstimatorConfig}
"""Which defaults a cell of each kind has: a network others start from, an annotator, an estimator."""


class Variant(Config):
    """A network of the study: the base's settings with some changed."""

    change: dict[str, Any] = Field(default_factory=dict, description="training settings laid over the base's, key by key")
    backbone_of: str | None = Field(default=None, description="name of the `starts` network whose backbone starts this one (recipe 2)")
    weights_of: str | None = Field(default=None, description="name of the f whose whole network starts this one (fine-tuning), same seed")
    annotator: Literal["network", "smplify", "eft"] = Field(
        default="network",
        description="of `annotators`: a network that is trained, or a baseline that is not: fitting (from `weights_of`'s prediction, where "
        "given, else from the mean pose), or fine-tuning of `weights_of` person by person",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="of a baseline, laid over its defaults (jobs/annotate.py --help)")
    f: str | None = Field(default=None, description="the f whose pseudo-GT supervises the photographs, same seed; every g has one")


class RowConfig(Config):
    """One row of a table."""

    label: str = Field(description="what the row is called")
    f: str | None = Field(default=None, description="the annotator whose pseudo-GT the row is about; null: that of its g")
    g: str | None = Field(default=None, description="the estimator, or null where f alone is compared")
    paper: str = Field(default="", description="the paper's own number for the row")


class TableConfig(Config):
    """One study of the paper."""

    name: str = Field(pattern=r"^[a-z0-9_]{1,40}$", description="short name, used for files")
    title: str = Field(description="what is compared")
    paper: str = Field(default="", description="what the paper's numbers are")
    seeds: int = Field(default=1, ge=1, description="how many of the study's seeds its rows are run with")
    rows: tuple[RowConfig, ...] = Field(min_length=1, description="rows, the reference first")


class StudyConfig(Config):
    """Networks, tables and what they are measured on."""

    out: str = Field(description="URL of the study's folder")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="of network start, sample order and augmentation")
    all_seeds: bool = Field(default=False, description="run every table with every seed, whatever it says itself")
    base: dict[str, Any] = Field(description="training settings of every network")
    base_f: dict[str, Any] = Field(default_factory=dict, description="laid over `base` for annotators")
    base_g: dict[str, Any] = Field(default_factory=dict, description="laid over `base` for estimators")
    starts: dict[str, Variant] = Field(default_factory=dict, description="networks trained only to start others from")
    annotators: dict[str, Variant] = Field(description="every f by name")
    estimators: dict[str, Variant] = Field(default_factory=dict, description="every g by name; each names its f")
    tables: tuple[TableConfig, ...] = Field(min_length=1, description="in the order they are run")
    photographs: str = Field(description="URL of the ITW shard set that every f annotates and every g is trained on")
    truth: str = Field(description="URL of the photographs' truth (Parquet), against which pseudo-GT is measured")
    test_set: str = Field(description="URL of the ITW-3D test shard set, on which f and g are measured")
    pool: PoolConfig = Field(default=PoolConfig(max_size=1), description="annotating workers of one cell")
    parallel: int = Field(default=1, ge=1, description="cells run at a time")

    @model_validator(mode="after")
    def _baselines_are_annotators(self) -> Self:
        """ValueError for what a baseline is not: trained, or a g."""
        for name, variant in self.annotators.items():
            baseline = variant.annotator != "network"
            if baseline and (variant.change or variant.f or variant.backbone_of or (variant.annotator == "eft" and not variant.weights_of)):
                raise ValueError(f"annotators.{name}: {variant.annotator} is not trained; it takes settings, and weights_of (eft needs it)")
            if variant.settings and not baseline:
                raise ValueError(f"annotators.{name}: settings are a baseline's; a network's training is changed by `change`")
        for group in ("starts", "estimators"):
            for name, variant in getattr(self, group).items():
                if variant.annotator != "network" or variant.settings:
                    raise ValueError(f"{group}.{name}: only annotators may be baselines")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for table in self.tables:
            if table.seeds > len(self.seeds):
                raise ValueError(f"table {table.name}: wants {table.seeds} seeds, the study has {len(self.seeds)}")
            for row in table.rows:
                if row.f is None and row.g is None:
                    raise ValueError(f"table {table.name}, row {row.label!r}: expected f or g")
                self._require("annotators", row.f, f"table {table.name}, row {row.label!r}")
                self._require("estimators", row.g, f"table {table.name}, row {row.label!r}")
        for group in ("starts", "annotators", "estimators"):
            for name, variant in getattr(self, group).items():
                self._require("starts", variant.backbone_of, f"{group}.{name}")
                self._require("annotators", variant.weights_of, f"{group}.{name}")
                self._require("annotators", variant.f, f"{group}.{name}")
                if (group == "estimators" and variant.f is None) or (group == "starts" and variant.f is not None):
                    raise ValueError(f"{group}.{name}: an estimator names its f, and what others start from has none")
        self._require_a_beginning()
        return self

    def _require(self, group: str, name: str | None, where: str) -> None:
        if name is not None and name not in getattr(self, group):
            raise ValueError(f"{where}: there is no {name!r} in {group}; there are {', '.join(getattr(self, group)) or 'none'}")

    def _require_a_beginning(self) -> None:
        """ValueError if networks wait for each other in a circle: none of them could start."""
        groups = {"start": self.starts, "f": self.annotators, "g": self.estimators}
        try:
            TopologicalSorter({(kind, name): waits_for(v) for kind, group in groups.items() for name, v in group.items()}).prepare()
        except CycleError as error:
            raise ValueError(f"networks wait for each other: {' -> '.join('/'.join(at) for at in reversed(error.args[1]))}") from None

    def seeds_of(self, table: TableConfig) -> tuple[int, ...]:
        """The seeds a table's rows are run with."""
        return self.seeds if self.all_seeds else self.seeds[: table.seeds]

    def annotator_of(self, row: RowConfig) -> str:
        """The f a row's pseudo-GT error is of."""
        return row.f if row.f is not None else self.estimators[row.g].f


class Cell(Config):
    """One network of one seed."""

    kind: Kind = Field(description="what it is for")
    name: str = Field(description="its name in the study")
    seed: int = Field(description="its seed")

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}/seed{self.seed}"


def waits_for(variant: Variant) -> list[tuple[Kind, str]]:
    """Kind and name of each network that must be there before a variant can start."""
    named: list[tuple[Kind, str | None]] = [("start", variant.backbone_of), ("f", variant.weights_of), ("f", variant.f)]
    return [(kind, name) for kind, name in named if name]


def plan_cells(study: StudyConfig) -> dict[Cell, tuple[Cell, ...]]:
    """Every cell the tables need with the cells it waits for, in the order to run them: table by table, seed by seed."""
    plan: dict[Cell, tuple[Cell, ...]] = {}
    for table in study.tables:
        for seed in study.seeds_of(table):
            for row in table.rows:
                _add(study, Cell(kind="f", name=study.annotator_of(row), seed=seed), plan)
                if row.g is not None:
                    _add(study, Cell(kind="g", name=row.g, seed=seed), plan)
    return plan


def _add(study: StudyConfig, cell: Cell, plan: dict[Cell, tuple[Cell, ...]]) -> None:
    if cell in plan:
        return
    needs = waits_for(variant_of(study, cell))
    before = [Cell(kind=kind, name=name, seed=study.seeds[0] if kind == "start" else cell.seed) for kind, name in needs]
    for needed in before:
        _add(study, needed, plan)
    plan[cell] = tuple(dict.fromkeys(before))


def variant_of(study: StudyConfig, cell: Cell) -> Variant:
    """The cell's entry in the study."""
    return {"start": study.starts, "f": study.annotators, "g": study.estimators}[cell.kind][cell.name]


def folder(study: StudyConfig, cell: Cell) -> str:
    """URL of a cell's folder: `run` (training) and `evaluation` lie in it."""
    return f"{study.out.rstrip('/')}/{cell}"


def release_store(study: StudyConfig) -> str:
    """URL of the store of every f's pseudo-GT."""
    return f"{study.out.rstrip('/')}/store"


def release_name(cell: Cell) -> str:
    """Name of an f's release in the study's store."""
    return f"{cell.name}-seed{cell.seed}"


def training_config(study: StudyConfig, cell: Cell) -> TrainConfig:
    """The cell's training job. What it starts from (`backbone_of`, `weights_of`) is filled in when it runs. ConfigError on a wrong key."""
    variant = variant_of(study, cell)
    values = merge(study.base, {"start": {}, "f": study.base_f, "g": study.base_g}[cell.kind])
    values = merge(merge(values, variant.change), {"out": f"{folder(study, cell)}/run", "seed": cell.seed, "loading": {"seed": cell.seed}})
    if variant.f:
        values = merge(values, {"loading": {"itw": [_with_release(study, s, variant.f, cell.seed) for s in values["loading"]["itw"]]}})
    return validate(KINDS[cell.kind], values, f"the study's cell {cell}")


def _with_release(study: StudyConfig, source: dict[str, Any], f: str, seed: int) -> dict[str, Any]:
    """A source of g: the photographs are supervised by f's release, other sources by what they have."""
    if source["url"] != study.photographs:
        return source
    kept = {key: value for key, value in source.items() if key != "supervise"}
    return kept | {"release": f"{release_store(study)}#{release_name(Cell(kind='f', name=f, seed=seed))}"}
