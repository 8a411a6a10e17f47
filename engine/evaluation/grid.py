"""A table of text cells for the terminal, as CSV and as LaTeX. `_{x}` in a cell is a subscript."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

_SUBSCRIPT = re.compile(r"_\{([^{}]*)\}")
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "[": "{[}", "]": "{]}",  # a row that begins with a bracket would be taken for the option of the \\ before it
}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """Rows in blocks with a rule between them; the first `left` columns are labels, the others numbers."""

    title: str
    columns: Sequence[str]
    blocks: Sequence[Sequence[Sequence[str]]]
    left: int = 1
    sources: Sequence[str] = ()
    """A name for each block, for a column `source` of the CSV; none: no such column."""
    caption: str = ""
    """LaTeX's caption, which LaTeX numbers itself; empty: the title."""

    def terminal(self) -> Table:
        """For a terminal or a log."""
        table = Table(title=Text(self.title))
        for number, name in enumerate(self.columns):
            table.add_column(Text(name), justify="left" if number < self.left else "right", no_wrap=True)
        for block in self.blocks:
            for row in block:
                table.add_row(*(Text(_plain(cell)) for cell in row))
            table.add_section()
        return table

    def csv(self) -> str:
        """Columns as they are named; subscripts as plain text."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow((*self.columns, *(("source",) if self.sources else ())))
        for number, block in enumerate(self.blocks):
            writer.writerows((*map(_plain, row), *(self.sources[number : number + 1])) for row in block)
        return out.getvalue()

    def latex(self) -> str:
        """A `table` for the package booktabs; special characters are escaped."""
        rows = [[_line(row) for row in block] for block in self.blocks if block]
        body = "\n\\midrule\n".join("\n".join(block) for block in rows)
        shape = "l" * self.left + "r" * (len(self.columns) - self.left)
        head = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(self.caption or self.title)}}}",
            rf"\begin{{tabular}}{{{shape}}}",
            r"\toprule",
        ]
        return "\n".join([*head, _line(self.columns), r"\midrule", body, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text as LaTeX prints it, subscripts set as such."""
    parts = _SUBSCRIPT.split(text)  # what is at odd places was in a subscript
    cells = ["".join(_LATEX.get(c, c) for c in part) for part in parts]
    return "".join(rf"\textsubscript{{{cell}}}" if i % 2 else cell for i, cell in enumerate(cells))


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"


def _plain(cell: str) -> str:
    return _SUBSCRIPT.sub(r"_\1", cell)
