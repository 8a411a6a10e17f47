"""NeuralAnnot's fits of Human3.6M and MPI-INF-3DHP: one a time instant in world coordinates, metres, shared by all cameras.

Human36M_subject<N>_SMPL_NeuralAnnot.json: {action: {subaction: {frame: fit}}}; MPI-INF-3DHP_SMPL_NeuralAnnot.json: {subject: {sequence:
{frame: fit}}}. A fit's camera frame is reached through the dataset's cameras, x_cam = R x + t. SMPL turns about its rest pelvis p, so the
translation of the world is R^T (transl + p - t) - p.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from engine.body.cameras import project
from engine.datasets.base import read_json
from engine.datasets.fixed_cameras import FixedCamera, make_camera
from engine.datasets.json_stream import leaves
from engine.datasets.smpl_fits import RestPelvis
from engine.errors import ConfigError, MissingInput, RawDataError, SampleRejected
from engine.exchange.base import Fit, LoadBody, Person, Unmapped
from engine.exchange.camera import body_joints, solve_translation
from engine.exchange.neuralannot import ODD, SUFFIX, parameters, smpl_json, translation

_SAME = 1e-5
"""Cameras whose numbers differ by less, relatively, are the same: rows hold float32."""


@dataclass(frozen=True)
class Nest:
    """How one dataset names its files, instants and images. `file` is what one of its files is about: a subject, or nothing."""

    key: re.Pattern[str]
    """Of a sample: groups file, a, b, camera, frame; the nest of a file is a -> b -> frame."""
    first_frame: int
    """Number in the key of the frame that the nest calls 0."""
    cameras: str
    files: str
    key_of: str
    focal: str
    princpt: str

    def camera_keys(self, file: str, a: str, b: str) -> tuple[str, ...]:
        """Where in the camera file the cameras of an instant are."""
        return () if file else (a, b)


NESTS = {
    "human36m": Nest(
        key=re.compile(r"s_(?P<file>\d+)_act_(?P<a>\d+)_subact_(?P<b>\d+)_ca_(?P<camera>\d+)_(?P<frame>\d+)"),
        first_frame=1,
        cameras="Human36M_subject{file}_camera.json",
        files="Human36M_subject{file}" + SUFFIX,
        key_of="s_{file:02d}_act_{a:02d}_subact_{b:02d}_ca_{camera:02d}_{frame:06d}",
        focal="f",
        princpt="c",
    ),
    "mpi_inf_3dhp": Nest(
        key=re.compile(r"S(?P<a>\d+)_Seq(?P<b>\d+)_video_(?P<camera>\d+)_F(?P<frame>\d+)(?P<file>)"),
        first_frame=0,
        cameras="MPI-INF-3DHP_camera_1k.json",
        files="MPI-INF-3DHP" + SUFFIX,
        key_of="S{a}_Seq{b}_video_{camera}_F{frame:06d}",
        focal="focal",
        princpt="princpt",
    ),
}


class Cameras:
    """The cameras of a dataset's files, each read once. MissingInput when one is absent, RawDataError when it is not what it should be."""

    def __init__(self, nest: Nest, folder: Path, convention: str) -> None:
        self._nest, self._folder, self._convention = nest, folder, convention
        self._content: dict[str, dict] = {}

    def of(self, file: str, a: str, b: str) -> dict[int, FixedCamera]:
        """Cameras of an instant by number; none where the file has none of it."""
        path = self._folder / self._nest.cameras.format(file=file)
        if file not in self._content:
            if not path.is_file():
                raise MissingInput(f"{path}: no such file; neuralannot.cameras is the folder that holds the dataset's camera files")
            self._content[file] = read_json(path)
        try:
            record = self._content[file]
            for key in self._nest.camera_keys(file, a, b):
                record = record.get(key, {})
            return {int(number): self._camera(camera) for number, camera in record.items()}
        except ODD as error:
            raise RawDataError(f"{path}: expected cameras with R, t, {self._nest.focal} and {self._nest.princpt}: {error!r}") from None

    def _camera(self, record: dict) -> FixedCamera:
        camera = make_camera(record["R"], record["t"], record[self._nest.focal], record[self._nest.princpt])
        return camera if self._convention == "R x + t" else replace(camera, t=-camera.R @ camera.t)


