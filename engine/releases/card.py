"""The card of a release: what a person should know before using it, from its manifest and digest alone.

Equal manifests give equal cards, byte for byte, so that a publication cut short is completed by whoever comes next. A card ends with the
digest of its own text: one that another version of this program wrote in other words can be told from one that was edited.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from engine.errors import ReleaseError
from engine.releases.card_usage import citing, loading
from engine.releases.figures import percentile
from schemas.manifests import FigureTotal, ReleaseManifest
from schemas.records import sha256_hex

_PERCENTILES = (10, 50, 90)

_ORIGIN = {
    "mean_pose": "The same pose and shape for everybody, a baseline",
    "smplify": "Fitted to the annotated 2D joints, person by person",
    "eft": "Predicted by a network that was fine-tuned to each person's annotated 2D joints",
}
LICENCES = {
    "open": (
        "Body: the open body that ships with pseudogt (Apache-2.0 / CC0 sources). The parameters have SMPL's layout but belong to the open "
        "body; they are not SMPL parameters and give a wrong shape when put into SMPL."
    ),
    "smpl": (
        "Body: SMPL. The parameters are of use only with the SMPL model, whose licence (Max-Planck-Gesellschaft; non-commercial unless "
        "you hold another one) you have to accept separately. No part of the model is in this release."
    ),
}


_SEAL = re.compile(rb"(.*)<!-- sha256 of the text above: ([0-9a-f]{64}) -->\n", re.DOTALL)


def write_card(m: ReleaseManifest, digest: str) -> str:
    """Markdown card of a release's manifest and digest: counts, quality, lineage, licences, how to load and to cite it.

    ReleaseError when the manifest lacks the figures that every release has.
    """
    text = "\n".join([_facts(m, digest), *loading(m), *citing(m, digest), ""])
    return f"{text}<!-- sha256 of the text above: {sha256_hex(text.encode())} -->\n"


def check_card(card: bytes, m: ReleaseManifest, digest: str) -> None:
    """ReleaseError when these bytes are no card of this release.

    They are when they are what `write_card` says; when they are a whole card of it in other words, as their last line tells; or when
    they are the facts alone, which was all that a card had before it had that line.
    """
    if card in (write_card(m, digest).encode(), _facts(m, digest).encode()):
        return
    seal = _SEAL.fullmatch(card)
    whole = seal is not None and sha256_hex(seal.group(1)) == seal.group(2).decode()
    if not whole or not card.startswith(f"{_title(m)}\n".encode()) or _made(m, digest).encode() not in card:
        raise ReleaseError("expected the card of its manifest, found another text; the card or the manifest was edited or damaged")


def _origin(m: ReleaseManifest) -> str:
    if (m.annotator or "").startswith("import:") or "import" in m.lineage:
        return "Read from files that others made"
    return _ORIGIN.get(m.annotator or "", "Predicted by a network")


def _title(m: ReleaseManifest) -> str:
    return f"# {m.name} v{m.version:04d}"


def _made(m: ReleaseManifest, digest: str) -> str:
    return f"Made on {m.created_at}. Digest `{digest}`."


def _facts(m: ReleaseManifest, digest: str) -> str:
    if absent := [name for name in ("score", "truncation") if name not in m.figures]:
        raise ReleaseError(f"release {m.name!r}: the manifest has no figure {absent[0]!r}")
    counts = [f"| planned | {m.planned} |", f"| annotated | {m.annotated} |"]
    counts += [f"| skipped: {reason} | {n} |" for reason, n in m.skipped.items()]
    counts += [f"| quarantined: {reason} | {n} |" for reason, n in m.quarantined.items()]
    return "\n".join(
        [
            _title(m),
            "",
            f"3D pseudo-ground-truth (pose, shape, camera) of {m.annotated} persons of {m.dataset}/{m.split}, in {m.shards.rows} shards.",
            f"{_made(m, digest)} {_origin(m)}, not measured: see Quality.",
            *_derived(m),
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
            *_quality(m.figures),
            "",
            "## Made from",
            "",
            *[f"- {name}: `{digest}`" for name, digest in sorted(m.lineage.items())],
            *[f"- {name}: {value}" for name, value in sorted(m.settings.items())],
            "",
            "## Licences",
            "",
            f"- {LICENCES.get(m.body, f'Body: {m.body}.')}",
            f"- The photographs are not in this release. They and their 2D annotations stay under the licence of {m.dataset}.",
            "- The annotator's training data may put terms of their own on what is learned from them (Human3.6M, 3DPW: research only).",
            "",
        ]
    )


def _derived(m: ReleaseManifest) -> list[str]:
    if m.selection is None:
        return []
    return [f"Derived from the release `{m.lineage.get('release')}`: of its files, the rows that `{m.settings.get('filter')}` keeps."]


def _quality(figures: Mapping[str, FigureTotal]) -> list[str]:
    score = figures["score"]
    if not score.count:
        return ["No instance has a 2D joint to compare with."]
    lines = [
        f"Against the 2D ground truth of {score.count} persons; {figures['truncation'].count - score.count} have no valid joint. "
        "Percentiles are known within one bin of a histogram: the bin is given. The manifest has the histograms.",
        "",
        "| | " + " | ".join(f"{p} % below" for p in _PERCENTILES) + " | mean |",
        "|---|" + "---|" * (len(_PERCENTILES) + 1),
    ]
    for name, total in figures.items():
        if total.count:
            bins = (_bin(*percentile(total, total.edges, p)) for p in _PERCENTILES)
            lines.append(f"| {name} | " + " | ".join((*bins, f"{total.sum / total.count:.4f}")) + " |")
    lines += ["", "| score | persons |", "|---|---|"]
    starts_B, counts_B = np.array([0.0, *score.edges]), np.array(score.counts)
    tenths_B = np.clip((starts_B * 10 + 1e-9).astype(int), 0, 9)
    lines += [f"| {i / 10:.1f} to {(i + 1) / 10:.1f} | {counts_B[tenths_B == i].sum()} |" for i in range(10)]
    return lines


def _bin(low: float, high: float) -> str:
    return f"below {high:.4g}" if math.isinf(low) else f"{low:.4g} or more" if math.isinf(high) else f"{low:.4g} to {high:.4g}"
