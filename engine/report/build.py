"""The report of a set of runs, releases and results: `<out>/index.html` and the pictures beside it.

A report is a view: made again, it replaces the one before.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from pydantic import Field
from rich.console import Console

from engine.body.smpl import Body, BodyConfig, load_body
from engine.config import Config
from engine.errors import MissingInput
from engine.evaluation.meshes import mesh
from engine.evaluation.pseudo_gt import read_truth
from engine.evaluation.results import ProtocolResult, Results
from engine.evaluation.run import input_name, read_predictions, read_results
from engine.evaluation.tables import notes, result_table, sequence_rows
from engine.models.registry import describe_terms
from engine.releases.store import Release, open_release
from engine.report.html import Picture, Section, Table, Text, page
from engine.report.overlay import HOW_TO_READ, TRUTH_IS_GREY, Figure, Shape, contact_sheet, encode_jpeg
from engine.report.pictures import Row, drawn_keys, figures, lowest_keys, spread_keys, true_shape
from engine.report.plots import histograms, loss_curves
from engine.shards.reader import ShardSet, open_shard_set
from engine.storage import Store, join, split
from engine.training.checkpoint import open_checkpoint
from engine.training.history import read_history
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA
from schemas.sample import Instance, Sample

_QUALITY = (
    "score", "keypoint_similarity", "reprojection_error", "visible_fraction", "truncation", "latent_norm", "flip_disagreement",
    "valid_joints",
)  # fmt: skip
_SHARES = ("score", "keypoint_similarity", "visible_fraction", "truncation")
_FIGURES_A_SHEET = 12
_MEASURES = (
    "Lower is better. MPJPE is the mean distance of the predicted 3D joints from the true ones, after the pelvis is put in place; "
    "PA-MPJPE is the same after the best rotation, scale and shift, so that only the pose counts. MPVPE and PA-MPVPE are the same "
    "for the mesh's vertices."
)
_PCK = "Higher is better of 3DPCK, the percentage of joints less than 150 mm away, and of AUC, its mean over thresholds up to 150 mm."
_BASELINE = "The grey row is the baseline: one and the same answer for everybody. A network that has learned something is well below it."
_RELEASE_ROW = (
    "The row of a release measures the pseudo-GT itself, on the photographs it annotates: other images than the test set's, so it does not "
    "compare with the rows above."
)
_SCORE = (
    "Score, from 0 to 1, says how closely a mesh meets the annotated 2D joints: 0.5 where all are off by 10 % of the box's size. "
    "It is lower for people who are cut off by the image or have few joints, and knows little of depth."
)


class ReportedRelease(Config):
    """A release and the images it annotates."""

    root: str = Field(description="URL of the release store")
    name: str = Field(description="release name")
    version: int | None = Field(None, description="release version; null: HEAD")
    shard_set: str = Field(description="URL of the image shard set it was made from")
    truth: str | None = Field(None, description="URL of the truth (Parquet) to draw beside it; null: none")


class ReportConfig(Config):
    """What the report shows and where it goes."""

    out: str = Field(description="URL of the folder for index.html and pictures/")
    title: str = Field("3D pseudo-ground-truth: report", description="heading of the page")
    runs: dict[str, str] = Field({}, description="training runs: name -> URL of the run directory")
    releases: tuple[ReportedRelease, ...] = Field((), description="releases to show")
    results: str | None = Field(None, description="URL of an evaluation's folder; null: no results")
    test_set: str | None = Field(
        None, description="URL of one of the evaluation's test shard sets, for overlays of the predictions; null: none"
    )
    body: BodyConfig = Field(default=BodyConfig(), description="body of the releases and results")
    overlays: int = Field(12, ge=1, description="images in each set of overlays")
    seed: int = Field(0, description="seed of the images drawn at random")


def build_report(config: ReportConfig, console: Console | None = None) -> str:
    """Write the report; returns, and prints, the URL of its page."""
    console = console or Console()
    body, store = load_body(config.body), Store(config.out)
    sections = []
    results = read_results(config.results) if config.results else None
    if results:
        sections.append(_results_section(results))
    if config.runs:
        sections.append(_training_section(config, store))
    releases = [(r, open_release(r.root, r.name, r.version)) for r in config.releases]
    for wanted, release in releases:
        console.print(f"drawing release {wanted.name} v{release.manifest.version}", highlight=False, markup=False)
        sections.append(_release_section(config, wanted, release, body, store))
    if results and config.test_set:
        console.print("drawing predictions on the test set", highlight=False, markup=False)
        sections.append(_predictions_section(config, results, open_shard_set(config.test_set), body, store))
    sections.append(_lineage_section(results, [release for _, release in releases]))
    _put(store, "index.html", page(config.title, _summary(results, releases), sections).encode())
    url = join(config.out, "index.html")
    console.print(f"report: {url}", highlight=False, markup=False, soft_wrap=True)
    return url


def _summary(results: Results | None, releases: list) -> str:
    parts = [f"{r.manifest.annotated} persons annotated in release {r.manifest.name} v{r.manifest.version}" for _, r in releases]
    if results:
        parts += [f"{n.name}: PA-MPJPE {n.errors.pa_mpjpe_mm:.1f} mm on {t.title}" for t in results.test_sets for n in t.networks]
    return "; ".join(parts) + "." if parts else "Nothing was given to report on."


def _results_section(results: Results) -> Section:
    blocks: list = []
    for test_set in results.test_sets:
        columns, rows = result_table(results, test_set)
        if len(results.test_sets) > 1:
            blocks.append(Text(f"On {test_set.title}, by protocol {test_set.protocol}:"))
        blocks += [Table(columns, rows, highlight=frozenset({0}) if test_set.baseline else frozenset()), Text(_MEASURES)]
        blocks += [Text(_PCK)] if "3DPCK" in columns else []
        blocks += [Text(_BASELINE)] if test_set.baseline else []
        blocks += [Text(_RELEASE_ROW)] if results.pseudo_gt and test_set == results.test_sets[0] else []
        blocks += [Text(line) for line in notes(results, test_set)]
        per_sequence = sequence_rows(test_set)
        if len(per_sequence) > len(test_set.networks):
            columns = ("network", "sequence", "persons", "MPJPE", "PA-MPJPE")
            blocks.append(Table(columns, per_sequence, left=2, fold="Sequence by sequence, worst first (mm)"))
    return Section("Results", blocks)


def _training_section(config: ReportConfig, store: Store) -> Section:
    histories = {name: read_history(url) for name, url in config.runs.items()}
    rows = [_run_row(name, history) for name, history in histories.items()]
    blocks: list = [Table(("run", "steps", "epochs", "first total loss", "last total loss", "persons/s (median)"), rows)]
    if png := loss_curves(histories):
        blocks.append(Text("Runs on other data or with other weights have other losses: compare networks under Results, not here."))
        blocks.append(_picture(store, "pictures/losses.png", png, "The weighted total, then every loss term without its weight."))
        described = [describe_terms(open_checkpoint(url).manifest.model) for url in config.runs.values()]
        terms = [(term.replace("_", " "), text) for term, text in {k: v for one in described for k, v in one.items()}.items()]
        blocks.append(Table(("term", "what it compares"), terms, left=2, fold="What the terms are"))
    return Section("Training", blocks)


def _run_row(name: str, history: list[Row]) -> tuple[str, ...]:
    if not history:
        return name, "0", "0", "-", "-", "-"
    first, last = history[0], history[-1]
    speed = np.median([row["samples_per_s"] for row in history])
    return name, str(last["step"]), str(last["epoch"] + 1), f"{first['loss']:.3f}", f"{last['loss']:.3f}", f"{speed:.0f}"


def _release_section(config: ReportConfig, wanted: ReportedRelease, release: Release, body: Body, store: Store) -> Section:
    manifest, rows, shards = release.manifest, release.table(), open_shard_set(wanted.shard_set)
    name = f"{manifest.name}-v{manifest.version}"
    blocks: list = [
        Text(f"3D pseudo-ground-truth of {manifest.dataset}/{manifest.split}, body {manifest.body!r}. What became of every person:"),
        Table(("", "persons"), _account(release)),
    ]
    if rows.num_rows:
        blocks += [Text(HOW_TO_READ + (TRUTH_IS_GREY if wanted.truth else "")), Text(_SCORE)]
        truth = _truth_of(wanted.truth, body)
        sets = (
            ("random", drawn_keys(rows, config.overlays, config.seed), "Images drawn at random."),
            ("worst", lowest_keys(rows, "score", min(6, config.overlays)), "The images with the lowest mean score: where it went wrong."),
        )
        for kind, keys, title in sets:
            drawn = figures(rows, keys, shards, body, _release_caption, truth)
            blocks += _sheets(store, f"pictures/{name}-{kind}", drawn, body, title)
        columns = {column: rows[column].to_numpy() for column in _QUALITY}
        if png := histograms(columns, dict.fromkeys(_SHARES, (0.0, 1.0))):
            blocks.append(_picture(store, f"pictures/{name}-quality.png", png, "Quality, person by person; the line is the median."))
            meanings = [(c.replace("_", " "), PSEUDO_GT_SCHEMA.field(c).metadata[b"meaning"].decode()) for c in _QUALITY]
            blocks.append(Table(("figure", "meaning"), meanings, left=2, fold="What the figures mean"))
    return Section(f"Release {manifest.name} v{manifest.version}", blocks)


def _account(release: Release) -> list[tuple[str, str]]:
    manifest = release.manifest
    rows = [("planned", manifest.planned), ("annotated", manifest.annotated)]
    rows += [(f"skipped: {reason}", n) for reason, n in sorted(manifest.skipped.items())]
    rows += [(f"quarantined: {reason}", n) for reason, n in sorted(manifest.quarantined.items())]
    return [(what, str(n)) for what, n in rows]


def _predictions_section(config: ReportConfig, results: Results, shards: ShardSet, body: Body, store: Store) -> Section:
    chosen = "The same images for every network, evenly spaced from the first network's best to its worst PA-MPJPE."
    blocks: list = [Text(f"{chosen} {HOW_TO_READ}{TRUTH_IS_GREY}")]
    keys: list[str] = []
    for network in _of_shards(results, shards).networks:
        rows = read_predictions(config.results, network)
        keys = keys or spread_keys(rows, "pa_mpjpe_mm", config.overlays)

        def caption(sample: Sample, mine: list[Row], name: str = network.name) -> list[str]:
            errors = ", ".join(f"{row['pa_mpjpe_mm']:.0f}" for row in mine)
            return [f"{name}: {sample.image_path}", f"PA-MPJPE {errors} mm"]

        drawn = figures(rows, keys, shards, body, caption, lambda instance: true_shape(instance, body))
        blocks += _sheets(store, f"pictures/test-{network.name}", drawn, body, f"Network {network.name}.")
    return Section("Predictions on the test set", blocks)


def _of_shards(results: Results, shards: ShardSet) -> ProtocolResult:
    """The results on a shard set; MissingInput if it was not evaluated."""
    for test_set in results.test_sets:
        if results.inputs[input_name(test_set.name)] == shards.digest:
            return test_set
    known = ", ".join(test_set.title for test_set in results.test_sets)
    raise MissingInput(f"test_set {shards.url}: is none of the test sets the results are of ({known}); give one of them")


def _lineage_section(results: Results | None, releases: list[Release]) -> Section:
    rows = [("results", name, digest) for name, digest in sorted(results.inputs.items())] if results else []
    for network in results.test_sets[0].networks if results else ():
        rows += [(f"network {network.name}", name, digest) for name, digest in sorted(network.lineage.items())]
    for release in releases:
        title = f"release {release.manifest.name} v{release.manifest.version}"
        rows += [(title, "itself", release.digest), (title, "plan", release.manifest.plan_digest)]
        rows += [(title, name, digest) for name, digest in sorted(release.manifest.lineage.items())]
    explained = Text("What everything above was made from, by sha256: equal digests, equal content.")
    return Section("Lineage", [explained, Table(("of", "made from", "sha256"), rows, left=3)])


def _release_caption(sample: Sample, rows: list[Row]) -> list[str]:
    scores = ", ".join(f"{row['score']:.2f}" for row in rows)
    unseen = len(sample.instances) - len(rows)
    return [sample.image_path, f"score {scores}" + (f"; {unseen} more persons have no pseudo-GT" if unseen else "")]


def _truth_of(url: str | None, body: Body):
    if url is None:
        return lambda instance: None
    store, name = split(url)
    table: pa.Table = read_truth(store.get(name), url)
    places = {person: i for i, person in enumerate(table["annotation_id"].to_pylist())}

    def truth(instance: Instance) -> Shape | None:
        if instance.annotation_id not in places:
            return None
        row = table.slice(places[instance.annotation_id], 1).to_pylist()[0]
        return Shape(mesh(body, np.asarray([row["pose"]], np.float32), np.asarray([row["betas"]], np.float32))[0], body.faces)

    return truth


def _sheets(store: Store, stem: str, drawn: list[Figure], body: Body, caption: str) -> Iterator[Picture]:
    for number, start in enumerate(range(0, len(drawn), _FIGURES_A_SHEET), start=1):
        data = encode_jpeg(contact_sheet(drawn[start : start + _FIGURES_A_SHEET], body.faces))
        yield _picture(store, f"{stem}-{number}.jpg", data, caption)


def _picture(store: Store, key: str, data: bytes, caption: str) -> Picture:
    _put(store, key, data)
    return Picture(key, caption)


def _put(store: Store, key: str, data: bytes) -> None:
    if store.exists(key):
        store.delete(key)
    store.create(key, data)
