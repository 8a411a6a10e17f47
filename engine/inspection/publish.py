"""What an inspection leaves behind: report.json for machines, report.html and contact sheets for people. Made again, it replaces itself."""

from __future__ import annotations

import json

import numpy as np

from engine.inspection.config import InspectConfig
from engine.inspection.photographs import Photograph
from engine.inspection.record import InspectionReport
from engine.inspection.seen import name_hash
from engine.inspection.sheets import draw_sheets
from engine.inspection.tables import sections, summary, title
from engine.report.html import Picture, Section, Table, Text, page
from engine.report.overlay import encode_jpeg
from engine.storage import Store

_TITLES = {
    "even": "Photographs spread evenly over the set.",
    "random": "Photographs drawn at random.",
    "largest": "The photographs with the largest boxes.",
    "smallest": "The photographs with the smallest boxes.",
    "crowded": "The photographs with most persons.",
    "worst": "The photographs with most kinds of contradictions, then with the largest reprojection error.",
}


def publish(
    config: InspectConfig, report: InspectionReport, drawn: list[Photograph], persons_of: tuple[np.ndarray, np.ndarray]
) -> InspectionReport:
    """Write everything to `config.out`; the report, with notes on what could not be drawn. `persons_of`: see Persons.persons_of."""
    store = Store(str(config.out))
    store.clear("sheets")
    pictures: list[Picture | Text | Table] = []
    notes: list[str] = []
    if drawn:
        names, counts = persons_of

        def total(photograph: Photograph) -> int:
            return int(counts[np.searchsorted(names, np.uint64(name_hash(photograph.key, photograph.image_path)))])

        for number, sheet in enumerate(draw_sheets(drawn, config, total, notes), start=1):
            path = f"sheets/{config.sheet.choose}-{number}.jpg"
            _put(store, path, encode_jpeg(sheet, 92))
            pictures.append(Picture(path, _TITLES[config.sheet.choose]))
    report = report.model_copy(update={"notes": report.notes + tuple(notes)})
    parts = [Section("Photographs", pictures)] if pictures else []
    blocks: list[Table | Picture | Text] = [Text(f"note: {note}") for note in report.notes]
    files = [(name, f"{size / 1e6:.1f} MB") for name, size in report.annotation_files.items()]
    blocks += [Table(("annotation file", "size"), files)] if files else []
    all_parts = [*sections(report), *parts, Section("Of this report", blocks)] if blocks else [*sections(report), *parts]
    _put(store, "report.html", page(title(report), f"{summary(report)} {report.place}", all_parts).encode())
    _put(store, "report.json", json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False).encode())
    return report


def _put(store: Store, key: str, data: bytes) -> None:
    if store.exists(key):
        store.delete(key)
    store.create(key, data)
