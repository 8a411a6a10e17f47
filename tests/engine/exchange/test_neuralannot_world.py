"""Fits in the world: every camera sees the body where the world has it, and of several views of an instant one goes out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from engine.errors import ConfigError, MissingInput, RawDataError, SampleRejected
from engine.exchange.base import ExportInfo, Fit, Person, Unmapped
from engine.exchange.neuralannot import Options, open_reader, open_writer
from schemas.sample import Instance, Sample
from schemas.skeletons import COCO17
from tests.engine.exchange.conftest import World
from tests.engine.exchange.independent import Body3D

RNG = np.random.default_rng(5)
H36M_FILE, MI_FILE = "Human36M_subject1_SMPL_NeuralAnnot.json", "MPI-INF-3DHP_SMPL_NeuralAnnot.json"
KEYS = {
    "human36m": lambda a, b, camera, frame: f"s_01_act_{a:02d}_subact_{b:02d}_ca_{camera:02d}_{frame + 1:06d}",
    "mpi_inf_3dhp": lambda a, b, camera, frame: f"S{a}_Seq{b}_video_{camera}_F{frame:06d}",
}
INSTANTS = [(2, 1, 0), (2, 1, 5), (2, 2, 0), (10, 1, 3)]


def _camera(focal: str, princpt: str, convention: str = "R x + t") -> dict:
    """A camera some five metres away from the world's middle."""
    rotation, t = Rotation.random(random_state=int(RNG.integers(1 << 31))).as_matrix(), np.array([*RNG.normal(0, 0.3, 2), 5.5])
    said = t if convention == "R x + t" else -rotation.T @ t
    return {"R": rotation.tolist(), "t": (said * 1000).tolist(), focal: [1145.5, 1143.25], princpt: [512.5, 515.0]}


def _fit() -> dict:
    pose, trans = RNG.normal(0, 1.0, 72), RNG.normal(0, 0.4, 3)
    return {"pose": pose.tolist(), "shape": RNG.normal(0, 2, 10).tolist(), "trans": trans.tolist()}


def _write(folder: Path, layout: str, convention: str = "R x + t") -> tuple[Options, dict, dict]:
    """The two files of a layout, and their contents: instant -> fit, (instant, camera) -> camera."""
    fits, cameras, nest = {}, {}, {}
    cameras_of: dict = {}
    for a, b, frame in INSTANTS:
        fits[a, b, frame] = nest.setdefault(str(a), {}).setdefault(str(b), {})[str(frame)] = _fit()
        if layout == "human36m":
            of = cameras_of = cameras_of or {str(n): _camera("f", "c", convention) for n in (1, 2, 3, 4)}
        else:
            of = cameras_of.setdefault(str(a), {}).setdefault(str(b), {str(n): _camera("focal", "princpt", convention) for n in (0, 7)})
        cameras |= {((a, b, frame), int(n)): camera for n, camera in of.items()}
    names = (H36M_FILE, "Human36M_subject1_camera.json") if layout == "human36m" else (MI_FILE, "MPI-INF-3DHP_camera_1k.json")
    for name, content in zip(names, (nest, cameras_of), strict=True):
        (folder / name).write_text(json.dumps(content))
    return Options(cameras=str(folder), camera_convention=convention), fits, cameras


def _vertices(world: World, pose: object, betas: object, transl: object) -> np.ndarray:
    person = Body3D("x", "x", (1, 1), (0, 0, 1, 1), np.array(pose), np.array(betas))
    return world.skin([person])[0][0] + np.array(transl)


@pytest.mark.parametrize("convention", ["R x + t", "R (x - t)"])
@pytest.mark.parametrize("layout", ["human36m", "mpi_inf_3dhp"])
def test_every_camera_sees_the_body_of_the_world(world: World, tmp_path: Path, layout: str, convention: str) -> None:
    options, fits, cameras = _write(tmp_path, layout, convention)
    path = tmp_path / (H36M_FILE if layout == "human36m" else MI_FILE)
    found = {fit.image: fit for fit in open_reader(path, options, lambda: world.body).fits()}
    assert len(found) == len(cameras)
    for (instant, number), camera in cameras.items():
        fit, (a, b, frame) = found[KEYS[layout](*instant[:2], number, instant[2])], instant
        assert isinstance(fit, Fit)
        there = _vertices(world, *(fits[a, b, frame][name] for name in ("pose", "shape", "trans")))
        R, t = np.array(camera["R"]), np.array(camera["t"]) / 1000
        seen = there @ R.T + t if convention == "R x + t" else (there - t) @ R.T
        np.testing.assert_allclose(_vertices(world, fit.pose_72, fit.betas_10, fit.transl_3), seen, atol=1e-6)
        assert fit.focal_2.tolist() == [1145.5, 1143.25] and fit.princpt_2.tolist() == [512.5, 515.0]


def _person(layout: str, instant: tuple[int, int, int], camera: int, fit: Fit, score: float) -> Person:
    instance = Instance(
        annotation_id="1", bbox_xywh=(300, 300, 300, 400), skeleton="coco17", joints_img=[(0, 0)] * len(COCO17), joints_valid=[False] * 17
    )
    key = KEYS[layout](*instant[:2], camera, instant[2])
    sample = Sample(key=key, dataset=layout, image_path=f"{key}.jpg", width=1000, height=1000, instances=(instance,))
    values = (np.float32(v) for v in (fit.pose_72, fit.betas_10, fit.transl_3, fit.focal_2, fit.princpt_2))
    return Person(sample, instance, *values, {"score": score}, np.full(32, np.nan, np.float32))


def _info(world: World, layout: str) -> ExportInfo:
    return ExportInfo("r v0001", "0" * 64, layout, "train", "open", world.body.digest, 1, "0" * 64, lambda: world.body)


