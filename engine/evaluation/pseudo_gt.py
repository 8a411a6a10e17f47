"""How wrong pseudo-GT is: a release against the truth of a world that has one.

The truth is a Parquet table with annotation_id, pose (72 rad) and betas (10), camera frame, of the release's own body. The
measures are those of the 3DPW protocol, so a release's errors stand beside a network's.
"""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import spearmanr

from engine.body.smpl import Body
from engine.errors import RawDataError, ReleaseError
from engine.evaluation.meshes import mesh
from engine.evaluation.person_errors import PersonErrors
from engine.evaluation.protocol_3dpw import score_meshes
from engine.evaluation.results import PseudoGtResult
from engine.releases.store import Release

_BATCH = 128


def evaluate_release(release: Release, truth: pa.Table, body: Body) -> PseudoGtResult:
    """Score every row of a release whose annotation id is in the truth. ReleaseError if none is, or if the release is of another body."""
    manifest = release.manifest
    name = f"release {manifest.name} v{manifest.version}"
    if manifest.body != body.name or manifest.lineage.get("body", body.digest) != body.digest:
        raise ReleaseError(f"{name}: made with body {manifest.body!r}, but the evaluation's is {body.name!r}; set `body` to the release's")
    rows = release.table()
    places = {person: i for i, person in enumerate(truth["annotation_id"].to_pylist())}
    found = np.array([places.get(person, -1) for person in rows["annotation_id"].to_pylist()], np.int64)
    joined = np.flatnonzero(found >= 0)
    if not len(joined):
        raise ReleaseError(f"{name}: none of its {len(rows)} persons is among the truth's {len(truth)}; give its own images' truth")
    mine, true = (_parameters(rows), joined), (_parameters(truth), found[joined])
    errors = PersonErrors.joined([_score(mine, true, slice(i, i + _BATCH), body) for i in range(0, len(joined), _BATCH)])
    score = rows["score"].to_numpy()[joined]
    return PseudoGtResult(
        release=manifest.name,
        version=manifest.version,
        errors=errors.summary(),
        joined=len(joined),
        missing=len(places) - len(set(found[joined].tolist())),
        unknown=len(rows) - len(joined),
        score_rank_correlation=_rank_correlation(score, errors.column("pa_mpjpe")),
    )


def read_truth(data: bytes, where: str) -> pa.Table:
    """The truth table of Parquet bytes; RawDataError if it is not one, or if it names a person twice."""
    try:
        table = pq.read_table(io.BytesIO(data), columns=["annotation_id", "pose", "betas"])
    except (pa.ArrowException, KeyError) as error:
        raise RawDataError(f"truth {where}: expected Parquet with annotation_id, pose and betas: {error}") from None
    ids = table["annotation_id"].cast(pa.string())
    if len(ids.unique()) != len(ids):
        raise RawDataError(f"truth {where}: {len(ids) - len(ids.unique())} annotation ids occur twice")
    return table.set_column(0, "annotation_id", ids)


def _parameters(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.asarray(table[name].to_pylist(), np.float32).reshape(-1, size) for name, size in (("pose", 72), ("betas", 10)))


def _score(mine, true, part: slice, body: Body) -> PersonErrors:
    meshes = [mesh(body, pose[places[part]], betas[places[part]]) for (pose, betas), places in (mine, true)]
    return score_meshes(*meshes, body)


def _rank_correlation(score: np.ndarray, error: np.ndarray) -> float | None:
    if len(score) < 3 or np.ptp(score) == 0 or np.ptp(error) == 0:
        return None
    return round(float(spearmanr(score, error).statistic), 4)
