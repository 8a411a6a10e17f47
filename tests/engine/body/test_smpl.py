"""Bodies of any origin against smplx itself, the reduced joints against the mesh, and every way a licensed file can be wrong."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import smplx
import torch
from smplx.utils import Struct

from engine.body.body_files import OPEN_BODY, BodyArrays, read_body_file
from engine.body.smpl import Body, BodyConfig, load_body
from engine.errors import ConfigError, LicensedFileMissing, MissingInput, UnsafeInput
from schemas.skeletons import COCO17, POSE2POSE33, SMPL24

KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")


@pytest.fixture(scope="module")
def open_body() -> Body:
    return load_body(BodyConfig())


def smpl_files(folder: Path, content: dict, gender: str = "NEUTRAL", suffix: str = ".pkl") -> BodyConfig:
    (folder / "smpl").mkdir(exist_ok=True)
    path = folder / "smpl" / f"SMPL_{gender}{suffix}"
    if suffix == ".npz":
        np.savez(path, **content)
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    return BodyConfig(kind="smpl", smpl_dir=str(folder))


@pytest.fixture(scope="module")
def schema_file() -> dict[str, np.ndarray]:
    """A file in SMPL's schema with 6890 vertices and pose correctives, made of random numbers."""
    rng = np.random.default_rng(0)
    v = 6890
    weights = rng.random((v, 24)) ** 20
    joints = rng.random((24, v)) * (rng.random((24, v)) > 0.995)
    parents = np.array([2**32 - 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21], np.uint32)
    return {
        "v_template": rng.normal(0, 0.5, (v, 3)),
        "shapedirs": rng.normal(0, 0.02, (v, 3, 10)),
        "posedirs": rng.normal(0, 0.01, (v, 3, 207)),
        "weights": weights / weights.sum(1, keepdims=True),
        "J_regressor": joints / joints.sum(1, keepdims=True),
        "f": rng.integers(0, v, (100, 3)).astype(np.uint32),
        "kintree_table": np.stack([parents, np.arange(24, dtype=np.uint32)]),
    }


def smplx_of(arrays: BodyArrays) -> smplx.SMPL:
    data = Struct(**{key: getattr(arrays, key) for key in KEYS})
    any_vertex = dict.fromkeys(smplx.vertex_ids.vertex_ids["smplh"], 0)  # smplx picks 21 vertices by SMPL's numbering
    with contextlib.redirect_stdout(io.StringIO()):
        return smplx.SMPL(model_path="", data_struct=data, batch_size=3, vertex_ids=any_vertex)


def assert_agrees_with_smplx(body: Body, arrays: BodyArrays) -> None:
    torch.manual_seed(0)
    pose, betas, transl = 0.6 * torch.randn(3, 72), torch.randn(3, 10), torch.randn(3, 3)
    expected = smplx_of(arrays)(global_orient=pose[:, :3], body_pose=pose[:, 3:], betas=betas, transl=transl)
    found = body(pose, betas, transl)
    assert (found.vertices_BV3 - expected.vertices).abs().max() < 1e-5
    assert (found.joints_B243 - expected.joints[:, :24]).abs().max() < 1e-5
    vertices = body(pose, betas).vertices_BV3
    for skeleton in body.skeletons:
        assert (body.joints(pose, betas, skeleton) - body.regress(vertices, skeleton)).abs().max() < 1e-5


def test_open_body_agrees_with_smplx(open_body: Body) -> None:
    assert_agrees_with_smplx(open_body, read_body_file(OPEN_BODY))


def test_real_schema_file_agrees_with_smplx(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "open_body" / "smpl_schema_6890.npz"
    (tmp_path / "smpl").mkdir()
    (tmp_path / "smpl" / "SMPL_NEUTRAL.npz").symlink_to(source)
    h36m = str(real_data / "regressors" / "J_regressor_h36m_correct.npy")
    body = load_body(BodyConfig(kind="smpl", smpl_dir=str(tmp_path), h36m_regressor=h36m))
    assert body.skeletons == ("coco17", "h36m17", "pose2pose33", "smpl24")
    assert_agrees_with_smplx(body, read_body_file(source))


def test_official_style_pickle_with_chumpy_and_sparse_agrees_with_smplx(tmp_path: Path, schema_file: dict, monkeypatch) -> None:
    chumpy, ch = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    ch.Ch = type("Ch", (), {"__module__": "chumpy.ch"})
    wrapped = ch.Ch()
    wrapped.x = schema_file["shapedirs"]
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "chumpy", chumpy)
        patched.setitem(sys.modules, "chumpy.ch", ch)
        sparse = scipy.sparse.csc_matrix(schema_file["J_regressor"])
        config = smpl_files(tmp_path, schema_file | {"shapedirs": wrapped, "J_regressor": sparse, "bs_type": "lrotmin"})
    body = load_body(config)
    plain = read_body_file(Path(smpl_files(tmp_path, schema_file, "MALE", ".npz").smpl_dir) / "smpl" / "SMPL_MALE.npz")
    assert body.has_pose_correctives
    assert_agrees_with_smplx(body, plain)


