"""A table as CSV that reads back, as LaTeX without a special character left, and in a terminal without markup."""

import csv
import io
import re
import string

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from engine.evaluation.grid import Grid, escaped

GRID = Grid(
    "Table 9. A & B (%)",
    ("what_is", "mm"),
    ([("[COCO]_{Ours wo. 1}", "47.52"), ("a, \"b\"", "-")], [("100 % {mine}", "1.0")]),
    1,
    ("paper", "here"),
)  # fmt: skip


def test_csv_reads_back():
    rows = list(csv.reader(io.StringIO(GRID.csv())))
    assert rows[0] == ["what_is", "mm", "source"] and rows[1] == ["[COCO]_Ours wo. 1", "47.52", "paper"]
    assert rows[2:] == [['a, "b"', "-", "paper"], ["100 % {mine}", "1.0", "here"]]


def test_latex_is_booktabs_with_a_rule_between_blocks():
    text = GRID.latex()
    assert r"\caption{Table 9. A \& B (\%)}" in text and r"\begin{tabular}{lr}" in text and r"what\_is & mm \\" in text
    assert r"{[}COCO{]}\textsubscript{Ours wo. 1} & 47.52 \\" in text and r"100 \% \{mine\} & 1.0 \\" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 2, 1]


@given(st.text(string.printable, max_size=40))
def test_no_special_character_is_left_unescaped(text):
    left = re.sub(r"\\textsubscript\{|\\text[a-z]+\{\}|\\[&%$#_{}]|\{\[\}|\{\]\}", "", escaped(text))
    assert not set(left) & set("\\&%$#_~^<>|[]")


def test_a_terminal_shows_brackets():
    out = io.StringIO()
    Console(file=out, width=120).print(GRID.terminal())
    assert "[COCO]_Ours wo. 1" in out.getvalue() and "Table 9. A & B (%)" in out.getvalue()
