from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.releases.expressions import Expression
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA

ROWS = 40


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    rng = np.random.default_rng(0)
    columns: dict[str, object] = {}
    for field in PSEUDO_GT_SCHEMA:
        if pa.types.is_fixed_size_list(field.type):
            columns[field.name] = [rng.normal(size=field.type.list_size).tolist() for _ in range(ROWS)]
        elif pa.types.is_string(field.type):
            columns[field.name] = [f"{field.name}{i % 3}" for i in range(ROWS)]
        elif pa.types.is_integer(field.type):
            columns[field.name] = rng.integers(0, 18, ROWS).tolist()
        else:
            columns[field.name] = np.where(rng.uniform(size=ROWS) < 0.2, np.nan, rng.uniform(size=ROWS)).tolist()
    return pa.table(columns, schema=PSEUDO_GT_SCHEMA)


def by_python(text: str, rows: pa.Table) -> list[object]:
    """The expression as Python itself understands it, a row at a time."""
    tools = {"isnan": math.isnan, "abs": abs, "sqrt": math.sqrt, "exp": math.exp, "min": min, "max": max}
    found = []
    for row in rows.to_pylist():
        derived = {
            "box_width": row["bbox_xywh"][2],
            "box_height": row["bbox_xywh"][3],
            "betas_max": max(map(abs, row["betas"])),
            "betas_norm": math.hypot(*row["betas"]),
        }
        found.append(eval(text, {"__builtins__": {}}, tools | row | derived))
    return found


@pytest.mark.parametrize(
    "text",
    [
        "score > 0.5",
        "score > 0.5 and valid_joints >= 8",
        "not (score > 0.5 or isnan(latent_norm))",
        "0.2 < score <= 0.7",
        "dataset in ['dataset0', 'dataset2'] and key != 'key1'",
        "valid_joints not in [1, 2, 3]",
        "annotation_id == 'annotation_id1'",
        "box_width * box_height > -0.1 and abs(betas_max) < 2",
        "-score < -0.5 and betas_norm ** 2 / 2 > 1",
        "True and score == score",
    ],
)
def test_a_filter_says_what_python_says(text: str, rows: pa.Table) -> None:
    found = Expression(text, "truth")(rows)
    assert found.dtype == bool and found.tolist() == by_python(text, rows)


@pytest.mark.parametrize("text", ["score", "score ** 2 + 1", "max(score, truncation) * 0.5", "exp(-abs(latent_norm))", "2"])
def test_a_weight_says_what_python_says(text: str, rows: pa.Table) -> None:
    columns = ("score", "truncation", "latent_norm")
    kept = rows.filter(pa.array(~np.isnan(np.stack([rows[name].to_numpy() for name in columns])).any(0)))
    assert np.allclose(Expression(text, "number")(kept), by_python(text, kept), rtol=1e-6)


def test_where_chooses_and_a_record_batch_will_do(rows: pa.Table) -> None:
    found = Expression("where(isnan(score), 0, where(score > 0.5, 1, 0.2))", "number")(rows.to_batches()[0])
    score = rows["score"].to_numpy()
    assert np.allclose(found, np.where(np.isnan(score), 0, np.where(score > 0.5, 1, 0.2)))


def test_only_the_columns_it_names_are_needed(rows: pa.Table) -> None:
    expression = Expression("score > 0.5 and box_width > 0 and dataset == 'dataset0'", "truth")
    assert expression.columns == ("bbox_xywh", "dataset", "score")
    assert np.array_equal(expression(rows.select(expression.columns)), expression(rows))
    assert Expression("score > 0.5", "truth")(rows.slice(0, 0)).shape == (0,)


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("scor > 0.5", "truth", "unknown name 'scor'; known: dataset, key"),
        ("score", "truth", "expected true or false"),
        ("score > 0.5", "number", "expected a number"),
        ("score >", "truth", "invalid syntax"),
        ("score > 'a'", "truth", "cannot be compared"),
        ("dataset + 1", "number", "is a string, where a number"),
        ("score in 3", "truth", "wants a list"),
        ("__import__('os').system('true')", "truth", "not known here"),
        ("score.__class__", "number", "not known here"),
        ("(lambda: 1)()", "number", "not known here"),
        ("[x for x in (1, 2)]", "truth", "not known here"),
        ("score if True else 0", "number", "not known here"),
        ("open('x')", "number", "not known here"),
        ("9 ** 9 ** 9 ** 9 ** 9 > score" + " " * 2000, "truth", "at most"),
        ("(" * 400 + "score" + ")" * 400, "number", "too many"),
    ],
)
def test_what_it_is_not_is_refused(text: str, kind: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
        Expression(text, kind)


def test_large_powers_end(rows: pa.Table) -> None:
    assert not Expression("9 ** 9 ** 9 ** 9 ** 9 < score", "truth")(rows).any()


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_a_config_error(text: str) -> None:
    for kind in ("truth", "number"):
        try:
            Expression(text, kind)
        except ConfigError as error:
            assert "\n" not in str(error) or "\n" in text
