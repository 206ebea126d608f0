"""A column that is one of many values, as one parameter of a query, however many they are.

SQLAlchemy would make a parameter of each value, and so a new text of SQL for each length, which takes longer to be
written by it and read by the database than the rows take to be found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Integer, Text, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class _Texts(FunctionElement[Any]):
    """The values in a JSON list, as rows."""

    name = "texts"
    inherit_cache = True
    kind = "text"


class _Integers(_Texts):
    name = "integers"
    inherit_cache = True
    kind = "bigint"


@compiles(_Texts, "sqlite")
def _on_sqlite(element: _Texts, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"(SELECT value FROM json_each({compiler.process(element.clauses, **kwargs)}))"  # noqa: S608 - a parameter


@compiles(_Texts, "postgresql")
def _on_postgresql(element: _Texts, compiler: SQLCompiler, **kwargs: Any) -> str:
    values = f"json_array_elements_text(CAST({compiler.process(element.clauses, **kwargs)} AS json))"
    return f"(SELECT CAST(value AS {element.kind}) FROM {values} AS value)"  # noqa: S608 - a parameter


def one_of(column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Whether `column`, of text or whole numbers, is one of `many` values that the parameter `name` brings."""
    kind = _Integers if isinstance(column.type, Integer) else _Texts
    return column.op("IN", is_comparison=True)(kind(bindparam(name, type_=Text())))


def many(values: Iterable[str | int]) -> str:
    """`values` as a parameter that `one_of` asks for."""
    return json.dumps(list(values))
