"""npz files of poses, as SMPL and AMASS have them."""

import numpy as np
import pytest

from engine.body.pose_files import read_pose_files
from engine.errors import MissingInput, RawDataError


def _poses(frames: int, width: int) -> np.ndarray:
    return np.random.default_rng(width).normal(0, 0.3, (frames, width))


def test_smpl_and_amass_files_give_their_body_joints(tmp_path):
    smpl, amass, bare = _poses(4, 72), _poses(5, 156), _poses(3, 63).astype(np.float32)
    np.savez(tmp_path / "a.npz", clip_pose=smpl, clip_trans=np.zeros((4, 3)), other_pose=bare)
    np.savez(tmp_path / "b.npz", poses=amass, pose_body=amass[:, :7], gender="male", mocap_framerate=120.0)
    a, other, b = read_pose_files((str(tmp_path / "*.npz"),))
    np.testing.assert_allclose(a, smpl[:, 3:66], atol=1e-6)
    np.testing.assert_allclose(other, bare)
    np.testing.assert_allclose(b, amass[:, 3:66], atol=1e-6)
    assert a.dtype == np.float32


def test_real_motion_capture_is_read(real_data):
    sequences = read_pose_files((str(real_data / "open_poses" / "cmu_smpl24_30fps.npz"),))
    assert len(sequences) == 10 and sum(map(len, sequences)) == 1774


@pytest.mark.parametrize("pattern", ["nothing.npz", "*.npz"])
def test_a_pattern_without_files(tmp_path, pattern):
    with pytest.raises(MissingInput, match="no such file"):
        read_pose_files((str(tmp_path / pattern),))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"trans": np.zeros((3, 3))}, "found none"),
        ({"pose": np.zeros((3, 69))}, r"expected float \(N, 63 \| 72 \| 156 \| 165\), found float64 \(3, 69\)"),
        ({"pose": np.zeros((3, 72), int)}, "expected float"),
        ({"pose": np.full((3, 72), np.nan)}, "NaN"),
        ({"pose": np.full((3, 72), 90.0)}, "degrees"),
        ({"pose": np.array([{}], dtype=object)}, "npz of plain arrays"),
    ],
)
def test_files_that_are_no_poses(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(RawDataError, match=message):
        read_pose_files((str(tmp_path / "a.npz"),))


def test_a_file_that_is_no_npz(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"nonsense")
    with pytest.raises(RawDataError, match="npz of plain arrays"):
        read_pose_files((str(tmp_path / "a.npz"),))
