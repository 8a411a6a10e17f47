"""The card of a release as facts for its page: what it is, what became of everybody, what it was made from, how to cite and load it."""

from __future__ import annotations

from typing import Any

from engine.releases.card import LICENCES
from engine.releases.card_usage import EXPORT_FORMATS, bibtex
from engine.releases.store import Release
from engine.report.site.words import BODIES, CAMERA, REASONS
from schemas.manifests import ReleaseManifest

_GROUPS = (
    ("The photographs", "What was annotated: the raw data set, and the shard set it was packed into.", ("raw", "shard_set")),
    ("The annotator", "The network that made the fits, its settings, and what it was trained on.", ("annotator", "annotator.")),
    ("The body", "The model of the human body, and the model of usual poses.", ("body", "prior")),
    ("The settings", "Everything else that decides the numbers.", ("config",)),
    ("The release before", "This release is a part of another one.", ("release",)),
    ("The imported files", "The fits were not made here but read from these files.", ("import",)),
)

_PARTS = {
    "raw": "raw files of the data set",
    "shard_set": "photographs as packed (shard set)",
    "annotator": "weights of the network",
    "annotator.config": "settings of the network",
    "body": "model of the body",
    "prior": "model of usual poses",
    "config": "settings of the run",
    "release": "the release before",
    "import": "the files",
}
_TRAINED_ON = "annotator.trained_on.shard_set/"


def describe(release: Release) -> dict[str, Any]:
    """Facts about a release, JSON values only. They say nothing of where its store is."""
    m = release.manifest
    word = f"STORE#{m.name}@v{m.version:04d}"
    return {
        "name": m.name,
        "version": m.version,
        "digest": release.digest,
        "created_at": m.created_at,
        "dataset": m.dataset,
        "split": m.split,
        "reference": word,
        "sentence": f"A 3D human body (pose, shape and a camera) for {m.annotated:,} of {m.planned:,} people marked in the photographs of "
        f"{m.dataset} ({m.split}): estimated by a computer, not measured, and checked against the marked 2D joints.",
        "planned": m.planned,
        "annotated": m.annotated,
        "skipped": _reasons(m.skipped),
        "quarantined": _reasons(m.quarantined),
        "body": m.body,
        "body_meaning": BODIES.get(m.body, f"The bodies here are of {m.body!r}."),
        "camera_meaning": CAMERA,
        "lineage": _lineage(m),
        "settings": [[name, str(value)] for name, value in sorted(m.settings.items())],
        "licences": [
            LICENCES.get(m.body, f"Body: {m.body}."),
            f"The photographs are not in the release. They and their 2D annotations stay under the licence of {m.dataset}.",
            "The annotator's training data may put terms of their own on what is learned from them (Human3.6M, 3DPW: research only).",
        ],
        "citation": "\n".join(bibtex(m, release.digest)),
        "loading": _loading(m, word),
        "figures": {name: {"counts": list(f.counts), "edges": list(f.edges), "sum": f.sum} for name, f in sorted(m.figures.items())},
    }


def _reasons(counts: dict[str, int]) -> list[list[Any]]:
    """Reason, count and meaning, most first."""
    return [[reason, n, REASONS.get(reason, "")] for reason, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _called(name: str) -> str:
    """What a visitor would call a part of the lineage."""
    return f"trained on {name.removeprefix(_TRAINED_ON)}" if name.startswith(_TRAINED_ON) else _PARTS.get(name, name)


def _lineage(m: ReleaseManifest) -> list[dict[str, Any]]:
    """Groups of (name, digest): what the release was made from."""
    left, groups = dict(sorted(m.lineage.items())), []
    for title, meaning, wanted in _GROUPS:
        mine = [name for name in left if any(name == w or (w.endswith(".") and name.startswith(w)) for w in wanted)]
        if mine:
            groups.append({"title": title, "meaning": meaning, "digests": [[_called(name), left.pop(name)] for name in mine]})
    if left:
        groups.append({"title": "Also", "meaning": "", "digests": [list(item) for item in left.items()]})
    return groups


def _loading(m: ReleaseManifest, word: str) -> list[dict[str, str]]:
    folder = f"releases/{m.name}/v{m.version:04d}"
    python = f"""import pyarrow as pa, pyarrow.parquet as pq

store = "STORE"  # the folder of the release store
shards = pq.read_table(f"{{store}}/{folder}/shards.parquet").to_pylist()
rows = pa.concat_tables(pq.read_table(f"{{store}}/objects/{{s['sha256'][:2]}}/{{s['sha256']}}.parquet") for s in shards)
print(rows.num_rows, rows.column_names)  # one row is one person"""
    if getattr(m, "selection", None) is not None:
        python += f"\n\n# This release keeps a part of those rows: {folder}/selection.parquet says which (docs/FORMAT.md has the lines)."
    train = f"""python jobs/train_estimator.py --config train.yaml

# in train.yaml
loading:
  itw: [{{url: SHARD_SET, release_url: STORE, release_name: {m.name}, release_version: {m.version}}}]"""
    blocks = [
        {"title": "In Python, with pyarrow alone", "text": python},
        {"title": "To train a network with it", "text": train},
        {"title": "To check every byte of it", "text": f'python jobs/releases.py verify "{word}"'},
    ]
    lines = [
        f'python jobs/releases.py export "{word}" --format={name} --shard_set=SHARD_SET --out=FOLDER/{name}' for name in EXPORT_FORMATS
    ]
    return [*blocks, {"title": "As files of another format", "text": "\n".join(lines)}]