class WorldWriter:
    """Keeps the view of the best score of every instant, on disk; the others are rejected as 'other_view'.

    'not_of_layout': a key that is no frame of the dataset; 'no_camera': no camera of it in the dataset's file; 'cannot_place': a row of
    a virtual camera whose person cannot be placed before the real one.
    """

    wants_images = False

    def __init__(self, folder: Path, layout: str, cameras: Path, convention: str, load_body: LoadBody) -> None:
        self._folder, self._nest, self._load_body = folder, NESTS[layout], load_body
        self._cameras = Cameras(self._nest, cameras, convention)
        self._pelvis: RestPelvis | None = None
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE fits (file TEXT, a INTEGER, b INTEGER, frame INTEGER, score REAL, json TEXT, PRIMARY KEY (file, a, b, frame))"
        )
        self._database.execute("BEGIN")

    def add(self, person: Person) -> None:
        match = self._nest.key.fullmatch(person.sample.key)
        if match is None:
            raise SampleRejected("not_of_layout", f"sample {person.sample.key}: its key does not say subject, sequence, camera and frame")
        file, a, b, number, frame = (match[name] and str(int(match[name])) for name in ("file", "a", "b", "camera", "frame"))
        camera = self._cameras.of(file, a, b).get(int(number))
        if camera is None:
            raise SampleRejected("no_camera", f"sample {person.sample.key}: the dataset's camera file has no such camera")
        instant = (file, int(a), int(b), int(frame) - self._nest.first_frame)
        score = float(np.nan_to_num(person.quality["score"]))
        query = "SELECT score FROM fits WHERE file = ? AND a = ? AND b = ? AND frame = ?"
        other = self._database.execute(query, instant).fetchone()
        if other is None or score > other[0]:
            record = smpl_json(*self._in_world(person, camera))
            self._database.execute("INSERT OR REPLACE INTO fits VALUES (?, ?, ?, ?, ?, ?)", (*instant, score, record))
        if other is not None:
            raise SampleRejected("other_view", f"sample {person.sample.key}: another camera's view of the same instant")

    def _in_world(self, person: Person, camera: FixedCamera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        body = self._load_body()
        if self._pelvis is None:
            self._pelvis = RestPelvis(body)
        pose, betas = person.pose_72.astype(np.float64), person.betas_10.astype(np.float64)
        transl = person.transl_3.astype(np.float64)
        own, real = (np.concatenate(c) for c in ((person.focal_2, person.princpt_2), (camera.focal, camera.princpt)))
        if not np.allclose(own, real, rtol=_SAME, atol=_SAME):
            joints = body_joints(body, pose[None], betas[None])
            seen = project(joints + transl, person.focal_2.astype(np.float64), person.princpt_2.astype(np.float64))
            placed, solved = solve_translation(joints, seen, np.ones(seen.shape[:2]), camera.focal[None], camera.princpt[None])
            transl = placed[0]
            if not (solved[0] and (joints[0, :, 2] + transl[2] > 0).all()):
                raise SampleRejected("cannot_place", f"sample {person.sample.key}: cannot be placed before the dataset's camera")
        pelvis = self._pelvis(betas)
        pose[:3] = (Rotation.from_matrix(camera.R).inv() * Rotation.from_rotvec(pose[:3])).as_rotvec()
        return pose, betas, camera.R.T @ (transl + pelvis - camera.t) - pelvis

    def close(self) -> list[str]:
        names = [file for (file,) in self._database.execute("SELECT DISTINCT file FROM fits ORDER BY CAST(file AS INTEGER)")]
        paths = []
        for file in names or [""]:
            paths.append(self._nest.files.format(file=file) if names else self._nest.files.format(file="none"))
            with open(self._folder / paths[-1], "w", encoding="ascii") as out:
                rows = self._database.execute("SELECT a, b, frame, json FROM fits WHERE file = ? ORDER BY a, b, frame", (file,))
                _write_nest(out, rows)
        self._database.close()
        return paths


def _write_nest(out, rows) -> None:
    """{a: {b: {frame: {...}}}} of sorted rows, as they come."""
    before: tuple[int, int] | None = None
    out.write("{")
    for a, b, frame, record in rows:
        if before is None:
            out.write(f'\n"{a}":{{"{b}":{{')
        elif before[0] != a:
            out.write(f'}}}},\n"{a}":{{"{b}":{{')
        elif before[1] != b:
            out.write(f'}},\n"{b}":{{')
        else:
            out.write(",")
        out.write(f"\n{json.dumps(str(frame))}:{{{record}}}")
        before = a, b
    out.write("\n}\n" if before is None else "}}}\n")


class WorldReader:
    """Every fit once for each camera of its instant, named by the sample's key. Views that the shard set lacks are nobody's."""

    def __init__(self, paths: Sequence[Path], layout: str, cameras: Path, convention: str, load_body: LoadBody) -> None:
        self._paths, self._nest, self._load_body = paths, NESTS[layout], load_body
        self._cameras = Cameras(self._nest, cameras, convention)

    def fits(self) -> Iterator[Fit | Unmapped]:
        pelvis = RestPelvis(self._load_body())
        for path in self._paths:
            file = self._file(path)
            for (a, b, frame), record in leaves(path, 3):
                name = f"{path.name}: {a}/{b}/{frame}"
                try:
                    pose, betas = parameters(record)
                    trans = translation(record)
                    cameras = self._cameras.of(file, a, b)
                    names = {"a": int(a), "b": int(b), "frame": int(frame) + self._nest.first_frame, "file": int(file or 0)}
                except ODD as error:
                    yield Unmapped(name, "invalid_record", f"{type(error).__name__}: {error}")
                    continue
                if not cameras:
                    yield Unmapped(name, "no_camera", f"the dataset's camera file has no camera of {a}/{b}")
                for number, camera in cameras.items():
                    yield _in_camera(pose, betas, trans, camera, pelvis, self._nest.key_of.format(camera=number, **names))

    def _file(self, path: Path) -> str:
        if "{file}" not in self._nest.files:
            return ""
        if match := re.search(r"subject_?(\d+)", path.name):
            return str(int(match[1]))
        raise ConfigError(f"{path}: expected a name such as {self._nest.files.format(file=1)}, which says the subject")


def _in_camera(
    pose_72: np.ndarray, betas_10: np.ndarray, trans_3: np.ndarray | None, camera: FixedCamera, pelvis: RestPelvis, key: str
) -> Fit:
    if not np.isfinite(pose_72).all() or not np.isfinite(betas_10).all():
        return Fit(pose_72, betas_10, image=key)
    pose = pose_72.copy()
    pose[:3] = (Rotation.from_matrix(camera.R) * Rotation.from_rotvec(pose[:3])).as_rotvec()
    if trans_3 is None:
        return Fit(pose, betas_10, image=key)
    rest = pelvis(betas_10)
    return Fit(pose, betas_10, camera.R @ (rest + trans_3) + camera.t - rest, camera.focal, camera.princpt, image=key)