def test_smpl_joints_are_rows_and_vertices_by_name(tmp_path: Path, schema_file: dict) -> None:
    body = load_body(smpl_files(tmp_path, schema_file, suffix=".npz"))
    output = body(torch.zeros(1, 72), torch.zeros(1, 10))
    joints = body.joints(torch.zeros(1, 72), torch.zeros(1, 10))[0]
    torch.testing.assert_close(joints[POSE2POSE33.index("Nose")], output.vertices_BV3[0, 331], atol=1e-5, rtol=0)
    torch.testing.assert_close(joints[POSE2POSE33.index("R_Heel")], output.vertices_BV3[0, 6858], atol=1e-5, rtol=0)
    torch.testing.assert_close(joints[POSE2POSE33.index("L_Wrist")], output.joints_B243[0, SMPL24.index("L_Wrist")], atol=1e-5, rtol=0)
    coco = body.joints(torch.zeros(1, 72), torch.zeros(1, 10), "coco17")[0]
    torch.testing.assert_close(coco[COCO17.index("R_Ear")], joints[POSE2POSE33.index("R_Ear")])


def test_genders_are_loaded_on_demand_and_named_when_absent(tmp_path: Path, schema_file: dict, open_body: Body) -> None:
    config = smpl_files(tmp_path, schema_file, suffix=".npz")
    smpl_files(tmp_path, schema_file | {"v_template": schema_file["v_template"] + 1}, "MALE", ".npz")
    body = load_body(config)
    pose, betas = torch.zeros(1, 72), torch.zeros(1, 10)
    shift = body(pose, betas, gender="male").vertices_BV3 - body(pose, betas).vertices_BV3
    torch.testing.assert_close(shift, torch.ones_like(shift), atol=1e-4, rtol=0)
    with pytest.raises(LicensedFileMissing, match=r"SMPL_FEMALE\.pkl"):
        body(pose, betas, gender="female")
    with pytest.raises(ConfigError, match="expected one of neutral"):
        open_body(pose, betas, gender="f")
    torch.testing.assert_close(open_body(pose, betas, gender="female").vertices_BV3, open_body(pose, betas).vertices_BV3)


def test_rotation_matrices_and_axis_angle_are_the_same_pose(open_body: Body) -> None:
    pose, betas = 0.5 * torch.randn(2, 72), torch.randn(2, 10)
    matrices = smplx.lbs.batch_rodrigues(pose.view(-1, 3)).view(2, 24, 3, 3)
    torch.testing.assert_close(open_body(matrices, betas).vertices_BV3, open_body(pose, betas).vertices_BV3, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"found \(2, 24, 3\)"):
        open_body(pose.view(2, 24, 3), betas)


