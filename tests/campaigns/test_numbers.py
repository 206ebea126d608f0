from __future__ import annotations

from functools import cache

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import geocoder

from campaigns.numbers import KINDS, Number, NumberReader, parse_number
from campaigns.places import area_codes, place_of_postal_code, region_of
from dialer.errors import InputRefusedError

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)


@cache
def reader(country: str) -> NumberReader:
    return NumberReader(country)


def answer(reads: object, text: str) -> Number | str:
    try:
        return reads(text)  # type: ignore[operator, no-any-return]
    except InputRefusedError as error:
        return str(error)


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str]:
    """A country whose lists it may stand in, and a number near to one that exists, in one of the ways to write it."""
    region = draw(st.sampled_from(REGIONS))
    example = phonenumbers.example_number_for_type(region, draw(st.integers(0, 10)))
    example = example or phonenumbers.example_number(region)
    assert example is not None
    national = phonenumbers.national_significant_number(example)
    kept = draw(st.integers(0, len(national)))
    digits = national[:kept] + draw(
        st.text("0123456789", min_size=len(national) - kept, max_size=len(national) - kept)
    )
    digits += draw(st.sampled_from(["", "", "", "0", "77"]))
    code = str(example.country_code)
    prefix = phonenumbers.ndd_prefix_for_region(region, True) or ""
    start = draw(st.sampled_from(["+" + code, "", prefix, code, "00" + code, "011" + code, "+" + code + prefix, "0"]))
    gap = draw(st.sampled_from(["", " ", "-", "/", "."]))
    country = draw(st.sampled_from([region, region, "US", "DE", "AR", "IT", draw(st.sampled_from(REGIONS))]))
    return country, f"{start}{gap}{digits[:3]}{gap}{digits[3:]}"


@settings(max_examples=1_500, deadline=None)
@given(written())
def test_the_fast_way_says_what_the_library_says(case: tuple[str, str]) -> None:
    country, text = case
    one = reader(country)
    assert answer(one.read, text) == answer(one._by_the_library, text)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["US", "DE", "GB", "IT", "AR", "MX", "BR"]), st.text("+0123456789() -./x", max_size=18))
def test_whatever_is_written(country: str, text: str) -> None:
    one = reader(country)
    assert answer(one.read, text) == answer(one._by_the_library, text)


@pytest.mark.parametrize("region", REGIONS)
def test_examples_of_every_country_and_kind(region: str) -> None:
    one = reader(region)
    for number_type in KINDS:
        example = phonenumbers.example_number_for_type(region, number_type)
        if example is None:
            continue
        for form in (phonenumbers.PhoneNumberFormat.E164, phonenumbers.PhoneNumberFormat.NATIONAL):
            text = phonenumbers.format_number(example, form)
            assert answer(one.read, text) == answer(one._by_the_library, text), text


def test_plain_numbers_do_not_ask_the_library() -> None:
    for country, text in (("US", "2125550100"), ("US", "12125550100"), ("US", "+12125550100"), ("DE", "030901820")):
        assert reader(country)._plain(text) is not None


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("212 555 0100", "US", Number("+12125550100", ("America/New_York",), "fixed_or_mobile", "US-NY")),
        ("305-555-0100", "US", Number("+13055550100", ("America/New_York",), "fixed_or_mobile", "US-FL")),
        ("416 555 0100", "US", Number("+14165550100", ("America/Toronto",), "fixed_or_mobile", "CA-ON")),
        ("787 555 0100", "US", Number("+17875550100", ("America/Puerto_Rico",), "fixed_or_mobile", "PR")),
        ("800 555 0199", "US", Number("+18005550199", (), "toll_free", "US")),
        ("0151 23456789", "DE", Number("+4915123456789", ("Europe/Berlin",), "mobile", "DE")),
        ("030 901820", "DE", Number("+4930901820", ("Europe/Berlin",), "fixed", "DE")),
        ("0900 1234567", "DE", Number("+499001234567", (), "premium", "DE")),
        ("+80012345678", "US", Number("+80012345678", (), "toll_free", None)),
        ("02 1234 5678", "IT", Number("+390212345678", ("Europe/Rome",), "fixed", "IT")),
        ("２１２５５５０１００", "US", Number("+12125550100", ("America/New_York",), "fixed_or_mobile", "US-NY")),
        (
            "＋１ （２１２） ５５５－０１００",
            "DE",
            Number("+12125550100", ("America/New_York",), "fixed_or_mobile", "US-NY"),
        ),
        ("٠٣٠٩٠١٨٢٠", "DE", Number("+4930901820", ("Europe/Berlin",), "fixed", "DE")),
    ],
)
def test_what_is_known_of_a_number(text: str, country: str, number: Number) -> None:
    assert parse_number(text, country) == number


def test_a_mobile_of_a_country_with_many_zones_may_lie_in_all_of_them() -> None:
    assert len(parse_number("+61412345678", "US").zones) > 5
    assert parse_number("+61293744000", "US").zones == ("Australia/Sydney",)


@pytest.mark.parametrize("text", ["", "12ab", "2125550100 / 2125550101", "1.4155E+10", "①②③", "²¹²5550100"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(InputRefusedError, match="as it is dialed in US"):
        parse_number(text, "US")


def test_area_codes_are_where_the_library_knows_them_to_be() -> None:
    """Its geographic names are of states where an area code has no city of its own."""
    states = {"US-FL": "Florida", "US-NJ": "New Jersey", "US-VT": "Vermont", "CA-AB": "Alberta", "US-DE": "Delaware"}
    for region, name in states.items():
        for code in [code for code, where in area_codes().items() if where == region]:
            found = geocoder.description_for_number(phonenumbers.parse(f"+1{code}2345678"), "en")
            assert found == name or found.endswith(region[3:]), code
    for code, region in area_codes().items():
        number = phonenumbers.parse(f"+1{code}2345678")
        assert phonenumbers.region_code_for_number(number) == region[:2], code


@pytest.mark.parametrize(
    ("text", "country", "region"),
    [
        ("FL", "US", "US-FL"),
        ("fl", "US", "US-FL"),
        ("us-fl", "DE", "US-FL"),
        (" new   york ", "US", "US-NY"),
        ("Ontario", "US", "CA-ON"),
        ("CA", "US", "US-CA"),
        ("ON", "CA", "CA-ON"),
        ("Québec", "CA", "CA-QC"),
        ("DE-BY", "DE", "DE-BY"),
        ("Bayern", "DE", None),
        ("US-XX", "US", None),
        ("Atlantis", "US", None),
    ],
)
def test_regions(text: str, country: str, region: str | None) -> None:
    place = region_of(text, country)
    assert (None if place is None else place.region) == region
    assert place is None or bool(place.zones) == (place.region[:2] in ("US", "CA"))


@pytest.mark.parametrize(
    ("text", "country", "region"),
    [
        ("33101", "US", "US-FL"),
        ("33101-1234", "US", "US-FL"),
        ("2134", "US", "US-MA"),
        ("10001", "US", "US-NY"),
        ("09012", "US", None),  # the forces', anywhere
        ("10001", "DE", None),
        ("H3Z 2Y7", "CA", "CA-QC"),
        ("h3z2y7", "CA", "CA-QC"),
        ("X0A 0H0", "CA", None),
        ("many", "US", None),
    ],
)
def test_postal_codes(text: str, country: str, region: str | None) -> None:
    place = place_of_postal_code(text, country)
    assert (None if place is None else place.region) == region
