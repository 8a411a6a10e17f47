"""Plans of studies: what runs, in which order, with which settings."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.ablation.cells import annotation_config, is_network
from engine.ablation.study import Cell, StudyConfig, plan_cells, training_config
from engine.errors import ConfigError

BASELINES = {
    "full": {}, "bare": {}, "from_big": {},
    "fits": {"annotator": "smplify"},
    "from_full": {"annotator": "smplify", "weights_of": "full", "settings": {"fit": {"tolerance": 0.01}}},
    "eft": {"annotator": "eft", "weights_of": "full", "settings": {"lr": 0.5}},
}  # fmt: skip
SETTINGS = {"loading": {"mocap": [{"url": "m"}], "itw": [{"url": "p", "supervise": "2d"}], "batch_size": 4}}


def make_study(**changes: Any) -> StudyConfig:
    values = {
        "out": "s", "seeds": [3, 4], "base": SETTINGS, "base_g": {"max_steps": 7}, "photographs": "p", "truth": "t", "test_set": "e",
        "starts": {"big": {}},
        "annotators": {"full": {}, "bare": {"change": {"itw_3d": [], "model": {"head": "6d"}}}, "from_big": {"backbone_of": "big"}},
        "estimators": {"g": {"f": "full"}, "h": {"f": "bare", "change": {"optim": {"lr": 0.5}}}},
        "tables": [
            {"name": "one", "title": "One", "seeds": 2, "rows": [{"label": "a", "g": "g"}, {"label": "b", "f": "bare"}]},
            {"name": "two", "title": "Two", "rows": [{"label": "c", "f": "from_big"}, {"label": "a again", "f": "full"}]},
        ],
    }  # fmt: skip
    return StudyConfig.model_validate(values | changes)


def test_cells_come_once_after_what_they_need() -> None:
    plan = plan_cells(make_study())
    cells = list(plan)
    assert [str(c) for c in cells] == [
        "f/full/seed3", "g/g/seed3", "f/bare/seed3", "f/full/seed4", "g/g/seed4", "f/bare/seed4", "start/big/seed3", "f/from_big/seed3",
    ]  # fmt: skip
    assert all(cells.index(needed) < cells.index(cell) for cell, needs in plan.items() for needed in needs)
    assert plan[Cell(kind="g", name="g", seed=4)] == (Cell(kind="f", name="full", seed=4),)


def test_every_table_may_be_run_with_every_seed() -> None:
    few, all_seeds = (plan_cells(make_study(all_seeds=value)) for value in (False, True))
    assert set(all_seeds) - set(few) == {Cell(kind="f", name="from_big", seed=4)}


def test_settings_are_base_then_role_then_change_then_seed() -> None:
    study = make_study()
    f = training_config(study, Cell(kind="f", name="bare", seed=4))
    assert (f.role, f.seed, f.loading.seed, f.model.head, f.out) == ("annotator", 4, 4, "6d", "s/f/bare/seed4/run")
    assert f.loading.itw[0].supervise == "2d"
    g = training_config(study, Cell(kind="g", name="h", seed=3))
    assert (g.role, g.max_steps, g.optim.lr, g.model.head) == ("estimator", 7, 0.5, "6d")


def test_g_is_supervised_by_its_own_f_on_the_photographs_alone() -> None:
    itw = [{"url": "p", "supervise": "2d"}, {"url": "q", "supervise": "2d"}]
    study = make_study(base={"loading": SETTINGS["loading"] | {"itw": itw}})
    sources = training_config(study, Cell(kind="g", name="h", seed=4)).loading.itw
    assert (sources[0].release, sources[0].supervise) == ("s/store#bare-seed4", "full")
    assert (sources[1].release, sources[1].supervise) == (None, "2d")


def test_fine_tuning_is_on_the_pseudo_gt_of_its_own_seed() -> None:
    annotators = {"full": {}, "bare": {}, "from_big": {}, "tuned": {"weights_of": "full", "f": "full"}}
    table = {"name": "t", "title": "T", "seeds": 2, "rows": [{"label": "tuned", "f": "tuned"}]}
    study = make_study(annotators=annotators, tables=[table])
    plan = plan_cells(study)
    for seed in (3, 4):
        cell = Cell(kind="f", name="tuned", seed=seed)
        assert plan[cell] == (Cell(kind="f", name="full", seed=seed),)
        assert training_config(study, cell).loading.itw[0].release == f"s/store#full-seed{seed}"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"estimators": {"g": {"f": "nobody"}}}, "there is no 'nobody' in annotators"),
        ({"estimators": {"g": {}}}, "an estimator names its f"),
        ({"starts": {"big": {"f": "full"}}}, "what others start from has none"),
        ({"tables": [{"name": "x", "title": "X", "seeds": 3, "rows": [{"label": "a", "f": "full"}]}]}, "wants 3 seeds"),
        ({"tables": [{"name": "x", "title": "X", "rows": [{"label": "a"}]}]}, "expected f or g"),
        ({"annotators": BASELINES | {"eft": {"annotator": "eft"}}}, "annotators.eft: eft is not trained"),
        (
            {"annotators": BASELINES | {"fits": {"annotator": "smplify", "change": {"max_steps": 1}}}},
            "annotators.fits: smplify is not trained",
        ),
        ({"annotators": BASELINES | {"bare": {"settings": {"lr": 1}}}}, "annotators.bare: settings are a baseline's"),
        ({"starts": {"big": {"annotator": "smplify"}}}, "starts.big: only annotators"),
    ],
)
def test_studies_that_cannot_be_run(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        make_study(**changes)


def test_baselines_annotate_without_training_from_the_f_they_name() -> None:
    rows = [{"label": name, "f": name} for name in ("fits", "from_full", "eft")]
    study = make_study(annotators=BASELINES, tables=[{"name": "x", "title": "X", "rows": rows}])
    cells = {name: Cell(kind="f", name=name, seed=3) for name in BASELINES}
    plan = plan_cells(study)
    assert plan == {cells["fits"]: (), cells["full"]: (), cells["from_full"]: (cells["full"],), cells["eft"]: (cells["full"],)}
    assert [is_network(study, cell) for cell in plan] == [False, True, False, False]
    fits, refits, eft, full = (annotation_config(study, cells[name]) for name in ("fits", "from_full", "eft", "full"))
    assert (fits.annotator, fits.smplify.init, fits.name, fits.shard_set) == ("smplify", None, "fits-seed3", "p")
    assert (refits.smplify.init, refits.smplify.fit.tolerance) == ("s/f/full/seed3/run", 0.01)
    assert (eft.annotator, eft.eft.base, eft.eft.lr, full.annotator) == ("eft", "s/f/full/seed3/run", 0.5, "s/f/full/seed3/run")


def test_a_wrong_setting_of_a_baseline_names_its_cell() -> None:
    study = make_study(annotators=BASELINES | {"fits": {"annotator": "smplify", "settings": {"fitt": {}}}})
    with pytest.raises(ConfigError, match=r"f/fits/seed3.*'smplify.fitt'"):
        annotation_config(study, Cell(kind="f", name="fits", seed=3))


def test_a_wrong_training_key_names_its_cell() -> None:
    study = make_study(annotators={"full": {"change": {"modle": {}}}, "bare": {}, "from_big": {}})
    with pytest.raises(ConfigError, match=r"f/full/seed3.*'modle'"):
        training_config(study, Cell(kind="f", name="full", seed=3))


def test_networks_that_wait_for_each_other_are_refused() -> None:
    annotators = {"full": {}, "bare": {"weights_of": "loop"}, "loop": {"weights_of": "bare"}, "from_big": {"backbone_of": "big"}}
    with pytest.raises(ValidationError, match=r"networks wait for each other: f/(bare|loop) -> f/(bare|loop) -> f/(bare|loop)"):
        make_study(annotators=annotators)
