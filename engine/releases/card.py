"""The card of a release: what a person should know before using it, from its manifest and rows alone.

Equal releases give equal cards, byte for byte, so that a publication cut short is completed by whoever comes next.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from engine.releases.store import READ_THREADS, Release, read_rows

_PERCENTILES = (10, 50, 90)
_SCORE_EDGES = np.linspace(0, 1, 11)

_LICENCE = {
    "open": (
        "Body: the open body that ships with pseudogt (Apache-2.0 / CC0 sources). The parameters have SMPL's layout but belong to the open "
        "body; they are not SMPL parameters and give a wrong shape when put into SMPL."
    ),
    "smpl": (
        "Body: SMPL. The parameters are of use only with the SMPL model, whose licence (Max-Planck-Gesellschaft; non-commercial unless "
        "you hold another one) you have to accept separately. No part of the model is in this release."
    ),
}


def write_card(release: Release) -> str:
    """Markdown card: counts, quality, lineage, licences."""
    m = release.manifest
    figures = _figures(release)
    counts = [f"| planned | {m.planned} |", f"| annotated | {m.annotated} |"]
    counts += [f"| skipped: {reason} | {n} |" for reason, n in m.skipped.items()]
    counts += [f"| quarantined: {reason} | {n} |" for reason, n in m.quarantined.items()]
    return "\n".join(
        [
            f"# {m.name} v{m.version:04d}",
            "",
            f"3D pseudo-ground-truth (pose, shape, camera) of {m.annotated} persons of {m.dataset}/{m.split}, in {len(m.shards)} shards.",
            f"Made on {m.created_at}. Digest `{release.digest}`. Predicted by a network, not measured: see Quality.",
            "",
            "## Instances",
            "",
            "| | instances |",
            "|---|---|",
            *counts,
            "",
            "planned = annotated + skipped + quarantined. What was left out at ingest is in the shard set's manifest.",
            "",
            "## Quality",
            "",
            *_quality(figures),
            "",
            "## Made from",
            "",
            *[f"- {name}: `{digest}`" for name, digest in sorted(m.lineage.items())],
            *[f"- {name}: {value}" for name, value in sorted(m.settings.items())],
            "",
            "## Licences",
            "",
            f"- {_LICENCE.get(m.body, f'Body: {m.body}.')}",
            f"- The photographs are not in this release. They and their 2D annotations stay under the licence of {m.dataset}.",
            "- The annotator's training data may put terms of their own on what is learned from them (Human3.6M, 3DPW: research only).",
            "",
        ]
    )


def _figures(release: Release) -> dict[str, np.ndarray]:
    names = ("score", "reprojection_error", "visible_fraction", "valid_joints")
    with ThreadPoolExecutor(READ_THREADS) as pool:
        parts = list(pool.map(lambda shard: read_rows(release.store, shard).select(names), release.manifest.shards))
    return {name: np.concatenate([part[name].to_numpy() for part in parts] or [np.zeros(0)]) for name in names}


def _quality(figures: dict[str, np.ndarray]) -> list[str]:
    measured = figures["valid_joints"] > 0
    if not measured.any():
        return ["No instance has a 2D joint to compare with."]
    lines = [
        f"Against the 2D ground truth of {int(measured.sum())} persons; {int((~measured).sum())} have no valid joint.",
        "",
        "| | " + " | ".join(f"{p} % below" for p in _PERCENTILES) + " | mean |",
        "|---|" + "---|" * (len(_PERCENTILES) + 1),
    ]
    for name in ("score", "reprojection_error", "visible_fraction"):
        values = figures[name][measured].astype(np.float64)
        lines.append(f"| {name} | " + " | ".join(f"{v:.4f}" for v in (*np.percentile(values, _PERCENTILES), values.mean())) + " |")
    histogram, _ = np.histogram(figures["score"][measured], _SCORE_EDGES)
    lines += ["", "| score | persons |", "|---|---|"]
    lines += [f"| {low:.1f} to {high:.1f} | {n} |" for low, high, n in zip(_SCORE_EDGES, _SCORE_EDGES[1:], histogram, strict=False)]
    return lines
