"""An inspection as tables: the same for the terminal, for a plain log of 140 columns and for report.html."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text as RichText

from engine.inspection.record import InspectionReport, JointFigures, Spread
from engine.report.html import Section, Table, Text

_PLAIN_WIDTH = 140
_SHOWN = 3
_STYLES = {"wrong": "bold red", "suspect": "yellow", "note": "dim"}


def sections(report: InspectionReport) -> list[Section]:
    """Everything a report says, in the order of interest."""
    return [
        Section("Contradictions", _contradictions(report)),
        Section("What it holds", _holdings(report)),
        Section("Joints", [_joints(figures) for figures in report.persons.joints]),
        Section("Figures", _figures(report)),
        Section("Known errors of the published files", _known(report)),
    ]


def summary(report: InspectionReport) -> str:
    """One sentence of what was inspected."""
    images, persons = report.images, report.persons
    left_out = sum(persons.skipped.values())
    parts = [f"{_many(persons.persons, 'person')} on {_many(images.images, 'image')}"]
    parts += [f"{_many(left_out, 'person')} left out"] if left_out else []
    parts += [_many(sum(persons.unreadable.values()), "unreadable part")] if persons.unreadable else []
    wrong = sum(finding.level == "wrong" for finding in report.findings)
    return "; ".join([*parts, f"{_many(wrong, 'kind')} of errors" if wrong else "no error found"]) + "."


def title(report: InspectionReport) -> str:
    """What was inspected, and where it lies."""
    return f"{report.dataset}/{report.split} ({'raw dataset' if report.kind == 'raw' else 'shard set'}, {report.supervision})"


def print_report(report: InspectionReport, console: Console) -> None:
    """All tables on the terminal; in a log file at a fixed width."""
    if not console.is_terminal:
        console.width = max(console.width, _PLAIN_WIDTH)
    console.print(f"{title(report)}: {report.place}", style="bold", highlight=False, markup=False, soft_wrap=True)
    console.print(summary(report), highlight=False, markup=False)
    for section in sections(report):
        console.print(f"\n{section.title}", style="bold", highlight=False, markup=False)
        for block in section.blocks:
            if isinstance(block, Text):
                console.print(block.text, highlight=False, markup=False)
            elif isinstance(block, Table) and block.fold is None:
                console.print(_rich(block))
    for note in report.notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _rich(table: Table) -> RichTable:
    rich = RichTable()
    for number, column in enumerate(table.columns):
        rich.add_column(column, justify="left" if number < table.left else "right", overflow="fold")
    for row in table.rows:
        rich.add_row(*(RichText(cell, style=_STYLES.get(row[0], "") if i == 0 else "") for i, cell in enumerate(row)))
    return rich


def _contradictions(report: InspectionReport) -> list[Table | Text]:
    if not report.findings:
        return [Text("Nothing missing, nothing contradictory.")]
    totals = {"images": report.images.images, "persons": report.persons.persons}
    rows = []
    for f in report.findings:
        share = f" ({_percent(f.count, totals[f.of])})" if f.of in totals else ""
        shown = "; ".join(_example(e.key, e.annotation_id, e.message) for e in f.examples[:_SHOWN])
        rows.append((f.level, f.name, f"{_many(f.count, f.of.removesuffix('s'))}{share}", f.meaning, shown))
    every = [(f.name, e.key, e.annotation_id or "", e.message) for f in report.findings for e in f.examples]
    return [
        Table(("", "what", "how many", "meaning", "for instance"), rows, left=5, whole_words=3),
        Table(("what", "key", "annotation id", ""), every, left=4, fold="The first examples of each"),
    ]


def _holdings(report: InspectionReport) -> list[Table | Text]:
    images, persons = report.images, report.persons
    rows = [("images", str(images.images), ""), ("images examined", str(images.examined), "")]
    rows += [(f"format {name}", str(n), _percent(n, images.examined)) for name, n in images.formats.items()]
    rows += [("frames of videos", str(images.videos), _percent(images.videos, images.examined))] if images.videos else []
    rows += [(f"EXIF orientation {tag}", str(n), _percent(n, images.examined)) for tag, n in images.orientations.items()]
    found = persons.persons + sum(persons.skipped.values()) + persons.unreadable_persons
    rows += [("persons kept", str(persons.persons), _percent(persons.persons, found))]
    rows += [(f"left out: {reason}", str(n), _percent(n, found)) for reason, n in persons.skipped.items()]
    rows += [(f"unreadable parts: {reason}", str(n), "") for reason, n in persons.unreadable.items()]
    rows += [(f"with {what}", str(n), _percent(n, persons.persons)) for what, n in persons.supervision.items()]
    rows += [(f"gender {gender}", str(n), _percent(n, persons.persons)) for gender, n in persons.genders.items()]
    rows += [("boxes below 64 px", str(persons.small_boxes), _percent(persons.small_boxes, persons.persons))]
    rows += [(f"images with {n} person{'' if n == '1' else 's'}", str(k), _percent(k, images.images)) for n, k in persons.an_image.items()]
    tables: list[Table | Text] = [Table(("", "count", "share"), rows)]
    if persons.sides:
        sides = [(name, str(side.agree), str(side.of), _percent(side.agree, side.of)) for name, side in persons.sides.items()]
        tables.append(Table(("left and right", "agree", "of", "share"), sides))
    return tables


def _joints(figures: JointFigures) -> Table:
    """A row a joint name, left and right side by side."""
    rows: dict[str, dict[str, int]] = {}
    for joint, count in figures.valid.items():
        side, name = (joint[0], joint[2:]) if joint[:2] in ("L_", "R_") else ("", joint)
        rows.setdefault(name, {})[side] = count
    shown = [
        (name, *(f"{_percent(sides[s], figures.persons)}  {sides[s]:9d}" if s in sides else "" for s in ("L", "R", "")))
        for name, sides in rows.items()
    ]
    return Table((f"valid in {figures.skeleton}, {_many(figures.persons, 'person')}", "left", "right", "middle"), shown)


def _figures(report: InspectionReport) -> list[Table | Text]:
    images, persons, space = report.images, report.persons, report.persons.space
    spreads: list[tuple[str, Spread | None, float]] = [
        ("image width, px", images.widths, 1),
        ("image height, px", images.heights, 1),
        ("image file, kB", images.file_bytes, 1e-3),
        ("box height, px", persons.box_heights_px, 1),
        ("box width, px", persons.box_widths_px, 1),
    ]
    if space is not None:
        spreads += [
            ("3D joints projected on 2D joints, px", space.reprojection_px, 1),
            ("depth, m", space.depth_m, 1),
            ("thigh, m", space.thigh_m, 1),
            ("left against right bones, %", space.unevenness, 100),
        ]
    columns = ("", "count", "least", "1 %", "5 %", "25 %", "median", "75 %", "95 %", "99 %", "largest")
    rows = [(name, *_spread(spread, unit)) for name, spread, unit in spreads if spread is not None]
    tables: list[Table | Text] = [Table(columns, rows)]
    if images.sizes and images.sizes[0].images > 1:
        sizes = [
            (f"{size.width}x{size.height}", str(size.images), _percent(size.images, images.images))
            for size in images.sizes
            if size.images > 1
        ]
        tables.append(Table((f"commonest of {images.distinct_sizes} image sizes", "images", "share"), sizes))
    if space is not None and space.worst and space.worst[0].error_px > 1:
        worst = [(w.key, w.annotation_id, f"{w.error_px:.1f}") for w in space.worst]
        tables.append(Table(("3D farthest from 2D", "annotation id", "px"), worst, left=2))
    return tables


def _known(report: InspectionReport) -> list[Table | Text]:
    if not report.known_errors:
        return [Text("None is known to the loader.")]
    return [Table(("error", "what is wrong, and what is done about it"), list(report.known_errors.items()), left=2)]


def _spread(spread: Spread, unit: float) -> tuple[str, ...]:
    values = (spread.least, spread.p01, spread.p05, spread.p25, spread.median, spread.p75, spread.p95, spread.p99, spread.largest)
    return (str(spread.count), *(_number(value * unit) for value in values))


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _percent(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} %" if of else ""


def _example(key: str, annotation_id: str | None, message: str) -> str:
    who = key if annotation_id is None else f"{key} {annotation_id}".strip()
    return ": ".join(part for part in (who, message) if part)
