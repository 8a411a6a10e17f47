"""The report's page: headings, prose, tables and pictures as one HTML file that needs nothing from elsewhere but its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Table:
    """Text cells; every column but the first `left` ones is set flush right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    highlight: frozenset[int] = frozenset()
    """Rows to set apart."""
    whole_words: int = 0
    """The first columns in which no word is broken, whatever room it takes."""
    fold: str | None = None
    """Title of a fold that hides the table until it is opened; None shows it."""

    def html(self) -> str:
        head = "".join(f"<th{_flush(i, self.left)}>{escape(c)}</th>" for i, c in enumerate(self.columns))
        body = []
        for number, row in enumerate(self.rows):
            cells = "".join(f"<td{_flush(i, self.left, self.whole_words)}>{escape(c)}</td>" for i, c in enumerate(row))
            body.append(f"<tr{' class=apart' if number in self.highlight else ''}>{cells}</tr>")
        table = f"<div class=scroll><table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
        return table if self.fold is None else f"<details><summary>{escape(self.fold)}</summary>{table}</details>"


@dataclass(frozen=True)
class Picture:
    """A picture beside the page, and above it what it shows: sheets are longer than a screen."""

    path: str
    caption: str

    def html(self) -> str:
        path, caption = escape(self.path, quote=True), escape(self.caption, quote=True)
        image = f'<a href="{path}"><img src="{path}" alt="{caption}" loading="lazy"></a>'
        return f"<figure><figcaption>{caption}</figcaption>{image}</figure>"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def html(self) -> str:
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: list[Table | Picture | Text] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.title.lower()).strip("-")

    def html(self) -> str:
        return f'<section id="{self.anchor}"><h2>{escape(self.title)}</h2>{"".join(block.html() for block in self.blocks)}</section>'


def page(title: str, summary: str, sections: Sequence[Section]) -> str:
    """The whole document, UTF-8. All text is escaped."""
    links = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_CSS}</style></head><body><header><h1>{escape(title)}</h1><p>{escape(summary)}</p>"
        f"<nav>{links}</nav></header><main>{''.join(s.html() for s in sections)}</main></body></html>\n"
    )


def _flush(column: int, left: int, whole_words: int = 0) -> str:
    return " class=number" if column >= left else " class=whole" if column < whole_words else ""


_CSS = """
:root { color-scheme: light; --ink: #1f2937; --quiet: #6b7280; --line: #e5e7eb; --accent: #2563eb; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
header, main { max-width: 1240px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { font-size: 28px; margin: 0 0 6px; } h2 { font-size: 20px; margin: 44px 0 8px; padding-top: 12px; border-top: 1px solid var(--line); }
p { max-width: 100ch; margin: 8px 0; } header p { color: var(--quiet); }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin-top: 12px; } a { color: var(--accent); text-decoration: none; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: 12px 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 14px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; font-size: 13px; color: var(--quiet); } .number { text-align: right; white-space: nowrap; }
.whole { overflow-wrap: normal; } tr.apart td { background: #f3f4f6; }
figure { margin: 22px 0 28px; } figcaption { max-width: 100ch; margin-bottom: 8px; font-weight: 600; }
summary { cursor: pointer; color: var(--accent); margin: 12px 0; }
img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 6px; }
@media print { nav { display: none; } }
""".strip()
