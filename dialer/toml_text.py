"""TOML as people write it, to plain values.

The parser of the standard library lets more through than TOML is: it follows any nesting until the stack ends, takes
numbers of any size that nobody can print, and needs the square of a dotted key's length. Files of ours are small.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel

MAX_CHARACTERS: Final = 256 * 1024
MAX_LINE: Final = 8 * 1024
MAX_DEPTH: Final = 16
_INTEGERS: Final = range(-(2**63), 2**63)  # TOML's own


def read_toml(text: str) -> dict[str, Any]:
    """What `text` says.

    Raises ValueError, which tells what is wrong and where that is known.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it has {len(text)} characters, more than {MAX_CHARACTERS}")
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > MAX_LINE:
            raise ValueError(f"it has a line of {len(line)} characters, more than {MAX_LINE} (at line {number})")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}") from None
    _judge(data)
    return data


def shown_key(key: str) -> str:
    """`key` as it may stand in a line: a quoted one can have anything in it."""
    return key if key.isprintable() else repr(key)


def settings_at(model: type[BaseModel], place: tuple[int | str, ...]) -> tuple[list[str], str]:
    """The settings there are in the table that `place` of a file of `model` lies in, and what the one there is."""
    names: list[str] = []
    description = ""
    for part in place:
        if isinstance(part, int):
            continue
        fields: Mapping[str, Any] = model.model_fields
        names = list(fields)
        if part not in fields:
            break
        description = " ".join((fields[part].description or "").split())
        inner = fields[part].annotation
        for candidate in (inner, *get_args(inner)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    return names, description


def instead_of(name: str, names: list[str]) -> str:
    """What somebody who wrote `name` may have meant by it, of the `names` there are."""
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def _judge(data: dict[str, Any]) -> None:
    """Raises ValueError for what is nested too deeply, and for a number that is none of TOML's."""
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, int) and value not in _INTEGERS:
                raise ValueError("it has a number of more than 64 bits")
        level = inner
    if level:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
