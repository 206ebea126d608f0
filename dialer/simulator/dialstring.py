"""How FreeSWITCH takes a command line apart: quotes, backslashes, `{variables}`, `[variables]`, inline dialplans."""

from __future__ import annotations

import re

import attrs

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "s": " "}


class DialStringError(Exception):
    """The command cannot be taken apart; a real switch answers with its usage."""


def separate(text: str, delimiter: str) -> list[str]:
    """Split as `switch_separate_string` does.

    Single quotes hold a delimiter and are dropped; a backslash before the delimiter, a quote or a backslash makes it
    plain, before n, r, t, s a control character, and before anything else is kept.
    """
    special = re.compile(rf"[\\'{re.escape(delimiter)}]")
    parts: list[str] = []
    part = ""
    quoted = False
    index = 0
    while (found := special.search(text, index)) is not None:
        at = found.start()
        part += text[index:at]
        character, after = text[at], text[at + 1 : at + 2]
        index = at + 1
        if character == delimiter and not quoted:
            parts.append(part)
            part = ""
        elif character == "\\" and after and (after in "'\"\\" or after == delimiter or after in _ESCAPES):
            part += after if after == delimiter else _ESCAPES.get(after, after)
            index += 1
        elif character == "'" and (quoted or "'" in text[index:]):
            quoted = not quoted
        else:
            part += character
    part += text[index:]
    parts.append(part)
    if delimiter == " ":
        return [piece for piece in parts if piece]
    return parts


def take_variables(text: str, opening: str, closing: str) -> tuple[dict[str, str], str]:
    """The variables of the brackets at the start of `text`, and the rest of it."""
    variables: dict[str, str] = {}
    while text.startswith(opening):
        end = _matching(text, opening, closing)
        inner, text = text[1:end], text[end + 1 :].lstrip()
        delimiter = ","
        if inner.startswith("^^") and len(inner) > 2:
            delimiter, inner = inner[2], inner[3:]
        for pair in separate(inner, delimiter):
            name, equals, value = pair.partition("=")
            if equals and name.strip():
                variables[name.strip()] = value
    return variables, text


def _matching(text: str, opening: str, closing: str) -> int:
    depth = 0
    for found in re.finditer(f"[{re.escape(opening + closing)}]", text):
        depth += 1 if found.group() == opening else -1
        if depth == 0:
            return found.start()
    raise DialStringError(f"no {closing} in {text!r}")


def inline_program(text: str) -> list[tuple[str, str]]:
    """`app:arg,app:arg`, or with another separator `m:^:app:arg^app:arg`."""
    delimiter = ","
    if text.startswith("m:") and text[3:4] == ":":
        delimiter, text = text[2], text[4:]
    program = []
    for step in separate(text, delimiter):
        application, _, argument = step.strip().partition(":")
        program.append((application, argument))
    return program


@attrs.frozen
class Target:
    """What a channel runs once it is there; `told` is how the destination shows meanwhile."""

    program: list[tuple[str, str]]
    told: str = ""


def parse_target(target: str, dialplan: str) -> Target:
    """`&app(arg)`, or an inline dialplan."""
    if target.startswith("&") and len(target) > 1:
        application, _, argument = target[1:].partition(")")[0].partition("(")
        return Target([(application, argument)])
    if dialplan.lower() == "inline":
        return Target(inline_program(target), target)
    return Target([("hangup", "NO_ROUTE_DESTINATION")], target)  # there is no XML dialplan here
