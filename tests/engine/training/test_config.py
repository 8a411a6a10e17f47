from __future__ import annotations

from engine.config import validate
from engine.loading.batches import LoadingConfig
from engine.training.config import LOADING_RUNTIME_FIELDS, RUNTIME_FIELDS, TrainAnnotatorConfig, TrainConfig, TrainEstimatorConfig

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
