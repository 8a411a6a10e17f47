"""The worst predictions of an evaluation, person by person: `worst/<test set>/<network>/NN_<key>.jpg`, a page and an index of them.

They are a view of the results: drawn again only if other persons, or more of them, are asked for. The index is written last.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from rich.console import Console

from engine.body.smpl import Body, load_body
from engine.evaluation.results import NetworkResult, ProtocolResult, Results
from engine.evaluation.run import EvaluateConfig, read_predictions
from engine.report.html import Picture, Section, Text, page
from engine.report.overlay import HOW_TO_READ, TRUTH_IS_GREY, contact_sheet, encode_jpeg
from engine.report.pictures import Row, person_figures, true_shape, worst_rows
from engine.shards.reader import ShardSet, open_shard_set
from engine.storage import Store
from schemas.sample import Sample

INDEX_KEY = "worst/index.csv"
_TILE_PX = 360

Drawn = tuple[ProtocolResult, NetworkResult, list[Row]]


def draw_worst(config: EvaluateConfig, results: Results, console: Console | None = None) -> None:
    """Draw the `config.worst` persons of highest PA-MPJPE of each network on each test set; none if it is 0."""
    console, store = console or Console(), Store(config.out)
    if not config.worst:
        return
    drawn = [
        (t, n, worst_rows(read_predictions(config.out, n), "pa_mpjpe_mm", config.worst)) for t in results.test_sets for n in t.networks
    ]
    index = _index(drawn)
    if store.exists(INDEX_KEY) and store.get(INDEX_KEY) == index:
        return
    for key in sorted(store.list("worst"), key=lambda key: key != INDEX_KEY):
        store.delete(key)
    body = load_body(config.body)
    shards = {t.title: open_shard_set(t.url) for t in config.test_sets}
    console.print(f"drawing the {config.worst} worst predictions of each network", highlight=False, markup=False)
    sections = [_section(test_set, network, rows, shards[test_set.name], body, store) for test_set, network, rows in drawn]
    store.create("worst/index.html", page("The worst predictions", HOW_TO_READ + TRUTH_IS_GREY, sections).encode())
    store.create(INDEX_KEY, index)
    console.print(f"worst predictions: {config.out}/worst/index.html", highlight=False, markup=False, soft_wrap=True)


def _section(test_set: ProtocolResult, network: NetworkResult, rows: list[Row], shards: ShardSet, body: Body, store: Store) -> Section:
    blocks: list[Text | Picture] = []

    def caption(sample: Sample, mine: list[Row]) -> list[str]:
        (row,) = mine
        return [f"{network.name} on {test_set.title}: {sample.image_path}", _said(row)]

    figures = person_figures(rows, shards, body, caption, lambda instance: true_shape(instance, body))
    for key, figure in zip(_keys(test_set, network, rows), figures, strict=True):
        store.create(key, encode_jpeg(contact_sheet([figure], body.faces, columns=1, tile=_TILE_PX)))
        blocks.append(Picture(key.removeprefix("worst/"), figure.caption[-1]))
    return Section(f"{network.name} on {test_set.title}, by {test_set.protocol}", blocks)


def _index(drawn: list[Drawn]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("test_set", "network", "rank", "picture", "key", "annotation_id", "pa_mpjpe_mm", "mpjpe_mm"))
    for test_set, network, rows in drawn:
        for rank, (key, row) in enumerate(zip(_keys(test_set, network, rows), rows, strict=True), start=1):
            errors = (f"{row[name]:.2f}" for name in ("pa_mpjpe_mm", "mpjpe_mm"))
            writer.writerow((test_set.name, network.name, rank, key, row["key"], row["annotation_id"], *errors))
    return out.getvalue().encode()


def _keys(test_set: ProtocolResult, network: NetworkResult, rows: list[Row]) -> Iterator[str]:
    return (f"worst/{test_set.name}/{network.name}/{rank:02d}_{row['key']}.jpg" for rank, row in enumerate(rows, start=1))


def _said(row: Row) -> str:
    return f"person {row['annotation_id']}: PA-MPJPE {row['pa_mpjpe_mm']:.0f} mm, MPJPE {row['mpjpe_mm']:.0f} mm"
