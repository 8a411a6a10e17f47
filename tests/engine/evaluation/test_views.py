"""Our rows below the paper's: which, from which test set, with which label; every figure in the CSV files."""

import csv
import io

import pytest
from rich.console import Console

from engine.evaluation.paper_tables import TABLE_2, TABLE_3, TABLE_5, TABLE_A
from engine.evaluation.protocols import PROTOCOLS
from engine.evaluation.results import Errors, JointErrors, NetworkResult, ProtocolResult, Results
from engine.evaluation.views import OurRow, breakdown, joint_grids, paper_grid, paper_note, show_views
from engine.storage import Store

DIGEST = "0" * 64


def network(name: str, protocol: str, value: float) -> NetworkResult:
    pck = {"pck_percent": value, "auc_percent": value / 2, "pck_matched_percent": value + 1} if protocol == "mupots" else {}
    errors = Errors(persons=5, mpjpe_mm=2 * value, pa_mpjpe_mm=value, x_mm=value / 4, y_mm=value / 3, z_mm=value / 2, **pck)
    joints = {n: JointErrors(mpjpe_mm=value, pa_mpjpe_mm=1, pck_percent=pck.get("pck_percent")) for n in PROTOCOLS[protocol].joints}
    sequences = {"TS1": errors, "TS2": errors.model_copy(update={"pa_mpjpe_mm": value + 5})}
    return NetworkResult(
        name=name, network_digest=DIGEST, lineage={}, errors=errors, sequences=sequences, joints=joints, left_out={}, predictions_path="p",
        predictions_sha256=DIGEST,
    )  # fmt: skip


def results(*protocols: str) -> Results:
    sets = [
        ProtocolResult(name=p, title=f"{p}/test", protocol=p, details="d", networks=(network("f", p, 60.5), network("g", p, 50.25)))
        for p in protocols
    ]
    return Results(body="open", inputs={}, test_sets=tuple(sets))


def test_our_rows_stand_below_the_papers_and_take_each_column_from_its_protocol():
    grid = paper_grid(TABLE_2, results("mupots", "3dpw"), {"g": OurRow("[COCO]_{mine}")})
    theirs, ours = grid.blocks
    assert theirs[0] == ("H36M+MI+[COCO]_{SMPLify}", "64.76", "87.42") and len(theirs) == 10
    assert ours == [("f", "60.50", "60.50"), ("[COCO]_{mine}", "50.25", "50.25")]
    half = paper_grid(TABLE_2, results("3dpw"), {})
    assert half.blocks[1] == [("f", "60.50", "-"), ("g", "50.25", "-")]
    with_sets = paper_grid(TABLE_3, results("3dpw"), {"f": OurRow("f", "H36M+[COCO]")})
    assert with_sets.blocks[1][0] == ("f", "H36M+[COCO]", "60.5", "15.1", "20.2", "30.2") and with_sets.blocks[1][1][1] == ""
    assert paper_grid(TABLE_A, results("3dpw"), {"f": OurRow("f", "H36M+[COCO]")}).blocks[1][0] == ("f", "", "", "60.50")
    matched = paper_grid(TABLE_5, results("mupots"), {})
    assert matched.blocks[1][0] == ("f", "60.5", "61.5")


def test_a_table_without_a_column_of_ours_is_not_shown():
    assert paper_grid(TABLE_5, results("3dpw"), {}) is None
    assert paper_note(TABLE_2, results("3dpw")).endswith("this evaluation, on 3dpw/test (protocol 3dpw), body 'open'.")


@pytest.mark.parametrize("again", [1, 2])
def test_files_are_written_and_replaced(tmp_path, again):
    out, store = io.StringIO(), Store(str(tmp_path))
    for _ in range(again):
        show_views(results("3dpw", "mupots"), (2, 4, "A"), {"f": OurRow("mine & yours")}, store, Console(file=out, width=140))
    names = {"joints.csv", "sequences.csv"} | {f"table{n}.{kind}" for n in (2, 4, "A") for kind in ("csv", "tex")}
    assert {key.removeprefix("tables/") for key in store.list("tables")} == names
    rows = list(csv.DictReader(io.StringIO(store.get("tables/table2.csv").decode())))
    assert rows[-2] == {
        "Training sets of g": "mine & yours",
        "3DPW PA-MPJPE": "60.50",
        "MuPoTS PA-MPJPE": "60.50",
        "source": "this evaluation",
    }
    assert r"mine \& yours & 60.50 & 60.50 \\" in store.get("tables/table2.tex").decode()
    sequences = list(csv.DictReader(io.StringIO(store.get("tables/sequences.csv").decode())))
    assert len(sequences) == 8 and sequences[1]["pa_mpjpe_mm"] == "65.5" and sequences[0]["pck_percent"] == ""
    joints = list(csv.DictReader(io.StringIO(store.get("tables/joints.csv").decode())))
    assert len(joints) == 4 * 14 and [r["joint"] for r in joints[28:42]] == list(PROTOCOLS["mupots"].joints)
    text = out.getvalue()
    assert "H36M+MI+[COCO]_EFT" in text and "Table A" in text and "Below: this evaluation" in text


def test_breakdowns_put_the_worst_sequence_first_and_groups_below_joints():
    found = results("3dpw", "mupots")
    grids = list(breakdown(found))
    assert [g.blocks[0][0][0] for g in grids] == ["TS2"] * 4 and "3DPCK matched" in grids[2].columns and "3DPCK" not in grids[0].columns
    of_3dpw, _, of_mupots, _ = joint_grids(found)
    assert of_3dpw.columns == ("joint", "MPJPE", "PA-MPJPE") and not of_3dpw.blocks[1]
    assert [row[0] for row in of_mupots.blocks[1]] == ["Head", "Neck", "Shoulder", "Elbow", "Wrist", "Hip", "Knee", "Ankle"]
