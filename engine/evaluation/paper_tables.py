"""Tables 2, 3, 4, 5 and A of the paper as they are printed, each column with the protocol and the measure it is of.

Source: "Three Recipes for Better 3D Pseudo-GTs of 3D Human Mesh Estimation in the Wild", section 3 and supplement A. `_{f}` in a label is
the paper's subscript: the annotation network whose pseudo-GT supervises the sets in brackets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TableNumber = Literal[2, 3, 4, 5, "A"]
TRAINING_SETS = "Training sets of g"
"""A head of labels."""


@dataclass(frozen=True)
class Column:
    """A column of numbers: `measure` is a field of `Errors`, on a test set scored by `protocol`."""

    title: str
    protocol: str
    measure: str
    digits: int


@dataclass(frozen=True)
class PaperTable:
    """One table. Rows are their labels, one for each of `heads`, and their numbers, one for each of `columns`."""

    number: TableNumber
    caption: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[tuple[str, ...], tuple[float, ...]], ...]


def _pa(digits: int) -> Column:
    return Column("3DPW PA-MPJPE", "3dpw", "pa_mpjpe_mm", digits)


_ITW = "H36M+MI+[COCO]"
_SETS_OF_SPIN = "H36M+MI+[COCO+MPII+LSPET]"
_SETS_OF_I2L = "H36M+MuCo+[COCO]"
_SETS_OF_POSE2POSE = "H36M+[COCO+MPII]"
_SETS_OF_3DCROWDNET = "H36M+MuCo+CrowdPose+[COCO+MPII]"
_SETS_OF_METRO = "H36M+UP3D+MuCo+3DPW+MPII+[COCO]"

TABLE_2 = PaperTable(
    2,
    "Pose2Pose trained with different 3D pseudo-GTs of COCO (mm)",
    (TRAINING_SETS,),
    (_pa(2), Column("MuPoTS PA-MPJPE", "mupots", "pa_mpjpe_mm", 2)),
    (
        ((f"{_ITW}_{{SMPLify}}",), (64.76, 87.42)),
        ((f"{_ITW}_{{SMPLify-X}}",), (60.40, 81.64)),
        ((f"{_ITW}_{{SPIN}}",), (60.70, 80.24)),
        ((f"{_ITW}_{{EFT}}",), (55.15, 78.02)),
        ((f"{_ITW}_{{CLIFF}}",), (53.36, 75.59)),
        ((f"{_ITW}_{{NeuralAnnot}}",), (53.34, 76.98)),
        ((f"{_ITW}_{{Ours wo. first recipe}}",), (50.82, 75.63)),
        ((f"{_ITW}_{{Ours wo. second recipe}}",), (48.84, 75.72)),
        ((f"{_ITW}_{{Ours wo. third recipe}}",), (48.31, 75.70)),
        ((f"{_ITW}_{{Ours}}",), (47.52, 74.55)),
    ),
)

TABLE_3 = PaperTable(
    3,
    "Estimation networks g trained with different 3D pseudo-GTs of ITW datasets, on 3DPW (mm)",
    ("Estimation network g", TRAINING_SETS),
    (_pa(1), *(Column(axis, "3dpw", f"{axis}_mm", 1) for axis in "xyz")),
    (
        (("SPIN", f"{_SETS_OF_SPIN}_{{SMPLify}}"), (59.6, 21.6, 24.2, 40.8)),
        (("SPIN", f"{_SETS_OF_SPIN}_{{Ours}}"), (51.6, 19.0, 20.7, 35.4)),
        (("I2L-MeshNet", f"{_SETS_OF_I2L}_{{SMPLify-X}}"), (57.7, 20.6, 21.7, 40.8)),
        (("I2L-MeshNet", f"{_SETS_OF_I2L}_{{Ours}}"), (47.1, 17.1, 18.5, 32.6)),
        (("Pose2Pose", f"{_SETS_OF_POSE2POSE}_{{NeuralAnnot}}"), (54.4, 19.1, 20.3, 39.0)),
        (("Pose2Pose", f"{_SETS_OF_POSE2POSE}_{{Ours}}"), (49.6, 18.4, 18.8, 34.7)),
        (("3DCrowdNet", f"{_SETS_OF_3DCROWDNET}_{{NeuralAnnot}}"), (51.5, 17.6, 18.2, 36.3)),
        (("3DCrowdNet", f"{_SETS_OF_3DCROWDNET}_{{Ours}}"), (47.2, 16.8, 17.7, 33.5)),
        (("PARE", "[COCO]_{EFT}"), (57.3, 20.3, 20.3, 41.7)),
        (("PARE", "[COCO]_{Ours}"), (47.3, 17.5, 18.2, 32.9)),
        (("PyMAF", f"{_SETS_OF_SPIN}_{{SPIN}}"), (58.9, 21.0, 23.7, 41.8)),
        (("PyMAF", f"{_SETS_OF_SPIN}_{{Ours}}"), (50.9, 18.0, 20.8, 35.1)),
        (("METRO", f"{_SETS_OF_METRO}_{{SMPLify-X}}"), (47.9, 18.8, 18.5, 32.4)),
        (("METRO", f"{_SETS_OF_METRO}_{{Ours}}"), (45.8, 17.9, 17.2, 31.3)),
    ),
)

TABLE_4 = PaperTable(
    4,
    "3D human mesh estimation methods on 3DPW (mm); * is trained on 3DPW too",
    ("Estimation network g",),
    (_pa(1),),
    (
        (("SPIN",), (59.2,)),
        (("Pose2Mesh",), (58.9,)),
        (("PyMAF",), (58.9,)),
        (("I2L-MeshNet",), (57.7,)),
        (("Pose2Pose",), (54.4,)),
        (("ROMP",), (53.3,)),
        (("3DCrowdNet",), (51.5,)),
        (("PARE",), (49.3,)),
        (("HybrIK",), (48.8,)),
        (("Our 3DCrowdNet",), (46.1,)),
        (("METRO*",), (47.9,)),
        (("PARE*",), (46.4,)),
        (("MeshGraphormer*",), (45.6,)),
        (("Our 3DCrowdNet*",), (43.6,)),
    ),
)

TABLE_5 = PaperTable(
    5,
    "3D human mesh estimation methods on MuPoTS (3DPCK, %; higher is better)",
    ("Estimation network g",),
    (Column("All", "mupots", "pck_percent", 1), Column("Matched", "mupots", "pck_matched_percent", 1)),
    (
        (("SMPLify-X",), (62.8, 68.0)),
        (("HMR",), (66.0, 70.9)),
        (("Jiang et al.",), (69.1, 72.2)),
        (("3DCrowdNet",), (72.7, 73.3)),
        (("Our 3DCrowdNet",), (76.2, 76.9)),
    ),
)

TABLE_A = PaperTable(
    "A",
    "g trained with 3D pseudo-GTs of COCO of which f was trained with and without VPoser and the L2 regulariser (mm)",
    ("f", "VPoser", "L2 weight"),
    (_pa(2),),
    tuple(
        ((f"f{k}-{i}", vposer, weight), (value,))
        for k, vposer, values in (
            (1, "no", (65.98, 79.07, 64.25, 64.04, 64.67, 64.39)),
            (2, "yes", (56.57, 59.22, 51.61, 53.27, 55.06, 56.03)),
        )
        for i, (weight, value) in enumerate(zip(("0", "1e-1", "1e-2", "1e-3", "1e-4", "1e-5"), values, strict=True), start=1)
    ),
)

PAPER_TABLES: dict[TableNumber, PaperTable] = {table.number: table for table in (TABLE_2, TABLE_3, TABLE_4, TABLE_5, TABLE_A)}
