"""One evaluation: networks on test sets, the baseline they have to beat, a release against its truth -> results.json.

`results.json` is written last, so a folder without it holds nothing finished. Submitted again with the same inputs it is
read, not computed; with other inputs it is refused, because results that are quoted somewhere must not change. Tables are a view of the
results, written again each time.
"""

from __future__ import annotations

import io
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, field_validator
from rich.console import Console

from engine.annotators.network import NetworkAnnotator
from engine.body.smpl import Body, BodyConfig, load_body
from engine.config import Config
from engine.errors import CheckpointMismatch, CommitConflict, StorageError
from engine.evaluation.mean_pose import MeanPerson, evaluate_mean_person, mean_person
from engine.evaluation.paper_tables import TableNumber
from engine.evaluation.predict import Evaluation, evaluate_annotator
from engine.evaluation.protocol import Protocol
from engine.evaluation.protocols import PROTOCOLS, ProtocolName
from engine.evaluation.pseudo_gt import evaluate_release, read_truth
from engine.evaluation.results import NetworkResult, ProtocolResult, Results
from engine.evaluation.tables import print_results
from engine.evaluation.views import OurRow, show_views
from engine.loading.decode import Decoder
from engine.releases.store import open_release
from engine.shards.reader import ShardSet, open_shard_set
from engine.storage import Store, split
from schemas.records import canonical_json, sha256_hex

RESULTS_KEY = "results.json"
_PROTOCOL_VERSION = 2


_NAME = r"^[A-Za-z0-9_\-]{1,60}$"


class NamedNetwork(Config):
    """A network to evaluate."""

    name: str = Field(pattern=_NAME, description="what the results call it")
    checkpoint: str = Field(description="URL of a run directory (its LATEST) or of one checkpoint")
    row: str | None = Field(None, description="its row's label in the paper's tables; null: its name")
    trained_on: str = Field("", description="its training sets, for the tables of the paper that have a column for them")


class NamedTestSet(Config):
    """A test set and the protocol its persons are scored by."""

    url: str = Field(description="URL of the test shard set; its persons need the truth that the protocol scores")
    protocol: ProtocolName = Field("3dpw", description="protocol, as docs/EVALUATION.md defines it")
    name: str | None = Field(None, pattern=_NAME, description="what the results call it; null: as the protocol")

    @property
    def title(self) -> str:
        return self.name or self.protocol


class ReleaseTruth(Config):
    """A release, and the truth of the world its images are from."""

    root: str = Field(description="URL of the release store")
    name: str = Field(description="release name")
    version: int | None = Field(None, description="release version; null: HEAD")
    truth: str = Field(description="URL of the truth: Parquet with annotation_id, pose (72, rad), betas (10)")


class EvaluateConfig(Config):
    """What to evaluate, on what, and where the results go."""

    out: str = Field(description="URL of the folder for results.json, predictions/, tables/ and worst/")
    networks: tuple[NamedNetwork, ...] = Field(
        description="networks to evaluate, each {name, checkpoint, row, trained_on}; the last two label its rows in the paper's tables"
    )
    test_sets: tuple[NamedTestSet, ...] = Field(
        min_length=1, description="test sets, each {url, protocol, name}; protocols: 3dpw, mupots, human36m-p2, 3dhp"
    )
    mean_pose_from: tuple[str, ...] = Field((), description="URLs of training shard sets whose mean is the baseline; empty: no baseline")
    mean_pose_persons: int = Field(20_000, ge=1, description="at most about this many training persons are averaged")
    release: ReleaseTruth | None = Field(None, description="a release to compare with its truth; null: none")
    tables: tuple[TableNumber, ...] = Field((2, 3, 4, 5), description="tables of the paper to show with our rows: 2, 3, 4, 5 or A")
    worst: int = Field(20, ge=0, description="worst predictions of each network on each test set that jobs/evaluate.py draws")
    body: BodyConfig = Field(default=BodyConfig(), description="body of the test set's truth, with its genders, and of the networks")
    batch_size: int = Field(64, ge=1, description="persons a batch")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the networks run; auto: CUDA where there is one")
    decode_threads: int = Field(1, ge=1, description="threads that decode images")

    @field_validator("networks")
    @classmethod
    def _networks_differ(cls, networks: tuple[NamedNetwork, ...]) -> tuple[NamedNetwork, ...]:
        return _named_apart(networks, [n.name for n in networks], "networks")

    @field_validator("test_sets")
    @classmethod
    def _test_sets_differ(cls, test_sets: tuple[NamedTestSet, ...]) -> tuple[NamedTestSet, ...]:
        return _named_apart(test_sets, [t.title for t in test_sets], "test sets")


