"""The kinds of values that campaigns and profiles are made of, each with what would be right in its refusal."""

from __future__ import annotations

from datetime import time
from typing import Annotated, Literal

import phonenumbers
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from campaigns.zones import is_zone

NEVER: Literal["never"] = "never"
MIDNIGHT = time(0)
YEAR_SECONDS = 366 * 24 * 3600


def checked_zone(value: str) -> str:
    """`value`, if it names a zone; ValueError, which says what would be right, if not."""
    if not is_zone(value):
        raise ValueError("should be a zone of the tz database, like Europe/Berlin")
    return value


def _country(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("should be an ISO 3166 country code in capitals, like US or DE")
    return value


def _region(value: str) -> str:
    country, _, part = value.partition("-")
    letters_and_digits = part.isascii() and part.isalnum() and part == part.upper() and len(part) <= 3
    if country not in phonenumbers.SUPPORTED_REGIONS or ("-" in value and not letters_and_digits):
        raise ValueError("should be a country or a part of one as ISO 3166 has it, in capitals, like US or US-FL")
    return value


def _clock(value: object) -> object:
    if value == "24:00":
        return MIDNIGHT
    if isinstance(value, str):
        try:
            return time.fromisoformat(value)
        except ValueError:
            raise ValueError("should be a time of day between 00:00 and 24:00, like 09:00") from None
    return value


def _local(value: time) -> time:
    if value.tzinfo is not None:
        raise ValueError("should have no offset from UTC: it is the callee's own wall clock")
    return value


def _delay(value: object) -> object:
    if value == NEVER:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= YEAR_SECONDS:
        raise ValueError(f'should be seconds between 0 and {YEAR_SECONDS}, or "never"')
    return value


def _no_folder(value: str) -> str:
    if value.startswith("/") and value.partition("@@")[0].endswith("/"):
        raise ValueError("should be the path of a file, not of a folder")
    return value


Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Zone = Annotated[str, AfterValidator(checked_zone)]
Country = Annotated[str, AfterValidator(_country)]
Region = Annotated[str, AfterValidator(_region)]
Clock = Annotated[time, BeforeValidator(_clock), AfterValidator(_local)]
Delay = Annotated[float | Literal["never"], BeforeValidator(_delay)]
# Names end up in commands to FreeSWITCH, in file names and in Redis keys.
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
GatewayName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
# What reaches FreeSWITCH as an application's argument (dialer/esl/commands.py); a test holds the grammars equal.
Sound = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.:;/@+*#%()!&?~=,-]+$", max_length=500), AfterValidator(_no_folder)
]
Dialable = Annotated[str, Field(pattern=r"^\+?[0-9]{2,15}$")]
Key = Annotated[str, Field(pattern=r"^[0-9*#]?$")]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=500)]  # for people to read, in one line


class Settings(BaseModel):
    """A table of settings: a frozen value, which refuses what it does not know, and whose docstrings describe it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
