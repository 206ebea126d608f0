"""Good inputs made bad, the same for the same dice: bytes, tokens, lines, values between quotes."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import attrs

# What breaks readers of text: ends of ranges, other scripts' digits, halves of characters, ends of strings and lines.
TOKENS: Final = (
    *(b"", b"0", b"-1", b"1e999", b"NaN", b"nan", b"inf", b"-inf", b"Infinity", b"-Infinity", b"1_0", b"+5", b"0x1F"),
    *(b"9223372036854775808", b"99999999999999999999999", b"2147483648", b"1.5", b"1e300", b"9" * 4301),
    *(
        b"\x00",
        b"\\u0000",
        b"\\ud800",
        b"\\udc00",
        b"\xed\xa0\x80",
        b"\xff",
        b"\xfe\xff",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
    ),
    *("٣".encode(), "²".encode(), "\u2028".encode(), "\u0085".encode(), b"\x1c", b"\r", b"\n", b"\r\n", b"\n\n"),
    *(b'"', b"'", b"\\", b"[", b"]", b"{", b"}", b"[[", b"]]", b",", b":", b"=", b".", b"a.", b"%00", b"%ff", b"\t"),
    *(b"null", b"true", b"false", b"[]", b"{}", b'""', b'{"a":', b'"a"', b"1979-05-27T07:32:00Z", b"07:32:00"),
)
_VALUES: Final = (
    b"0",
    b"-1",
    b"2",
    b"7.5",
    b"1e9",
    b"true",
    b"false",
    b'"x"',
    b'""',
    b"[]",
    b'["x"]',
    b"{}",
    b"[1, {}]",
)
_OPENERS: Final = (b"[", b"{", b'{"a":', b"{a=", b"a.", b'"a",', b"a,")
# A value as JSON, TOML, CSV and header lines write one.
_VALUE: Final = re.compile(rb'"[^"\n]*"|(?<=[=:,] )[^\s,]+|(?<=[:=,])[^\s,:=]+')


@attrs.frozen
class Mutator:
    """Makes one input from `corpus`, with `tokens` besides those that are bad for everything."""

    corpus: Sequence[bytes]
    tokens: Sequence[bytes]
    longest: int

    def make(self, random: Random) -> bytes:
        """An input of at most `longest` bytes."""
        data = random.choice(self.corpus)
        for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5, 9))):
            data = _WAYS[random.randrange(len(_WAYS))](self, data, random)
        return data[: self.longest]

    def token(self, random: Random) -> bytes:
        return random.choice(self.tokens if self.tokens and random.random() < 0.5 else TOKENS)

    def _flip(self, data: bytes, random: Random) -> bytes:
        if not data:
            return bytes((random.randrange(256),))
        changed = bytearray(data)
        for _ in range(random.choice((1, 1, 2, 8))):
            changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed)

    def _insert(self, data: bytes, random: Random) -> bytes:
        at = random.randint(0, len(data))
        return data[:at] + self.token(random) + data[at:]

    def _overwrite(self, data: bytes, random: Random) -> bytes:
        at, token = random.randint(0, len(data)), self.token(random)
        return data[:at] + token + data[at + len(token) :]

    def _cut(self, data: bytes, random: Random) -> bytes:
        start, end = _part(data, random)
        return data[:start] + data[end:]

    def _end_early(self, data: bytes, random: Random) -> bytes:
        return data[: random.randint(0, len(data))]

    def _double(self, data: bytes, random: Random) -> bytes:
        start, end = _part(data, random)
        return data[:end] + data[start:end] + data[end:]

    def _splice(self, data: bytes, random: Random) -> bytes:
        other = random.choice(self.corpus)
        start, end = _part(other, random)
        at = random.randint(0, len(data))
        return data[:at] + other[start:end] + data[at:]

    def _follow(self, data: bytes, random: Random) -> bytes:
        return data + random.choice(self.corpus)

    def _lines(self, data: bytes, random: Random) -> bytes:
        """A line is dropped, doubled, put elsewhere, or comes from another input."""
        lines = data.split(b"\n")
        at, to = random.randrange(len(lines)), random.randint(0, len(lines))
        match random.randrange(4):
            case 0:
                del lines[at]
            case 1:
                lines.insert(to, lines[at])
            case 2:
                lines.insert(to, lines.pop(at))
            case _:
                lines.insert(to, random.choice(random.choice(self.corpus).split(b"\n")))
        return b"\n".join(lines)

    def _value(self, data: bytes, random: Random) -> bytes:
        """One value becomes another one, or a token; its quotes stay or go."""
        found = _VALUE.search(data, random.choice((0, random.randint(0, len(data)))))
        if found is None:
            return self._insert(data, random)
        old = found[0]
        new = self.token(random)
        if random.random() < 0.2:
            other = _VALUE.search(random.choice(self.corpus))
            new = other[0] if other is not None else new
        if old.startswith(b'"') and random.random() < 0.75:
            new = b'"' + new.strip(b'"\n') + b'"'
        elif random.random() < 0.5:
            new = random.choice(_VALUES)
        return data[: found.start()] + new + data[found.end() :]

    def _many(self, data: bytes, random: Random) -> bytes:
        """One thing very often: what is nested, and what takes the square of its length."""
        if random.random() < 0.8:  # they take long
            return self._value(data, random)
        start, end = _part(data, random)
        token = random.choice((random.choice(_OPENERS), self.token(random), data[start:end])) or b"["
        times = min(1 << random.randint(1, 14), self.longest // len(token))
        found = _VALUE.search(data, random.randint(0, len(data)))
        start, end = found.span() if found is not None else _part(data, random)
        return data[:start] + token * times + data[end:]


@attrs.frozen
class TomlMutator:
    """TOML that is TOML, and means something else than `corpus`: most broken bytes do not come past the grammar."""

    corpus: Sequence[bytes]

    def make(self, random: Random) -> bytes:
        tree = tomllib.loads(random.choice(self.corpus).decode())
        for _ in range(random.choice((1, 1, 2, 4))):
            self._change(tree, random)
        return "".join(f"{_toml(key)} = {_toml(value)}\n" for key, value in tree.items()).encode()

    def _change(self, tree: Any, random: Random) -> None:
        while True:  # down to some table or list
            places = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
            if not places:
                return
            place = random.choice(places)
            if not isinstance(tree[place], dict | list) or random.random() < 0.2:
                break
            tree = tree[place]
        match random.randrange(5):
            case 0:
                del tree[place]
            case 1 if isinstance(tree, dict):
                tree[str(random.choice(_MEANT))] = tree[place]
            case 1:
                tree.append(tree[place])
            case 2:
                tree[place] = [tree[place]]
            case _:
                tree[place] = copy.deepcopy(random.choice(_MEANT))  # what is in it changes later


_MEANT: Final[Sequence[Any]] = (
    *(0, -1, 1, 2, 15, 65535, 65536, 2**31, 2**63 - 1, -(2**63), 0.5, 1e-9, 1e308, float("inf"), float("nan"), True),
    *("", "x", "fs1", "carrier_a", "a b", "é", "\u2028", "a\nb", "\0", "x" * 600, "never", "true", "debug", "0777"),
    *("24:00", "09:00", "25:00", "09:00:00.5", "09:00Z", "mon", "Mon", "US", "us", "001", "Europe/Berlin", "../x"),
    *(
        "sqlite:///x",
        "postgresql://u:p@h/d",
        "http://",
        "+12025550100",
        "+",
        "٣",
        "/",
        "tone_stream://x",
        "on_demand",
    ),
    *([], ["x"], [[]], ["mon"], {}, {"name": "x"}, [{}], {"a": {"b": {}}}, ["mon", "mon"]),
)


def _toml(value: Any) -> str:
    """`value` in TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    return str(value).lower()


def _part(data: bytes, random: Random) -> tuple[int, int]:
    """Where a part of `data` starts and ends, a short one mostly."""
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((1, 2, 4, 16, 64, 256, 4096)))


_WAYS: Final[Sequence[Callable[[Mutator, bytes, Random], bytes]]] = (
    *(Mutator._flip, Mutator._insert, Mutator._overwrite, Mutator._cut, Mutator._end_early, Mutator._double),
    *(Mutator._splice, Mutator._follow, Mutator._lines, Mutator._lines, Mutator._value, Mutator._value),
    *(Mutator._value, Mutator._value, Mutator._many),
)
