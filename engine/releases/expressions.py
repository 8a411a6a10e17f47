"""What users say of rows in one line: which to take (`score > 0.5 and valid_joints >= 8`), or how much they count (`score ** 2`).

A small language of its own, read by Python's parser and evaluated here, never executed: numbers, strings, columns, arithmetic,
comparisons, `and`, `or`, `not`, `in [...]` and a few functions. A comparison with NaN is false, so persons without a figure are not taken.

Shape suffix: N rows.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from engine.errors import ConfigError
from schemas.pseudo_gt import PSEUDO_GT_SCHEMA

_NUMBERS = tuple(field.name for field in PSEUDO_GT_SCHEMA if pt.is_floating(field.type) or pt.is_integer(field.type))
_STRINGS = tuple(field.name for field in PSEUDO_GT_SCHEMA if pt.is_string(field.type))
_DERIVED: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "box_width": ("bbox_xywh", lambda rows: rows[:, 2]),
    "box_height": ("bbox_xywh", lambda rows: rows[:, 3]),
    "betas_norm": ("betas", lambda rows: np.linalg.norm(rows, axis=1)),
    "betas_max": ("betas", lambda rows: np.abs(rows).max(1, initial=0)),
}
NAMES = (*_STRINGS, *_NUMBERS, *_DERIVED)
"""Every name an expression may hold."""
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_FUNCTIONS: dict[str, tuple[int, Callable[..., Any]]] = {
    "isnan": (1, np.isnan), "abs": (1, np.abs), "sqrt": (1, np.sqrt), "exp": (1, np.exp),
    "min": (2, np.minimum), "max": (2, np.maximum), "where": (3, np.where),
}  # fmt: skip
_LONGEST = 1000

Kind = str
"""'number', 'truth', 'string' or 'list': what a part of an expression stands for."""


class Expression:
    """A parsed expression. `columns` are the columns of PSEUDO_GT_SCHEMA that it reads."""

    def __init__(self, text: str, kind: Kind) -> None:
        """ConfigError, which says where and what is allowed, unless `text` is an expression of this kind ('number' or 'truth')."""
        self.text, self.kind = text, kind
        if len(text) > _LONGEST:
            raise ConfigError(f"expression of {len(text)} characters: at most {_LONGEST} are read")
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
            self._columns: set[str] = set()
            found = self._check(self._tree)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ConfigError(f"expression {text!r}: {getattr(error, 'msg', error)}; example: score > 0.5 and valid_joints >= 8") from None
        if found != kind:
            wanted = "true or false for each person, as in score > 0.5" if kind == "truth" else "a number for each person, as in score"
            raise ConfigError(f"expression {text!r}: expected {wanted}, found a {found}")
        self.columns = tuple(sorted(self._columns))

    def __call__(self, rows: pa.Table | pa.RecordBatch) -> np.ndarray:
        """Value (N,) of every row: bool for a filter, float64 for a number. The rows need `columns` alone."""
        with np.errstate(all="ignore"):
            value = self._value(self._tree, rows)
        return np.broadcast_to(np.asarray(value, bool if self.kind == "truth" else np.float64), (rows.num_rows,)).copy()

    def _check(self, node: ast.expr) -> Kind:
        match node:
            case ast.Constant(value=bool()):
                return "truth"
            case ast.Constant(value=int() | float()):
                return "number"
            case ast.Constant(value=str()):
                return "string"
            case ast.Name(id=name) if name in NAMES:
                self._columns.add(_DERIVED[name][0] if name in _DERIVED else name)
                return "string" if name in _STRINGS else "number"
            case ast.Name(id=name):
                raise ValueError(f"unknown name {name!r}; known: {', '.join(NAMES)}")
            case ast.List(elts=items) | ast.Tuple(elts=items):
                if not all(isinstance(item, ast.Constant) and isinstance(item.value, str | int | float) for item in items):
                    raise ValueError("a list holds strings or numbers alone")
                return "list"
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                self._want("number", left, right)
                return "number"
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                self._want("number", operand)
                return "number"
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                self._want("truth", operand)
                return "truth"
            case ast.BoolOp(values=values):
                self._want("truth", *values)
                return "truth"
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._check_compare([left, *others], ops)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS and len(args) == _FUNCTIONS[name][0]:
                self._want("number", *(args[1:] if name == "where" else args))
                if name == "where":
                    self._want("truth", args[0])
                return "truth" if name == "isnan" else "number"
        raise ValueError(f"{ast.unparse(node)!r} is not known here; functions: {', '.join(_FUNCTIONS)}")

    def _check_compare(self, sides: list[ast.expr], ops: list[ast.cmpop]) -> Kind:
        kinds = [self._check(side) for side in sides]
        for left, op, right in zip(kinds, ops, kinds[1:], strict=False):
            if isinstance(op, ast.In | ast.NotIn):
                if left not in ("string", "number") or right != "list":
                    raise ValueError("'in' wants a list on its right, as in dataset in ['coco', 'mpii']")
            elif type(op) not in _COMPARE or left != right or left not in ("number", "string"):
                raise ValueError(f"a {left} cannot be compared with a {right} by {type(op).__name__}")
        return "truth"

    def _want(self, kind: Kind, *nodes: ast.expr) -> None:
        for node in nodes:
            if (found := self._check(node)) != kind:
                raise ValueError(f"{ast.unparse(node)!r} is a {found}, where a {kind} is expected")

    def _value(self, node: ast.expr, rows: pa.Table | pa.RecordBatch) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return _column(rows, name)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [item.value for item in items if isinstance(item, ast.Constant)]
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](np.float64(1) * self._value(left, rows), np.float64(1) * self._value(right, rows))
            case ast.UnaryOp(op=op, operand=operand):
                value = self._value(operand, rows)
                return np.logical_not(value) if isinstance(op, ast.Not) else -value if isinstance(op, ast.USub) else value
            case ast.BoolOp(op=op, values=values):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return join.reduce([np.broadcast_to(self._value(value, rows), rows.num_rows) for value in values])
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [self._value(side, rows) for side in (left, *others)]
                found = [_compare(a, op, b) for a, op, b in zip(sides, ops, sides[1:], strict=False)]
                return np.logical_and.reduce([np.broadcast_to(value, rows.num_rows) for value in found])
            case ast.Call(func=ast.Name(id=name), args=args):
                return _FUNCTIONS[name][1](*(self._value(arg, rows) for arg in args))
        raise AssertionError(node)


def _compare(left: Any, op: ast.cmpop, right: Any) -> Any:
    if isinstance(op, ast.In | ast.NotIn):
        found = np.isin(left, np.asarray(right, object if isinstance(left, np.ndarray) and left.dtype == object else None))
        return found if isinstance(op, ast.In) else ~found
    return _COMPARE[type(op)](left, right)


def _column(rows: pa.Table | pa.RecordBatch, name: str) -> np.ndarray:
    if name in _STRINGS:
        return np.asarray(rows.column(name).to_pylist(), object)
    if name not in _DERIVED:
        return np.asarray(rows.column(name), np.float64)
    source, derive = _DERIVED[name]
    column = rows.column(source)
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return derive(column.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, column.type.list_size))
