"""A lead's number at the door, and the states a lead goes through.

Numbers are turned into E.164 once, here, and are E.164 everywhere else. What a list gives is first held to a plain
grammar (digits and the usual punctuation): the phone number library is made to find numbers in prose, and would make
a number of "call 212…", of two numbers in one cell, or of a spreadsheet's "4917212345678.0", without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Final, Protocol

import attrs
import phonenumbers
from phonenumbers import NumberParseException, timezone

from dialer.errors import InputRefusedError


class LeadStatus(StrEnum):
    """Where a lead stands. The values are stored: never rename one."""

    NEW = "new"  # never tried
    WAITING = "waiting"  # to be tried again when it is due
    DIALING = "dialing"  # leased: an attempt is open
    DONE = "done"  # somebody spoke to an agent, or heard the message
    EXHAUSTED = "exhausted"  # tried as often as the campaign allows
    DEAD = "dead"  # not to be tried again: no such number, refused, or opted out
    SUPPRESSED = "suppressed"  # on a do-not-call list, until it is taken off it
    WITHDRAWN = "withdrawn"  # taken out of its list by a person


class Queue(IntEnum):
    """What a lead waits for its turn in. The values are stored, and lower ones are served first."""

    URGENT = 0  # a trunk has failed it a moment ago, and another is to carry it
    CALLBACK = 1  # promised to the person
    RETRY = 2  # called before
    NEW = 3


WITHDRAWN: Final = "withdrawn"
"""What `put_off_by` says of a lead that was withdrawn during a call: it is when that ends."""


@attrs.frozen
class Number:
    """A number that may enter a command: `e164` is a plus sign and 7 to 15 digits; `zones` are where it may be."""

    e164: str
    zones: tuple[str, ...]


@attrs.frozen
class LeadNumber:
    """One of a lead's numbers, in E.164: where it may be, what kind it is, and the region of its prefix or list."""

    number: str
    zones: tuple[str, ...] = ()
    kind: str = "unknown"
    region: str | None = None


@lru_cache(maxsize=10_000)
def zones_from_json(text: str) -> tuple[str, ...]:
    """The zones of a lead, as the database has them. The same few are asked for again and again."""
    return tuple(json.loads(text))


def numbers_to_json(numbers: Sequence[LeadNumber]) -> str:
    """`numbers` for the database, shortly: there are millions."""
    rows = [[each.number, each.zones, each.kind, each.region] for each in numbers]
    return json.dumps(rows, separators=(",", ":"))


def numbers_from_json(text: str) -> tuple[LeadNumber, ...]:
    """The numbers that `numbers_to_json` wrote."""
    if text == "[]":  # most leads have a single one
        return ()
    return tuple(LeadNumber(number, tuple(zones), kind, region) for number, zones, kind, region in json.loads(text))


class HasNumbers(Protocol):
    """What a lead tells of its numbers; a LeadRow does, and so does one on its way in."""

    @property
    def number(self) -> str: ...
    @property
    def zones(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def region(self) -> str | None: ...
    @property
    def numbers(self) -> str: ...


def all_numbers(lead: HasNumbers) -> tuple[LeadNumber, ...]:
    """All numbers of `lead`, in their order."""
    alone = LeadNumber(lead.number, zones_from_json(lead.zones), lead.kind, lead.region)
    return numbers_from_json(lead.numbers) or (alone,)


def number_columns(place: int, number: LeadNumber) -> dict[str, object]:
    """What the columns of a lead say when it is the turn of `number`, which is at `place` among the lead's."""
    return {
        "number": number.number,
        "number_no": place,
        "zones": json.dumps(number.zones, separators=(",", ":")),
        "kind": number.kind,
        "region": number.region,
    }


_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_AS_WRITTEN = re.compile(r"\+?[0-9 \u00a0\t().\-/\u2010-\u2015]+")
_SPREADSHEET = re.compile(r"[0-9]+([.,][0-9]+)?[eE]\+?[0-9]+|[0-9]{7,}[.,]0")
_LONGEST_SHOWN = 60

NO_ZONE = "Etc/Unknown"  # what the library says when it cannot place a number


def parse_number(text: str, country: str) -> Number:
    """`text` as a number, national numbers read as dialed in `country` (ISO 3166 code, like "US").

    Raises InputRefusedError, naming the value and what would be right, for anything that is not one valid number. A
    valid number that belongs to no place (+800…) has no zones: it can be called only where a zone is given.
    """
    shown = repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…")
    right = f"give it as +{phonenumbers.country_code_for_region(country)}… or as it is dialed in {country}"
    stripped = text.strip()
    if not stripped:
        raise InputRefusedError(f"there is no number; {right}")
    if _SPREADSHEET.fullmatch(stripped):
        raise InputRefusedError(
            f"{shown} is a number as a spreadsheet rounds it; make the column text before saving, and {right}"
        )
    if not _AS_WRITTEN.fullmatch(stripped):
        raise InputRefusedError(f"{shown} is not a phone number in {country}; {right}")
    try:
        parsed = phonenumbers.parse(stripped, country)
    except NumberParseException:
        raise InputRefusedError(f"{shown} is not a phone number in {country}; {right}") from None
    if not phonenumbers.is_valid_number(parsed):
        place = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
        raise InputRefusedError(f"{shown} is not a number that exists in {place}; {right}")
    e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    if not _E164.fullmatch(e164):
        raise InputRefusedError(f"{shown} is longer than a number can be; {right}")
    zones = timezone.time_zones_for_number(parsed)
    return Number(e164, tuple(zone for zone in zones if zone != NO_ZONE))
