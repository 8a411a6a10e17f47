"""Kinds of findings: examples are few, the worst come first, and every kind is in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.inspection.findings import EXAMPLES, KINDS, UNDRAWABLE, Findings

REPO = Path(__file__).resolve().parents[3]


def test_counts_go_on_where_examples_end() -> None:
    findings = Findings()
    for number in range(3 * EXAMPLES):
        findings.add("box_leaves_image", f"k{number}", str(number), "far")
    findings.add("image_missing", "gone")
    missing, leaving = findings.found()
    assert (missing.name, missing.level, leaving.name, leaving.count) == ("image_missing", "wrong", "box_leaves_image", 3 * EXAMPLES)
    assert [example.key for example in leaving.examples] == [f"k{number}" for number in range(EXAMPLES)]
    assert findings.take_recent() == {"gone": {"image_missing"}} and findings.take_recent() == {}


def test_a_kind_that_nobody_described_is_refused() -> None:
    with pytest.raises(KeyError):
        Findings().add("odd", "k")
    assert set(KINDS) > UNDRAWABLE


def test_the_documentation_names_every_kind_at_its_level() -> None:
    page = (REPO / "docs" / "DATASETS.md").read_text().split("## What inspection calls things")[1]
    told = {name: row[1] for row in re.findall(r"^\| ((\w+) \|.*)\|$", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row[0])}
    assert told == {name: kind.level for name, kind in KINDS.items()}