def test_joints_have_the_meshs_gradients(open_body: Body) -> None:
    pose, betas = (0.5 * torch.randn(2, 72)).requires_grad_(), torch.randn(2, 10).requires_grad_()
    weights = torch.randn(2, 33, 3)
    mesh_joints = open_body.regress(open_body(pose, betas).vertices_BV3, "pose2pose33")
    direct = torch.autograd.grad((open_body.joints(pose, betas) * weights).sum(), (pose, betas))
    through_mesh = torch.autograd.grad((mesh_joints * weights).sum(), (pose, betas))
    for a, b in zip(direct, through_mesh, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    rest = torch.zeros(1, 72, requires_grad=True)
    open_body.joints(rest, torch.zeros(1, 10)).square().sum().backward()
    assert torch.isfinite(rest.grad).all()


def test_mixed_precision_does_not_reach_the_body(open_body: Body) -> None:
    pose, betas = 0.5 * torch.randn(2, 72), torch.randn(2, 10)
    exact = open_body.joints(pose, betas)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(open_body.joints(pose, betas), exact)
        torch.testing.assert_close(open_body(pose, betas).vertices_BV3, open_body(pose, betas).vertices_BV3.float())


def test_copies_are_equal_and_checkpoints_hold_nothing_of_the_body(open_body: Body) -> None:
    pose, betas = torch.randn(1, 72), torch.randn(1, 10)
    for copied in (copy.deepcopy(open_body), pickle.loads(pickle.dumps(open_body)), load_body(BodyConfig())):
        torch.testing.assert_close(copied.joints(pose, betas), open_body.joints(pose, betas))
        assert copied.digest == open_body.digest
    assert open_body.state_dict() == {}


def test_digest_tells_bodies_apart(tmp_path: Path, schema_file: dict, open_body: Body) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
    one = load_body(smpl_files(tmp_path / "a", schema_file, suffix=".npz"))
    changed = schema_file["v_template"].copy()
    changed[17, 1] += 1e-3
    other = load_body(smpl_files(tmp_path / "b", schema_file | {"v_template": changed}, suffix=".npz"))
    assert len({one.digest, other.digest, open_body.digest}) == 3


# --- What can be wrong ------------------------------------------------------------------------------------------------------


def test_missing_licensed_file_names_path_and_way_out(tmp_path: Path) -> None:
    with pytest.raises(LicensedFileMissing, match=r"smpl/SMPL_NEUTRAL\.pkl.*kind=open"):
        load_body(BodyConfig(kind="smpl", smpl_dir=str(tmp_path)))
    with pytest.raises(ConfigError, match="smpl_dir"):
        load_body(BodyConfig(kind="smpl"))


def test_missing_h36m_regressor_is_named_when_needed(tmp_path: Path, schema_file: dict) -> None:
    config = smpl_files(tmp_path, schema_file, suffix=".npz")
    with pytest.raises(ConfigError, match="h36m_regressor"):
        load_body(config).joints(torch.zeros(1, 72), torch.zeros(1, 10), "h36m17")
    with pytest.raises(MissingInput, match=r"absent\.npy"):
        load_body(config.model_copy(update={"h36m_regressor": "absent.npy"}))
    np.save(tmp_path / "small.npy", np.ones((14, 6890)))
    with pytest.raises(ConfigError, match=r"expected shape \(17, 6890\), found \(14, 6890\)"):
        load_body(config.model_copy(update={"h36m_regressor": str(tmp_path / "small.npy")}))


def test_h36m_regressor_with_the_left_leg_first_is_refused(tmp_path: Path, schema_file: dict) -> None:
    """SPIN's file has another order of rows than the protocol's; its numbers would be wrong by mirrored legs, silently."""
    config = smpl_files(tmp_path, schema_file, suffix=".npz")
    x = np.asarray(schema_file["v_template"])[:, 0]
    rows = np.zeros((17, len(x)))
    rows[:, 0] = 1
    for row, vertex in ((1, x.argmax()), (4, x.argmin())):
        rows[row] = np.eye(len(x))[vertex]
    np.save(tmp_path / "spin.npy", rows)
    with pytest.raises(ConfigError, match="lies on the body's left"):
        load_body(config.model_copy(update={"h36m_regressor": str(tmp_path / "spin.npy")}))
    np.save(tmp_path / "h36m.npy", rows[[0, 4, 2, 3, 1, *range(5, 17)]])
    assert "h36m17" in load_body(config.model_copy(update={"h36m_regressor": str(tmp_path / "h36m.npy")})).skeletons


def test_pickle_that_wants_code_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "smpl").mkdir()
    marker = tmp_path / "ran"
    path = tmp_path / "smpl" / "SMPL_NEUTRAL.pkl"

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    path.write_bytes(pickle.dumps({"v_template": Evil()}, protocol=2))
    with pytest.raises(UnsafeInput, match="mkdir"):
        load_body(BodyConfig(kind="smpl", smpl_dir=str(tmp_path)))
    assert not marker.exists()
    path.write_bytes(b"not a pickle at all")
    with pytest.raises(UnsafeInput, match=r"SMPL_NEUTRAL\.pkl"):
        load_body(BodyConfig(kind="smpl", smpl_dir=str(tmp_path)))


def test_wrong_content_is_explained(tmp_path: Path, schema_file: dict) -> None:
    cases = {
        "missing weights": {k: v for k, v in schema_file.items() if k != "weights"},
        r"posedirs has shape \(6890, 3, 10\)": schema_file | {"posedirs": schema_file["posedirs"][..., :10]},
        "at least 10": schema_file | {"shapedirs": schema_file["shapedirs"][..., :4]},
        "f names vertex 6890": schema_file | {"f": np.full((4, 3), 6890)},
        "rows of weights": schema_file | {"weights": schema_file["weights"] * 2},
        "not SMPL's tree": schema_file | {"kintree_table": schema_file["kintree_table"][:, ::-1]},
    }
    for i, (message, content) in enumerate(cases.items()):
        (tmp_path / str(i)).mkdir()
        with pytest.raises(ConfigError, match=message):
            load_body(smpl_files(tmp_path / str(i), content, suffix=".npz"))
