from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.lead import LeadNumber, numbers_from_json, numbers_to_json, parse_number
from dialer.errors import InputRefusedError


@pytest.mark.parametrize(
    ("text", "country", "e164"),
    [
        ("+12125550100", "DE", "+12125550100"),
        ("(212) 555-0100", "US", "+12125550100"),
        (" 212.555.0100\t", "US", "+12125550100"),
        ("030 / 901820", "DE", "+4930901820"),
        ("0049 30 901820", "DE", "+4930901820"),
        ("212\u00a0555\u20110100", "US", "+12125550100"),
    ],
)
def test_numbers_as_people_write_them(text: str, country: str, e164: str) -> None:
    assert parse_number(text, country).e164 == e164


@pytest.mark.parametrize(
    ("text", "country", "complaint"),
    [
        ("12ab", "US", "'12ab' is not a phone number in US; give it as +1… or as it is dialed in US"),
        ("", "US", "there is no number"),
        ("12", "US", "'12' is not a"),
        ("call 2125550100", "US", "is not a phone number in US"),
        ("2125550100 / 2125550101", "US", "'2125550100 / 2125550101'"),
        ("2125550100 ext. 5", "US", "is not a phone number"),
        ("4.91712E+11", "DE", "as a spreadsheet rounds it"),
        ("491712345678.0", "DE", "as a spreadsheet rounds it"),
        ("+1 111 111 1111", "US", "is not a number that exists in US"),
        ("+999 12345678", "US", "'+999 12345678' is not a phone number"),
        ("2125550100\n", "US", None),
        ("212555\n0100", "US", "is not a phone number"),
        ("1" * 300, "US", "…"),
    ],
)
def test_what_is_no_number_is_refused_by_value(text: str, country: str, complaint: str | None) -> None:
    if complaint is None:
        assert parse_number(text, country).e164 == "+12125550100"
        return
    with pytest.raises(InputRefusedError) as refused:
        parse_number(text, country)
    assert complaint in str(refused.value)
    assert "give it as +" in str(refused.value)


def test_zones() -> None:
    assert parse_number("2125550100", "US").zones == ("America/New_York",)
    assert len(parse_number("+1 800 555 0199", "US").zones) > 5  # may be anywhere
    assert parse_number("+80012345678", "US").zones == ()  # belongs to no country


@given(st.text(alphabet="+0123456789 ().-/\u00a0abx\n\r\0{}^'", max_size=25))
def test_whatever_comes_in_e164_comes_out_or_it_is_refused(text: str) -> None:
    try:
        number = parse_number(text, "US")
    except InputRefusedError:
        return
    assert re.fullmatch(r"\+[1-9][0-9]{6,14}", number.e164, re.ASCII)


def test_a_lead_s_numbers_are_kept_in_their_order() -> None:
    numbers = (
        LeadNumber("+12125550100", ("America/New_York",), "mobile", "US-NY"),
        LeadNumber("+80012345678"),
    )
    text = numbers_to_json(numbers)
    assert text == '[["+12125550100",["America/New_York"],"mobile","US-NY"],["+80012345678",[],"unknown",null]]'
    assert numbers_from_json(text) == numbers
    assert numbers_from_json("[]") == ()
