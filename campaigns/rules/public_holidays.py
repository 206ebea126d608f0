"""Public holidays of a country, or of a part of it, as the library `holidays` knows them.

It is loaded when it is first needed, which takes some 0.15 s, as does the first year of some countries; a year is
computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType


@lru_cache(maxsize=4096)
def holidays_of(region: str, year: int) -> Mapping[date, str] | None:
    """The holidays of `region` (ISO 3166: US, or US-FL) in `year` by day, each with its name.

    Of a part that has none of its own they are those of the country. None when nothing is known of the country.
    """
    import holidays

    country, _, part = region.partition("-")
    subdivisions = holidays.list_supported_countries().get(country)
    if subdivisions is None:
        return None
    if country == "GB" and not part:  # the library has hardly any for all of it; most people are in England
        part = "ENG"
    found = holidays.country_holidays(country, subdiv=part if part in subdivisions else None, years=year)
    return MappingProxyType({day: str(name) for day, name in found.items()})
