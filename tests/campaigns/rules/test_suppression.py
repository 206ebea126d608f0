from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.rules.candidate import SuppressionEntry
from campaigns.rules.suppression import concerns, prefixes_of, suppressed

NOW = datetime(2026, 11, 25, 16, tzinfo=UTC)
HOUR = timedelta(hours=1)
NUMBER = "+4917212345678"


def entry(
    pattern: str = NUMBER,
    scope: str = "system",
    name: str = "",
    *,
    prefix: bool = False,
    expires_at: datetime | None = None,
) -> SuppressionEntry:
    return SuppressionEntry(pattern, prefix, scope, name, "Bloctel", expires_at)


@pytest.mark.parametrize(
    ("entries", "forbidden", "until"),
    [
        ([], False, None),
        ([entry()], True, None),
        ([entry("+4917212345679")], False, None),
        ([entry("+49172")], False, None),  # a short number is no prefix
        ([entry("+49172", prefix=True)], True, None),
        ([entry("+4918", prefix=True)], False, None),
        ([entry(NUMBER, prefix=True)], True, None),
        # scopes
        ([entry(scope="seller", name="acme")], True, None),
        ([entry(scope="seller", name="other")], False, None),
        ([entry(scope="campaign", name="spring")], True, None),
        ([entry(scope="campaign", name="acme")], False, None),
        ([entry(scope="seller", name="spring")], False, None),
        # expiry: the last of them, and the moment itself is free again
        ([entry(expires_at=NOW + HOUR)], True, NOW + HOUR),
        ([entry(expires_at=NOW)], False, None),
        ([entry(expires_at=NOW + HOUR), entry("+49", prefix=True, expires_at=NOW + 3 * HOUR)], True, NOW + 3 * HOUR),
        ([entry(expires_at=NOW + HOUR), entry("+49", prefix=True)], True, None),
        ([entry(expires_at=NOW - HOUR), entry(expires_at=NOW + HOUR)], True, NOW + HOUR),
    ],
)
def test_what_is_forbidden_and_until_when(
    entries: Sequence[SuppressionEntry], forbidden: bool, until: datetime | None
) -> None:
    found = suppressed(entries, NUMBER, campaign="spring", seller="acme", now=NOW)
    assert (found is not None) == forbidden
    if found is not None:
        assert (found.rule, found.allowed, found.allowed_at) == ("suppressed", False, until)


def test_a_campaign_without_a_seller_is_of_no_seller_s_list() -> None:
    of_nobody = entry(scope="seller", name="")
    assert not concerns(of_nobody, NUMBER, campaign="spring", seller=None, now=NOW)


def test_the_reason_names_the_list_and_where_the_entry_is_from() -> None:
    found = suppressed(
        [entry("+49172", "seller", "acme", prefix=True, expires_at=NOW + HOUR)],
        NUMBER,
        campaign="spring",
        seller="acme",
        now=NOW,
    )
    assert found is not None
    assert found.reason == (
        "all numbers with +49172 on the do-not-call list of the seller acme (from Bloctel), "
        "until 2026-11-25 17:00 UTC"
    )
    assert NUMBER not in found.reason


def test_a_scope_that_is_none_is_not_taken_for_one_that_allows() -> None:
    with pytest.raises(ValueError, match="'seler' is no scope"):
        concerns(entry(scope="seler"), NUMBER, campaign="spring", seller=None, now=NOW)


def test_prefixes_are_looked_up_by_the_lengths_there_are() -> None:
    assert prefixes_of("+4917212", {3, 6, 20}) == ["+49", "+49172"]
    assert prefixes_of("+4917212", set()) == []
    assert prefixes_of("+49", [3]) == ["+49"]


@given(pattern=st.from_regex(r"\+[0-9]{1,9}", fullmatch=True), number=st.from_regex(r"\+[0-9]{7,9}", fullmatch=True))
def test_a_prefix_forbids_exactly_what_is_looked_up_by_it(pattern: str, number: str) -> None:
    found = concerns(entry(pattern, prefix=True), number, campaign="spring", seller=None, now=NOW)
    assert found == (pattern in prefixes_of(number, {len(pattern)}))
