"""Telephone numbers as lists have them, to E.164: fast, and never other than the phone number library says.

The library takes some 100 µs for a number, which is minutes for a million. Nearly all numbers of a list are plain:
digits with or without separators, national or with a plus. For those its own metadata is compiled, once for a
country, to one regular expression, whose groups are the kinds of numbers in the order in which the library tries
them. Whatever is not plain (another country's way of dialing out, carrier codes, prefixes that transform the number)
or does not fit goes to the library, whose word counts. A test with random numbers of all countries holds the two
equal.

What a number belongs to is told with it: its kind, all zones that it may lie in, and its region (the state by area
code in the United States and Canada, the country elsewhere). A number that is answered anywhere (toll-free, premium)
has no zones of its own: where none is given with it, it cannot be called at a decent hour.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Any, Final

import attrs
import phonenumbers
from phonenumbers import PhoneMetadata, PhoneNumberType, timezone
from phonenumbers.phonenumberutil import COUNTRY_CODE_TO_REGION_CODE, is_number_type_geographical
from phonenumbers.tzdata import TIMEZONE_DATA

from campaigns import lead
from campaigns.lead import NO_ZONE
from campaigns.places import area_codes
from dialer.errors import InputRefusedError

__all__ = ["KINDS", "Number", "NumberReader", "parse_number"]

KINDS: Final = {
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.TOLL_FREE: "toll_free",
    PhoneNumberType.SHARED_COST: "shared_cost",
    PhoneNumberType.VOIP: "voip",
    PhoneNumberType.PERSONAL_NUMBER: "personal",
    PhoneNumberType.PAGER: "pager",
    PhoneNumberType.UAN: "uan",
    PhoneNumberType.VOICEMAIL: "voicemail",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed_or_mobile",
    PhoneNumberType.FIXED_LINE: "fixed",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.UNKNOWN: "unknown",
}
_TYPES: Final = {kind: number_type for number_type, kind in KINDS.items()}
_SOMEWHERE: Final = frozenset({"fixed", "mobile", "fixed_or_mobile", "voip"})  # of other kinds no place is known
_DESCRIPTIONS: Final = (  # in the library's order; fixed lines and mobiles come last, by a rule of their own
    *(("premium", "premium_rate"), ("toll_free", "toll_free"), ("shared_cost", "shared_cost"), ("voip", "voip")),
    *(("personal", "personal_number"), ("pager", "pager"), ("uan", "uan"), ("voicemail", "voicemail")),
)
_SEPARATORS: Final = {ord(each): None for each in " \u00a0\t().-/\u2010\u2011\u2012\u2013\u2014\u2015"}
_LONGEST: Final = 15
_WIDE: Final = {0xFF0B: "+", 0xFF08: "(", 0xFF09: ")", 0xFF0D: "-", 0xFF0E: ".", 0xFF0F: "/", 0x3000: " "}


@attrs.frozen
class Number:
    """A number that may enter a command: `e164` is a plus sign and 7 to 15 digits; `zones` are where it may be."""

    e164: str
    zones: tuple[str, ...]
    kind: str  # one of KINDS
    region: str | None  # ISO 3166-2, like US-FL, or the country alone; None: it belongs to none


def parse_number(text: str, country: str) -> Number:
    """`text` as a number, national numbers read as dialed in `country`. Raises InputRefusedError."""
    return _reader(country).read(text)


class NumberReader:
    """Reads the numbers of lists whose national numbers are those of `country` (ISO 3166, like "US")."""

    def __init__(self, country: str) -> None:
        self.country = country
        metadata = PhoneMetadata.metadata_for_region(country)
        if metadata is None:
            raise InputRefusedError(f"{country!r} should be an ISO 3166 country code in capitals, like US or DE")
        self._code = str(metadata.country_code)
        self._dials_out = re.compile(metadata.international_prefix or "(?!)")
        self._general = re.compile(_matching(metadata.general_desc) or "(?!)")
        prefix = metadata.national_prefix_for_parsing
        self._prefix = re.compile(prefix) if prefix else None
        # A prefix that transforms what follows, or hides a carrier's code in it, is left to the library.
        self._plain_prefix = prefix if prefix and prefix.isdigit() else None
        self._main = self._is_main(metadata)

    @staticmethod
    def _is_main(metadata: Any) -> bool:
        # Of the countries that share a code only the first is asked for the ways of dialing within all of them.
        return bool(COUNTRY_CODE_TO_REGION_CODE[metadata.country_code][0] == metadata.id)

    def read(self, text: str) -> Number:
        """`text` as a number. Raises InputRefusedError, naming the value and what would be right."""
        plain = text if text.isdigit() and text.isascii() else text.translate(_SEPARATORS)
        if plain.isascii():
            number = self._plain(plain)
            if number is not None:
                return number
            return self._by_the_library(text)
        return self._by_the_library(_in_ascii_digits(text))

    def _plain(self, plain: str) -> Number | None:
        """What the library would say, when that is plain; None when it must be asked."""
        if plain[:1] == "+":
            digits = plain[1:]
            if not digits.isdigit() or len(digits) > _LONGEST:
                return None
            for length in (1, 2, 3):
                code = digits[:length]
                if int(code or 0) in COUNTRY_CODE_TO_REGION_CODE:
                    return _plan(code).find(digits[length:])
            return None
        if not plain.isdigit() or self._dials_out.match(plain):
            return None
        if self._prefix is not None and self._prefix.match(plain):
            prefix = self._plain_prefix
            if prefix is None or self._general.fullmatch(plain) or not self._main:
                return None
            if plain.startswith(self._code) and prefix != self._code:
                return None
            plain = plain[len(prefix) :]
            if self._prefix.match(plain):
                return None
        elif not self._general.fullmatch(plain):
            return None
        return _plan(self._code).find(plain)

    def _by_the_library(self, text: str) -> Number:
        e164 = lead.parse_number(text, self.country).e164
        number = phonenumbers.parse(e164)
        kind = KINDS[phonenumbers.number_type(number)]
        zones: tuple[str, ...] = ()
        if kind in _SOMEWHERE:
            zones = tuple(zone for zone in timezone.time_zones_for_number(number) if zone != NO_ZONE)
        country = phonenumbers.region_code_for_number(number)
        return Number(e164, zones, kind, _region(country, phonenumbers.national_significant_number(number), kind))


@cache
def _reader(country: str) -> NumberReader:
    return NumberReader(country)


def _in_ascii_digits(text: str) -> str:
    """`text` with the digits of every script, and the full-width signs around them, as the plain ones."""
    return "".join(
        str(digit) if (digit := unicodedata.decimal(each, None)) is not None else _WIDE.get(ord(each), each)
        for each in text
    )


def _region(country: str | None, national: str, kind: str) -> str | None:
    if country not in ("US", "CA"):
        return None if country == "001" else country  # 001: numbers of no country
    return area_codes().get(national[:3], country) if kind == "fixed_or_mobile" else country


def _matching(description: Any) -> str | None:
    """A pattern for what `description` of the metadata describes, its lengths included; None for nothing."""
    if description is None or description.national_number_pattern is None:
        return None
    pattern = f"(?:{description.national_number_pattern})"
    lengths = [length for length in description.possible_length if length > 0]
    if not lengths:
        return pattern if not description.possible_length else None
    return f"(?=(?:{'|'.join(rf'.{{{length}}}' for length in lengths)})\\Z){pattern}"


def _kinds(metadata: Any) -> re.Pattern[str]:
    """What the region's valid numbers are like; the group that matches says their kind."""
    choices = [
        f"(?P<{kind}>{pattern})"
        for kind, name in _DESCRIPTIONS
        if (pattern := _matching(getattr(metadata, name))) is not None
    ]
    fixed, mobile = _matching(metadata.fixed_line), _matching(metadata.mobile)
    if metadata.same_mobile_and_fixed_line_pattern:
        choices += [f"(?P<fixed_or_mobile>{fixed})"] if fixed else []
    else:
        if fixed and mobile:
            choices.append(f"(?P<fixed_or_mobile>(?=(?:{mobile})\\Z){fixed})")
        choices += [f"(?P<fixed>{fixed})"] if fixed else []
        choices += [f"(?P<mobile>{mobile})"] if mobile else []
    general = _matching(metadata.general_desc) or "(?!)"
    return re.compile(f"(?=(?:{general})\\Z)(?:{'|'.join(choices) or '(?!)'})")


