"""What one reads results in, beside the main table: the paper's tables with our rows below theirs, sequence by sequence, joint by joint.

`tables/table<n>.csv` and `.tex` are the paper's; `tables/sequences.csv` and `tables/joints.csv` hold every figure. All of it is a view of
`results.json`, replaced whenever it is made again.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from engine.evaluation.grid import Grid
from engine.evaluation.mi17 import GROUPS
from engine.evaluation.paper_tables import PAPER_TABLES, TRAINING_SETS, Column, PaperTable, TableNumber
from engine.evaluation.protocols import PROTOCOLS
from engine.evaluation.results import Errors, JointErrors, NetworkResult, ProtocolResult, Results
from engine.evaluation.tables import MEASURES, figure
from engine.storage import Store


@dataclass(frozen=True)
class OurRow:
    """A network's row in the paper's tables: its label, and its training sets where a table names them."""

    label: str
    trained_on: str = ""


def show_views(results: Results, numbers: Sequence[TableNumber], rows: Mapping[str, OurRow], store: Store, console: Console) -> None:
    """Print the breakdown and those of the paper's tables for which the results have a column, and write all of it below `tables/`."""
    for name, text in (("sequences", sequences_csv(results)), ("joints", joints_csv(results))):
        _put(store, f"tables/{name}.csv", text)
    for grid in (*breakdown(results), *joint_grids(results)):
        console.print(grid.terminal())
    for number in numbers:
        grid = paper_grid(PAPER_TABLES[number], results, rows)
        if grid is not None:
            _put(store, f"tables/table{number}.csv", grid.csv())
            _put(store, f"tables/table{number}.tex", grid.latex())
            console.print(grid.terminal())
            console.print(paper_note(PAPER_TABLES[number], results), highlight=False, markup=False)


def paper_grid(table: PaperTable, results: Results, rows: Mapping[str, OurRow]) -> Grid | None:
    """A table of the paper with a row a network below its own; None if no network has a figure for any of its columns."""
    ours = []
    for network in results.test_sets[0].networks:
        values = [_value(column, results, network.name) for column in table.columns]
        row = rows.get(network.name, OurRow(network.name))
        labels = (row.label, *(row.trained_on if head == TRAINING_SETS else "" for head in table.heads[1:]))
        if any(value is not None for value in values):
            ours.append((*labels, *(_printed(v, c) for v, c in zip(values, table.columns, strict=True))))
    if not ours:
        return None
    theirs = [(*labels, *(_printed(v, c) for v, c in zip(values, table.columns, strict=True))) for labels, values in table.rows]
    columns = (*table.heads, *(column.title for column in table.columns))
    sources = ("paper", "this evaluation")
    return Grid(f"Table {table.number}. {table.caption}", columns, (theirs, ours), len(table.heads), sources, table.caption)


def paper_note(table: PaperTable, results: Results) -> str:
    """What the rows below the line were measured on."""
    used = {c.protocol: found for c in table.columns if (found := _of_protocol(results, c.protocol))}
    where = ", ".join(f"{found.title} (protocol {protocol})" for protocol, found in used.items())
    return f"Above the line: the paper. Below: this evaluation, on {where}, body {results.body!r}."


def breakdown(results: Results) -> Iterator[Grid]:
    """Sequence by sequence, a table a test set and network, worst PA-MPJPE first; where there is more than one sequence."""
    for test_set, network in _networks(results):
        worst_first = sorted(network.sequences.items(), key=lambda item: -item[1].pa_mpjpe_mm)
        shown = [(field, title) for field, title in MEASURES if getattr(network.errors, field) is not None]
        rows = [(name, str(e.persons), *(figure(getattr(e, field)) for field, _ in shown)) for name, e in worst_first]
        if len(rows) > 1:
            title = f"{network.name} on {test_set.title} ({test_set.protocol}), by sequence"
            yield Grid(title, ("sequence", "persons", *(title for _, title in shown)), (rows,))


def joint_grids(results: Results) -> Iterator[Grid]:
    """Joint by joint, a table a test set and network; with PCK also by the official groups of joints."""
    for test_set, network in _networks(results):
        with_pck = any(joint.pck_percent is not None for joint in network.joints.values())
        columns = ("joint", "MPJPE", "PA-MPJPE", *(("3DPCK",) if with_pck else ()))
        rows = [_joint_row(name, [joint], with_pck) for name, joint in _joints(test_set, network)]
        groups = (
            [_joint_row(part, [network.joints[name] for name in names], with_pck) for part, names in GROUPS.items()] if with_pck else []
        )
        yield Grid(f"{network.name} on {test_set.title} ({test_set.protocol}), by joint", columns, (rows, groups))


def sequences_csv(results: Results) -> str:
    """One line a test set, network and sequence, with every figure; empty where a protocol has none."""
    lines = [
        (test_set.name, test_set.protocol, network.name, sequence, *errors.model_dump().values())
        for test_set, network in _networks(results)
        for sequence, errors in sorted(network.sequences.items())
    ]
    return _csv(("test_set", "protocol", "network", "sequence", *Errors.model_fields), lines)


def joints_csv(results: Results) -> str:
    """One line a test set, network and joint."""
    lines = [
        (test_set.name, test_set.protocol, network.name, joint, *errors.model_dump().values())
        for test_set, network in _networks(results)
        for joint, errors in _joints(test_set, network)
    ]
    return _csv(("test_set", "protocol", "network", "joint", *JointErrors.model_fields), lines)


def _networks(results: Results) -> Iterator[tuple[ProtocolResult, NetworkResult]]:
    return ((test_set, network) for test_set in results.test_sets for network in test_set.networks)


def _joints(test_set: ProtocolResult, network: NetworkResult) -> list[tuple[str, JointErrors]]:
    """In the protocol's order, which JSON does not keep."""
    return [(name, network.joints[name]) for name in PROTOCOLS[test_set.protocol].joints]


def _of_protocol(results: Results, protocol: str) -> ProtocolResult | None:
    """The first test set that was scored so."""
    return next((test_set for test_set in results.test_sets if test_set.protocol == protocol), None)


def _value(column: Column, results: Results, network: str) -> float | None:
    test_set = _of_protocol(results, column.protocol)
    return None if test_set is None else next(getattr(n.errors, column.measure) for n in test_set.networks if n.name == network)


def _printed(value: float | None, column: Column) -> str:
    return figure(value, column.digits)


def _joint_row(name: str, joints: list[JointErrors], with_pck: bool) -> tuple[str, ...]:
    fields = ("mpjpe_mm", "pa_mpjpe_mm", *(("pck_percent",) if with_pck else ()))
    values = [[getattr(joint, field) for joint in joints] for field in fields]
    return name, *(figure(None if None in column else sum(column) / len(column)) for column in values)


def _csv(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return out.getvalue()


def _put(store: Store, key: str, text: str) -> None:
    if store.exists(key):
        store.delete(key)
    store.create(key, text.encode())
