"""The printed numbers agree among themselves and with the page that tells how to reproduce them."""

import re
from pathlib import Path

from engine.evaluation.paper_tables import PAPER_TABLES, TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_A
from engine.evaluation.protocols import PROTOCOLS
from engine.evaluation.results import Errors

PAGE = Path(__file__).resolve().parents[3] / "docs" / "REPRODUCE.md"


def test_every_row_has_a_label_a_head_and_a_number_a_column():
    for table in PAPER_TABLES.values():
        assert all(len(labels) == len(table.heads) and len(values) == len(table.columns) for labels, values in table.rows)
        assert len({labels for labels, _ in table.rows}) == len(table.rows)
        assert all(column.protocol in PROTOCOLS and column.measure in Errors.model_fields for column in table.columns)
        assert all(round(v, c.digits) == v for _, values in table.rows for v, c in zip(values, table.columns, strict=True))
    assert [len(t.rows) for t in (TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_A)] == [10, 14, 14, 5, 12]


def test_the_same_network_has_the_same_number_in_two_tables():
    of_3 = {labels[0]: values[0] for labels, values in TABLE_3.rows if "Ours" not in labels[1]}
    of_4 = {labels[0].rstrip("*"): values[0] for labels, values in TABLE_4.rows}
    for name in ("PyMAF", "I2L-MeshNet", "Pose2Pose", "3DCrowdNet", "METRO"):
        assert of_3[name] == of_4[name]


def test_x_y_and_z_are_parts_that_a_mean_distance_allows():
    for _, (total, *axes) in TABLE_3.rows:
        assert max(axes) < total < sum(axes)


def test_the_numbers_are_those_of_the_page():
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith(("| Table 2", "| Table A"))]
    expected = {float(cells[4]): float(cells[5]) if cells[5].strip() else None for cells in rows}
    table_2 = dict(values for _, values in TABLE_2.rows)
    printed = table_2 | {value: None for _, (value,) in TABLE_A.rows}
    assert len(expected) == 7 and all(printed[mm] == other for mm, other in expected.items())
    others = re.search(r"others' pseudo-GT \((.*?) on 3DPW\)", " ".join(PAGE.read_text().split()))[1]
    assert [float(n) for n in re.findall(r"\d\d\.\d\d", others)] == [values[0] for _, values in TABLE_2.rows[:6]]