@attrs.frozen
class _Region:
    name: str
    leading: re.Pattern[str] | None
    kinds: re.Pattern[str]


class _Plan:
    """The numbering plan of one country code, with all countries that share it."""

    def __init__(self, code: str) -> None:
        self._code = code
        names = COUNTRY_CODE_TO_REGION_CODE[int(code)]
        main = PhoneMetadata.metadata_for_region_or_calling_code(int(code), names[0])
        prefix = None if main is None else main.national_prefix_for_parsing
        self._prefix = re.compile(prefix) if prefix else None
        self._regions = [
            _Region(
                name,
                re.compile(metadata.leading_digits) if metadata.leading_digits else None,
                _kinds(metadata),
            )
            for name in names
            if (metadata := PhoneMetadata.metadata_for_region(name, None)) is not None
        ]
        self._geographic = frozenset(
            kind for kind, number_type in _TYPES.items() if is_number_type_geographical(number_type, int(code))
        )
        # Which lengths of prefixes there are, by the first digits: mostly one or none, where there could be eight.
        self._head = len(code) + 3
        lengths: dict[str, set[int]] = {}
        for key in TIMEZONE_DATA:
            if key.startswith(code) and len(key) > len(code):
                lengths.setdefault(key[: self._head], set()).add(len(key))
        self._short = sorted({len(head) for head in lengths if len(head) < self._head}, reverse=True)
        self._lengths = {head: sorted(found, reverse=True) for head, found in lengths.items()}
        self._everywhere = _zones(code)
        self._area_codes = area_codes() if code == "1" else {}

    def find(self, national: str) -> Number | None:
        """The valid number whose national part is `national`; None when the library must be asked."""
        if self._prefix is not None and self._prefix.match(national):
            return None
        for region in self._regions:
            if region.leading is not None and not region.leading.match(national):
                continue
            match = region.kinds.fullmatch(national)
            if match is not None:
                kind = match.lastgroup or "unknown"
                digits = self._code + national
                if len(digits) < 7 or len(digits) > _LONGEST:
                    return None
                return Number("+" + digits, self._zones(digits, kind), kind, self._place(region.name, national, kind))
            if region.leading is not None:
                return None
        return None

    def _place(self, country: str, national: str, kind: str) -> str:
        if kind == "fixed_or_mobile" and self._area_codes:
            return self._area_codes.get(national[:3], country)
        return country

    def _zones(self, digits: str, kind: str) -> tuple[str, ...]:
        if kind in self._geographic:
            for length in self._lengths.get(digits[: self._head], ()):
                if digits[:length] in TIMEZONE_DATA:
                    return _zones(digits[:length])
            for length in self._short:
                if digits[:length] in TIMEZONE_DATA:
                    return _zones(digits[:length])
        elif kind not in _SOMEWHERE:
            return ()
        return self._everywhere


@cache
def _zones(prefix: str) -> tuple[str, ...]:
    return tuple(zone for zone in TIMEZONE_DATA.get(prefix, ()) if zone != NO_ZONE)


@cache
def _plan(code: str) -> _Plan:
    return _Plan(code)
