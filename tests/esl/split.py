"""FreeSWITCH's own splitting of strings, written out again from switch_utils.c, to judge our quoting by."""

from __future__ import annotations

_UNESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " "}


def _clean(text: str, delimiter: str) -> str:
    """`cleanup_separated_string`: drops quotes, undoes escapes, trims blanks outside quotes."""
    text = text.lstrip(" ")
    out: list[str] = []
    end = 0
    inside = False
    i = 0
    while i < len(text):
        char = text[i]
        if char == "\\" and i + 1 < len(text):
            following = text[i + 1]
            unescaped = _UNESCAPED.get(following, following)
            if following in ("'", '"', "\\") or (delimiter and following == delimiter) or unescaped != following:
                out.append(unescaped if following in _UNESCAPED and following != delimiter else following)
                end = len(out)
                i += 2
                continue
        if char == "'" and (inside or "'" in text[i + 1 :]):
            inside = not inside
            if inside:
                end = len(out)
        else:
            out.append(char)
            if char != " " or inside:
                end = len(out)
        i += 1
    return "".join(out[:end])


def separate(text: str, delimiter: str, limit: int = 128) -> list[str]:
    """`separate_string_char_delim`."""
    pieces: list[str] = []
    start = 0
    inside = False
    i = 0
    while i < len(text) and len(pieces) < limit - 1:
        char = text[i]
        if char == "\\":
            i += 1
        elif char == "'" and (inside or "'" in text[i + 1 :]):
            inside = not inside
        elif char == delimiter and not inside:
            pieces.append(text[start:i])
            start = i + 1
        i += 1
    if start < len(text):
        pieces.append(text[start:])
    return [_clean(piece, delimiter) for piece in pieces]


def separate_blanks(text: str) -> list[str]:
    """`separate_string_blank_delim`."""
    pieces: list[str] = []
    start: int | None = None
    inside = False
    i = 0
    while i < len(text):
        char = text[i]
        if start is None:
            if char == " ":
                i += 1
                continue
            start = i
        if char == "\\":
            i += 1
        elif char == "'":
            inside = not inside
        elif char == " " and not inside:
            pieces.append(text[start:i])
            start = None
        i += 1
    if start is not None:
        pieces.append(text[start:])
    return [_clean(piece, "") for piece in pieces]
