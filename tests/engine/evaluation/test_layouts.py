"""From the files of test sets to their protocols: who is predicted as they are has no error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.config import load_config
from engine.evaluation.protocol import PredictedPeople, joined
from engine.evaluation.protocols import PROTOCOLS
from engine.shards.ingest import IngestConfig, ingest
from engine.shards.reader import open_shard_set, read_samples
from engine.synthetic.atlas import Mannequin
from engine.synthetic.layouts.catalogue import LAYOUTS
from engine.synthetic.shots import Shot, make_shots
from schemas.skeletons import MI17


@pytest.fixture(scope="module")
def mannequin() -> Mannequin:
    return Mannequin()


@pytest.mark.parametrize(
    ("layout", "protocol", "univ"), [("mupots", "mupots", 1.0), ("mpi_inf_3dhp_test", "3dhp", 0.93), ("3dpw", "3dpw", None)]
)
def test_true_people_have_no_error(mannequin: Mannequin, tmp_path: Path, layout: str, protocol: str, univ: float | None) -> None:
    """MuPoTS gives predictions the true bones' lengths, so the universal skeleton's size does not count; in MPI-INF-3DHP it does."""
    files = LAYOUTS[layout]
    shots = make_shots(mannequin, 3, 3, people=files.people, hw=(192, 192), views=files.views)
    truth = files.write(tmp_path / "raw", shots)
    arguments = [f"--dataset.name={files.dataset}", f"--dataset.root={tmp_path / 'raw'}", f"--dataset.split={files.split}"]
    ingest(load_config(IngestConfig, [*arguments, *files.options, f"--out={tmp_path / 'shards'}", "--workers=0"]))
    shards, by_pixels, kept, frames = open_shard_set(str(tmp_path / "shards")), _by_place(shots), [], []
    for entry in shards.manifest.shards:
        for sample, _ in read_samples(shards.fetch(entry), entry):
            for person in sample.instances:
                assert PROTOCOLS[protocol].unfit(sample, person) is None
                pelvis = tuple(np.round(person.joints_img[0], 2))
                shot, p = min(by_pixels[person.skeleton], key=lambda known: np.abs(np.subtract(known[0], pelvis)).max())[1:]
                size = univ or 1.0
                kept.append(PROTOCOLS[protocol].measure(_people(mannequin, shot, p, size), [person], mannequin.body))
                frames.append(sample.image_path)
    assert len(kept) == sum(len(image.persons) for image in truth)
    errors = PROTOCOLS[protocol].errors(joined(kept), frames).summary()
    assert errors.persons == len(kept) and errors.pa_mpjpe_mm < 0.2
    if protocol != "3dpw":
        assert errors.pck_percent == pytest.approx(100) and errors.auc_percent == pytest.approx(100 * 30 / 31, abs=0.01)
    if protocol == "mupots":
        assert errors.pck_matched_percent == pytest.approx(100)
    assert errors.mpjpe_mm < 0.5


def _by_place(shots: list[Shot]) -> dict[str, list[tuple[np.ndarray, Shot, int]]]:
    """Every person of every shot by the pixel of their skeleton's first joint."""
    smpl = [(s.camera.to_pixels(s.camera.to_camera(q.by_skeleton["smpl24"][:1]))[0], s, p) for s in shots for p, q in enumerate(s.persons)]
    return {"mi17": [(s.joints_img(p, MI17.joints[:1])[0], s, p) for s in shots for p in range(len(s.persons))], "smpl24": smpl}


def _people(mannequin: Mannequin, shot: Shot, p: int, size: float) -> PredictedPeople:
    person = shot.persons[p]
    pose, transl = person.smpl_in_camera(shot.camera)
    with torch.inference_mode():
        posed = mannequin.body(*(torch.tensor(values[None], dtype=torch.float32) for values in (pose, person.betas_10)))
    return PredictedPeople(posed.vertices_BV3.numpy() * size, transl[None] * size, shot.camera.focal[None], shot.camera.princpt[None])
