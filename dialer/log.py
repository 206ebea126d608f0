"""Logging: one line an event, JSON for machines or text for people, with numbers masked and control characters gone.

Log lines cannot be forged: every value is rendered as JSON or escaped, so a line end in a lead's name stays inside
its string. Numbers are masked here once, for every level but debug, instead of at each call.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, TextIO

import structlog

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# Keys whose values are telephone numbers, or may hold one.
_NUMBER_KEYS: Final = frozenset({"number", "caller_id", "callee", "destination"})
# Not a part of an address, a decimal or a uuid; a full stop or a dash after it is the sentence's own.
# A number may have a trunk's prefix before it; 16 digits that begin like those are microseconds since 1970.
_LONG_NUMBER: Final = re.compile(r"(?<![\w.-])(?!1[78]\d{14}(?!\d))\+?\d{8,}(?![.-]?\w)")


def mask(number: str) -> str:
    """`number` with all but its country's first digits and its last two hidden: +15551234567 is +155******67."""
    if len(number) <= 6:
        return "*" * len(number)
    return number[:4] + "*" * (len(number) - 6) + number[-2:]


def _mask_numbers(_logger: Any, level: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if level == "debug":
        return record
    for key, value in record.items():
        if key != "timestamp":
            record[key] = _masked(key, value)
    return record


def _masked(key: str, value: Any) -> Any:
    if key in _NUMBER_KEYS and isinstance(value, str | int):
        return mask(str(value))
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {str(name): _masked(str(name), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(key, inner) for inner in value]
    return _LONG_NUMBER.sub(lambda match: mask(match.group()), value if isinstance(value, str) else repr(value))


def _escape_controls(_logger: Any, _level: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in record.items():
        if isinstance(value, str) and not value.isprintable():
            record[key] = value.encode("unicode_escape").decode("ascii")
    return record


# How many lines of each level this process has logged.
counted: Final[Counter[str]] = Counter()


def _count(_logger: Any, level: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    counted[level] += 1
    return record


def configure_logging(level: str, form: str, stream: TextIO | None = None) -> None:
    """Sets logging up for the whole process: to `stream`, or standard error."""
    shared: list[Any] = [
        _count,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _mask_numbers,
    ]
    renderer: Any = structlog.processors.JSONRenderer()
    if form == "text":
        shared.append(_escape_controls)
        renderer = structlog.dev.ConsoleRenderer(colors=(stream or sys.stderr).isatty())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