@pytest.mark.parametrize("layout", ["human36m", "mpi_inf_3dhp"])
def test_rows_of_the_real_cameras_go_out_as_they_came(world: World, tmp_path: Path, layout: str) -> None:
    """The best view of an instant is written, whatever the order in which views come; the others are counted."""
    options, fits, cameras = _write(tmp_path, layout)
    path = tmp_path / (H36M_FILE if layout == "human36m" else MI_FILE)
    found = {fit.image: fit for fit in open_reader(path, options, lambda: world.body).fits()}
    (tmp_path / "out").mkdir()
    writer = open_writer(tmp_path / "out", options, _info(world, layout))
    other = 0
    for instant, number in sorted(cameras, key=lambda _: RNG.uniform()):
        fit = found[KEYS[layout](*instant[:2], number, instant[2])]
        best = number == max(n for i, n in cameras if i == instant)
        if not best:
            fit = replace(fit, transl_3=fit.transl_3 + 0.1)
        try:
            writer.add(_person(layout, instant, number, fit, 0.9 if best else 0.1 + 0.1 * number))
        except SampleRejected as rejected:
            assert rejected.reason == "other_view"
            other += 1
    assert other == len(cameras) - len(INSTANTS)
    (name,) = writer.close()
    assert name == path.name
    written = json.loads((tmp_path / "out" / name).read_text())
    assert {(int(a), int(b), int(f)) for a, x in written.items() for b, y in x.items() for f in y} == set(INSTANTS)
    for (a, b, frame), fit in fits.items():
        leaf = written[str(a)][str(b)][str(frame)]
        wanted, got = (_vertices(world, *(said[part] for part in ("pose", "shape", "trans"))) for said in (fit, leaf))
        assert np.abs(wanted - got).max() < 2e-5, "metres; the camera's place is rounded to float32 on the way"


def test_a_virtual_camera_s_row_is_placed_before_the_real_one(world: World, tmp_path: Path) -> None:
    """As far as another perspective can: the joints stay within a few pixels, the body's turn in the camera frame stays."""
    options, _, cameras = _write(tmp_path, "human36m")
    (instant, number), camera = next(iter(cameras.items()))
    focal, princpt, transl = np.array([9000.0, 9000]), np.array([700.0, 400]), np.array([0.1, 0.2, 45.0])
    pose = RNG.normal(0, 0.3, 72)
    person = _person("human36m", instant, number, Fit(pose, np.zeros(10), transl, focal, princpt), 0.5)
    (tmp_path / "out").mkdir()
    writer = open_writer(tmp_path / "out", options, _info(world, "human36m"))
    writer.add(person)
    leaf = json.loads((tmp_path / "out" / writer.close()[0]).read_text())["2"]["1"]["0"]
    R, t = np.array(camera["R"]), np.array(camera["t"]) / 1000
    real = _vertices(world, leaf["pose"], leaf["shape"], leaf["trans"]) @ R.T + t
    ours = _vertices(world, person.pose_72, person.betas_10, person.transl_3)
    np.testing.assert_allclose(real - real.mean(0), ours - ours.mean(0), atol=1e-5)
    seen = real[:, :2] / real[:, 2:] * np.array([1145.5, 1143.25]) + np.array([512.5, 515.0])
    wanted = ours[:, :2] / ours[:, 2:] * focal + princpt
    assert np.abs(seen - wanted).mean() < 15, "of a person some 400 px tall"


def test_who_is_no_frame_of_the_dataset(world: World, tmp_path: Path) -> None:
    options, *_ = _write(tmp_path, "human36m")
    writer = open_writer(tmp_path, options, _info(world, "human36m"))
    fit = Fit(np.zeros(72), np.zeros(10), np.array([0, 0, 5.0]), np.ones(2), np.ones(2))
    person = _person("human36m", (2, 1, 0), 1, fit, 0.5)
    for key, reason in (("photo_7", "not_of_layout"), ("s_01_act_02_subact_01_ca_09_000001", "no_camera")):
        with pytest.raises(SampleRejected) as rejected:
            writer.add(replace(person, sample=person.sample.model_copy(update={"key": key})))
        assert rejected.value.reason == reason


def test_what_is_missing_is_named(world: World, tmp_path: Path) -> None:
    options, *_ = _write(tmp_path, "human36m")
    with pytest.raises(ConfigError, match=r"set neuralannot\.cameras"):
        open_reader(tmp_path / H36M_FILE, Options(), lambda: world.body)
    (tmp_path / "Human36M_subject1_camera.json").unlink()
    with pytest.raises(MissingInput, match="Human36M_subject1_camera"):
        list(open_reader(tmp_path / H36M_FILE, options, lambda: world.body).fits())
    (tmp_path / "Human36M_subject1_camera.json").write_text('{"1": {"R": 5}}')
    with pytest.raises(RawDataError, match="expected cameras with R"):
        list(open_reader(tmp_path / H36M_FILE, options, lambda: world.body).fits())


def test_odd_leaves_cost_themselves(world: World, tmp_path: Path) -> None:
    options, *_ = _write(tmp_path, "human36m")
    leaves = {"x": _fit(), "1": 5, "2": {**_fit(), "pose": [float("nan")] * 72}, "3": {"pose": [0] * 72, "shape": [0] * 10}}
    (tmp_path / H36M_FILE).write_text(json.dumps({"2": {"1": leaves}}))
    found = list(open_reader(tmp_path / H36M_FILE, options, lambda: world.body).fits())
    assert [type(person) for person in found] == [Unmapped] * 2 + [Fit] * 8
    assert np.isnan(found[2].pose_72).all() and found[2].transl_3 is None
    assert found[6].transl_3 is None and np.isfinite(found[6].pose_72).all(), "without trans: to be placed in the box"
