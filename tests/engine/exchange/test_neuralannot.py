"""Files in NeuralAnnot's form by others: older ones have no translation, no camera, or no names for their parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from engine.exchange.neuralannot import Options, open_reader
from tests.engine.exchange.conftest import World


def test_smplify_and_smplify_x_of_coco(world: World, tmp_path: Path) -> None:
    """coco_smplifyx_train.json has everything, coco_smplify_train.json pose, shape and a camera, smpl_param.json no camera."""
    people = [(p.name, {"pose": p.pose.tolist(), "shape": p.betas.tolist()}, p) for p in world.persons]
    camera = {name: {"focal": p.focal.tolist(), "princpt": p.princpt.tolist()} for name, _, p in people}
    contents = {
        "coco_smplifyx_train.json": {
            name: {"smpl_param": smpl | {"trans": [p.transl.tolist()]}, "cam_param": camera[name]} for name, smpl, p in people
        },
        "coco_smplify_train.json": {name: {"smpl_param": smpl, "cam_param": camera[name]} for name, smpl, _ in people},
        "smpl_param.json": {name: smpl for name, smpl, _ in people},
    }
    for file, content in contents.items():
        (tmp_path / file).write_text(json.dumps(content))
        release = world.load("neuralannot", tmp_path / file, tmp_path / f"store-{file}")
        assert release.manifest.annotated == len(people), file
        rows = release.table()
        assert np.nanmedian(rows["reprojection_error"].to_numpy()) < 1e-3, file
        named = {row["annotation_id"]: row for row in rows.to_pylist()}
        exact = file == "coco_smplifyx_train.json"
        assert all(np.allclose(named[name]["focal"], p.focal) for name, _, p in people) or not exact
        assert all(np.allclose(named[name]["pose"], p.pose) for name, _, p in people)


def test_a_translation_without_a_camera_is_none(tmp_path: Path) -> None:
    smpl = {"pose": [0] * 72, "shape": [0] * 10, "trans": [0, 0, 5]}
    (tmp_path / "a.json").write_text(json.dumps({"1": {"smpl_param": smpl}}))
    (fit,) = open_reader(tmp_path / "a.json", Options(), lambda: None).fits()
    assert (fit.annotation_id, fit.transl_3, fit.focal_2) == ("1", None, None)
