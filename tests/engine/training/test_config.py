from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import validate
from engine.errors import ConfigError
from engine.loading.batches import LoadingConfig
from engine.training.config import (
    LOADING_RUNTIME_FIELDS,
    PATH_FIELDS,
    RUNTIME_FIELDS,
    TrainAnnotatorConfig,
    TrainConfig,
    TrainEstimatorConfig,
    recorded_identity,
    settled,
    with_absolute_paths,
    with_release_versions,
)

BASE = {"out": "run", "loading": {"mocap": [{"url": "m"}], "itw": [{"url": "i"}]}}


def test_defaults_are_the_papers() -> None:
    f = validate(TrainAnnotatorConfig, BASE, "test")
    g = validate(TrainEstimatorConfig, BASE, "test")
    assert (f.role, f.model.head, f.epochs, f.optim.milestones) == ("annotator", "vposer", 15, (11, 13))
    assert (f.model.losses.latent_l2, f.model.losses.shape_l2) == (0.01, 0.01)
    assert (g.role, g.model.head, g.epochs, g.optim.milestones) == ("estimator", "6d", 7, (4, 6))
    assert (g.model.losses.latent_l2, g.model.losses.shape_l2) == (0, 0)
    assert f.loading.batch_size == 192 and f.optim.lr == 1e-4


def test_estimator_keeps_its_defaults_beside_given_keys() -> None:
    given = {"model": {"backbone": "resnet18", "losses": {"joint_cam": 2}}, "optim": {"lr": 1e-3}}
    g = validate(TrainEstimatorConfig, BASE | given, "test")
    assert g.model.head == "6d" and g.model.losses.latent_l2 == 0 and g.optim.milestones == (4, 6)


def test_recipe_one_joins_the_in_the_wild_half() -> None:
    f = validate(TrainAnnotatorConfig, BASE | {"itw_3d": [{"url": "3dpw"}]}, "test")
    assert [s.url for s in f.sources().itw] == ["i", "3dpw"]
    assert [s.url for s in f.sources().mocap] == ["m"]
    f = validate(TrainAnnotatorConfig, BASE | {"itw_3d": [{"url": "3dpw"}], "itw_3d_half": "mocap"}, "test")
    assert ([s.url for s in f.sources().mocap], [s.url for s in f.sources().itw]) == (["m", "3dpw"], ["i"])


def test_identity_holds_what_decides_the_weights_alone() -> None:
    f = validate(TrainAnnotatorConfig, BASE, "test")
    elsewhere = f.model_copy(update={"out": "s3://b/run", "num_workers": 8, "loading": f.loading.model_copy(update={"threads": 4})})
    assert elsewhere.identity() == f.identity()
    for update in ({"seed": 1}, {"epochs": 3}, {"backbone_init": "x"}, {"loading": f.loading.model_copy(update={"batch_size": 64})}):
        assert f.model_copy(update=update).identity() != f.identity()


def test_runtime_fields_exist() -> None:
    assert set(TrainConfig.model_fields) >= RUNTIME_FIELDS
    assert set(LoadingConfig.model_fields) >= LOADING_RUNTIME_FIELDS


def test_a_worker_reads_what_the_driver_sends() -> None:
    for kind in (TrainAnnotatorConfig, TrainEstimatorConfig):
        config = validate(kind, BASE, "test")
        received = TrainConfig.model_validate(config.model_dump(mode="json"))
        assert received.identity() == config.identity()


def test_paths_are_made_absolute_and_urls_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"out": "runs/f", "backbone_init": "../b.pt", "init_from": "s3://bucket/run", "itw_3d": [{"url": "file:///w"}]}
    f = with_absolute_paths(validate(TrainAnnotatorConfig, BASE | values, "test"))
    assert isinstance(f, TrainAnnotatorConfig)
    assert (f.out, f.backbone_init, f.init_from) == (f"{tmp_path}/runs/f", f"{tmp_path.parent}/b.pt", "s3://bucket/run")
    assert (f.loading.mocap[0].url, f.itw_3d[0].url) == (f"{tmp_path}/m", "file:///w")
    assert f.model.name == "pose2pose"


def test_every_path_of_the_config_is_known_as_one() -> None:
    """A str field that is neither a path nor a known name would be left relative, and be read somewhere else by a worker."""
    names = {"role", "release", "take", "loss_weight", "pseudo_gt", "kind", "name", "gender"}

    def strings(schema: object, key: str = "") -> set[str]:
        if isinstance(schema, list):
            return set().union(*(strings(item, key) for item in schema))
        if not isinstance(schema, dict):
            return set()
        if schema.get("type") == "string" and "enum" not in schema and "const" not in schema:
            return {key}
        return set().union(
            *(strings(value, name if at == "properties" else key) for at, part in schema.items()
              for name, value in (part.items() if isinstance(part, dict) and at in ("properties", "$defs") else [(key, part)]))
        )  # fmt: skip

    assert strings(TrainConfig.model_json_schema()) - names == PATH_FIELDS


def test_a_run_keeps_to_the_release_it_began_with() -> None:
    source = {"url": "i", "release": "store#r"}
    g = validate(TrainEstimatorConfig, BASE | {"loading": {"itw": [source, {"url": "j"}, {"url": "i", "release": "store#r@v7"}]}}, "test")
    found = with_release_versions(g, {"shard_set/i/train": "a" * 64, "release/r/v3": "b" * 64, "release/rr/v4": "c" * 64})
    assert [s.release for s in found.loading.itw] == ["store#r@v0003", None, "store#r@v0007"]
    found = with_release_versions(g, {"release/r/v5@0123456789ab": "b" * 64})
    assert found.loading.itw[0].release == "store#r@v0005"


def test_a_config_of_an_older_version_has_defaults_where_it_has_no_keys() -> None:
    f = validate(TrainAnnotatorConfig, BASE, "test")
    older = f.model_dump(mode="json")
    del older["itw_3d_half"], older["model"]["losses"]["l2_on"], older["model"]["losses"]["latent_l2"]
    assert recorded_identity("annotator", older, {}) == settled(f, {}).identity()
    unknown = older | {"gone": 1}
    assert recorded_identity("annotator", unknown, {}) == unknown


def test_a_run_begun_before_versions_were_settled_goes_on() -> None:
    source = {"url": "i", "release": "store#r"}
    g = validate(TrainEstimatorConfig, BASE | {"loading": {"itw": [source]}}, "test")
    trained_on = {"release/r/v3": "b" * 64}
    assert recorded_identity("estimator", g.model_dump(mode="json"), trained_on) == settled(g, trained_on).identity()


def test_one_name_changes_the_pseudo_gt_of_every_source() -> None:
    itw = [
        {"url": "i", "release": "s3://b/store#coco-{pseudo_gt}"},
        {"url": "j", "release": "s3://b/store#mpii-{pseudo_gt}@v2"},
        {"url": "k"},
    ]
    values = BASE | {"loading": {"itw": itw}}
    for name in ("ours", "spin"):
        g = validate(TrainEstimatorConfig, values | {"pseudo_gt": name}, "test")
        assert [s.release for s in with_absolute_paths(g).loading.itw] == [
            f"s3://b/store#coco-{name}",
            f"s3://b/store#mpii-{name}@v0002",
            None,
        ]
    with pytest.raises(ConfigError, match="pseudo_gt=ours"):
        validate(TrainEstimatorConfig, values, "test")