def evaluate(config: EvaluateConfig, console: Console | None = None) -> Results:
    """Evaluate everything, write `results.json`, `predictions/<test set>/<network>.parquet` and `tables/` below `out`, print the tables.

    Raises CommitConflict if `out` holds the results of other inputs, and what opening the inputs raises.
    """
    console, store, body = console or Console(), Store(config.out), load_body(config.body)
    test_sets = {t.title: open_shard_set(t.url) for t in config.test_sets}
    training_sets = [open_shard_set(url) for url in config.mean_pose_from]
    networks = {n.name: _load(n, config.device, body) for n in config.networks}
    release = open_release(config.release.root, config.release.name, config.release.version) if config.release else None
    truth_bytes = _read(config.release.truth) if config.release else b""

    inputs = {"body": body.digest, "settings": _settings_digest(config)}
    inputs |= {input_name(name): shards.digest for name, shards in test_sets.items()}
    inputs |= {f"network {name}": annotator.digest for name, annotator in networks.items()}
    inputs |= {f"training set {_title(s)}": s.digest for s in training_sets}
    if release:
        inputs |= {"release": release.digest, "truth": sha256_hex(truth_bytes)}

    if store.exists(RESULTS_KEY):
        results = _same_inputs(read_results(config.out), inputs, config.out)
        console.print(f"{config.out}: these inputs were evaluated before; nothing to do", highlight=False, markup=False)
    else:
        mean = mean_person(training_sets, body, config.mean_pose_persons) if training_sets else None
        found = [_evaluate_set(config, t, test_sets[t.title], networks, mean, body, store, console) for t in config.test_sets]
        pseudo_gt = evaluate_release(release, read_truth(truth_bytes, config.release.truth), body) if release else None
        results = Results(body=body.name, inputs=inputs, test_sets=tuple(found), pseudo_gt=pseudo_gt)
        store.create(RESULTS_KEY, results.to_bytes())
    print_results(results, console)
    show_views(results, config.tables, {n.name: OurRow(n.row or n.name, n.trained_on) for n in config.networks}, store, console)
    return results


def input_name(test_set: str) -> str:
    """The name among a result's inputs of the test set that the config calls so."""
    return f"test set {test_set}"


def read_results(out: str) -> Results:
    """The results in a folder. MissingInput if there are none, StorageError if they cannot be read."""
    try:
        return Results.from_bytes(Store(out).get(RESULTS_KEY))
    except ValueError as error:
        raise StorageError(f"{out}/{RESULTS_KEY}: not results of this version: {error}; evaluate into another folder") from None


def read_predictions(out: str, network: NetworkResult) -> pa.Table:
    """The predictions of one network (PREDICTIONS_SCHEMA), checked against their digest."""
    return pq.read_table(io.BytesIO(Store(out).get_checked(network.predictions_path, network.predictions_sha256)))


def _load(network: NamedNetwork, device: str, body: Body) -> NetworkAnnotator:
    annotator = NetworkAnnotator.from_checkpoint(network.checkpoint, device)
    if annotator.body.digest != body.digest:
        raise CheckpointMismatch(
            f"network {network.name} ({network.checkpoint}): trained with body {annotator.body.name!r} {annotator.body.digest[:12]}, "
            f"but the truth is of body {body.name!r} {body.digest[:12]}; set `body` to the one it was trained with"
        )
    return annotator


def _evaluate_set(
    config: EvaluateConfig,
    test_set: NamedTestSet,
    shards: ShardSet,
    networks: dict[str, NetworkAnnotator],
    mean: MeanPerson | None,
    body: Body,
    store: Store,
    console: Console,
) -> ProtocolResult:
    protocol, decoder, found = PROTOCOLS[test_set.protocol], Decoder(threads=config.decode_threads), []
    for name, annotator in networks.items():
        console.print(f"{name}: predicting {shards.manifest.instances} persons of {_title(shards)}", highlight=False, markup=False)
        evaluation = evaluate_annotator(annotator, shards, protocol, body, decoder, config.batch_size)
        key = f"predictions/{test_set.title}/{name}.parquet"
        found.append(_network_result(name, annotator, evaluation, protocol, store, key))
    return ProtocolResult(
        name=test_set.title,
        title=_title(shards),
        protocol=protocol.name,
        details=protocol.details,
        networks=tuple(found),
        baseline=evaluate_mean_person(mean, shards, protocol, body) if mean else None,
    )


def _network_result(
    name: str, annotator: NetworkAnnotator, evaluation: Evaluation, protocol: Protocol, store: Store, key: str
) -> NetworkResult:
    buffer = io.BytesIO()
    pq.write_table(evaluation.predictions, buffer, compression="zstd")
    data = buffer.getvalue()
    if store.exists(key):
        store.delete(key)  # of a run that was interrupted before its results.json
    store.create(key, data)
    everybody, sequences = evaluation.errors, evaluation.sequences
    errors, joints = protocol.overall(everybody, sequences)
    return NetworkResult(
        name=name,
        network_digest=annotator.digest,
        lineage=dict(annotator.lineage),
        errors=errors,
        sequences={str(s): everybody.summary(sequences == s) for s in sorted(set(sequences[everybody.predicted_N]))},
        joints=joints,
        left_out=evaluation.left_out,
        predictions_path=key,
        predictions_sha256=sha256_hex(data),
    )


def _same_inputs(found: Results, inputs: dict[str, str], out: str) -> Results:
    differing = sorted(k for k in found.inputs.keys() | inputs.keys() if found.inputs.get(k) != inputs.get(k))
    if differing:
        what = ", ".join(differing)
        raise CommitConflict(f"{out}/{RESULTS_KEY}: holds results of other inputs (these differ: {what}); evaluate into another folder")
    return found


def _settings_digest(config: EvaluateConfig) -> str:
    protocols = {t.title: t.protocol for t in config.test_sets}
    return sha256_hex(
        canonical_json({"protocol": _PROTOCOL_VERSION, "protocols": protocols, "mean_pose_persons": config.mean_pose_persons})
    )


def _named_apart(items: tuple, names: list[str], what: str) -> tuple:
    if len(set(names)) < len(names):
        raise ValueError(f"two {what} have one name: {sorted(names)}")
    return items


def _title(shards: ShardSet) -> str:
    return f"{shards.manifest.dataset}/{shards.manifest.split}"


def _read(url: str) -> bytes:
    store, name = split(url)
    return store.get(name)
