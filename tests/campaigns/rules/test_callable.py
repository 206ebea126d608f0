from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.campaign import CallingHours, Campaign, Cap, Day, Exempt, Retries
from campaigns.rules.callable import RULES, RuleBook
from campaigns.rules.candidate import Candidate, PastCall, SuppressionEntry
from campaigns.rules.verdict import Verdict, gravest

NOW = datetime(2026, 11, 25, 16, tzinfo=UTC)  # Wednesday, eleven in New York
HOUR = timedelta(hours=1)
WEEK: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
NEVER = datetime.max.replace(tzinfo=UTC)
LEAD = Candidate(7, "+12125550100", ("America/New_York",), "US-NY", account="smith")
LISTED = SuppressionEntry("+1212", True, "system", "", "a register", NOW + 2 * HOUR)
CALL = PastCall(NOW - HOUR, 1, None, 7, "+12125550100", "smith", "a")


LA = ("America/Los_Angeles",)


def campaign(**settings: Any) -> Campaign:
    return Campaign.model_validate({"name": "spring", "gateways": ("a", "b"), "country": "US", **settings})


@pytest.mark.parametrize(
    ("settings", "changes", "history", "entries", "rule", "until"),
    [
        ({}, {}, (), (), "callable", NOW),
        # attempts
        ({}, {"attempts": 2}, (), (), "callable", NOW),
        ({}, {"attempts": 3}, (), (), "attempts", None),
        ({}, {"attempts": 3, "callback_at": NOW - HOUR}, (), (), "callable", NOW),  # it was promised
        # a number that is nowhere
        ({}, {"zones": ()}, (), (), "zone", None),
        ({"timezone": "America/New_York"}, {"zones": ()}, (), (), "callable", NOW),
        # hours and days; under a profile it is the callee's clock that counts, where it is known
        ({"timezone": "America/New_York"}, {"zones": LA}, (), (), "callable", NOW),
        ({"timezone": "America/New_York", "profile": "us_tsr"}, {"zones": LA}, (), (), "calling_hours", NOW + HOUR),
        ({"timezone": "America/New_York", "profile": "us_tsr"}, {"zones": ()}, (), (), "callable", NOW),
        (
            {
                "timezone": "America/New_York",
                "profile": "us_tsr",
                "exempt": Exempt(calling_hours="they asked for it"),
            },
            {"zones": LA},
            (),
            (),
            "callable",
            NOW,
        ),
        ({}, {"zones": ("America/Los_Angeles",)}, (), (), "calling_hours", NOW + HOUR),
        ({}, {"callback_at": NOW, "zones": ("America/Los_Angeles",)}, (), (), "calling_hours", NOW + HOUR),
        ({"closed_days": (NOW.date(),)}, {}, (), (), "closed_day", NOW + 22 * HOUR),
        ({"holidays": True}, {"region": "US-NY"}, (), (), "callable", NOW),
        # lists
        ({}, {}, (), (LISTED,), "suppressed", NOW + 2 * HOUR),
        ({}, {}, (), (attrs.evolve(LISTED, expires_at=None),), "suppressed", None),
        # consent
        ({"consent": "any"}, {}, (), (), "consent", None),
        ({"consent": "any"}, {"consent_at": NOW - HOUR}, (), (), "callable", NOW),
        # rests: nobody there, a machine, a refusal
        ({}, {"abandoned_at": NOW - 71 * HOUR}, (), (), "lockout", NOW + HOUR),
        ({}, {"abandoned_at": NOW - 72 * HOUR}, (), (), "callable", NOW),
        ({"abandoned_lockout_hours": 0.0}, {"abandoned_at": NOW}, (), (), "callable", NOW),
        (
            {"abandoned_lockout_hours": 0.0, "profile": "uk"},
            {"abandoned_at": NOW - HOUR},
            (),
            (),
            "lockout",
            NOW + 71 * HOUR,
        ),
        ({}, {"machine_at": NOW - HOUR}, (), (), "callable", NOW),
        ({"profile": "uk"}, {"machine_at": NOW - HOUR}, (), (), "lockout", NOW + 23 * HOUR),
        ({}, {"refused_at": NOW - HOUR}, (), (), "callable", NOW),
        # two whole days after that of the refusal: midnight in New York
        ({"retries": Retries(refusal_rest_days=2)}, {"refused_at": NOW - HOUR}, (), (), "refused", NOW + 61 * HOUR),
        (
            {"retries": Retries(refusal_rest_days=2)},
            {"refused_at": NOW - 59 * HOUR},
            (),
            (),
            "refused",
            NOW + 13 * HOUR,
        ),
        ({"retries": Retries(refusal_rest_days=2)}, {"refused_at": NOW - 84 * HOUR}, (), (), "callable", NOW),
        # caps
        ({"caps": (Cap(most=1, hours=24),)}, {}, (CALL,), (), "cap", NOW + 23 * HOUR),
        ({"caps": (Cap(most=2, hours=24), Cap(most=1, hours=2))}, {}, (CALL,), (), "cap", NOW + HOUR),
        # of several, the one that forbids longest; never is longest
        ({}, {"abandoned_at": NOW - 71 * HOUR}, (), (LISTED,), "suppressed", NOW + 2 * HOUR),
        ({"caps": (Cap(most=1, hours=24),)}, {}, (CALL,), (LISTED,), "cap", NOW + 23 * HOUR),
        ({"consent": "any", "caps": (Cap(most=1, hours=24),)}, {}, (CALL,), (LISTED,), "consent", None),
    ],
)
def test_each_rule_forbids_and_says_until_when(
    settings: dict[str, Any],
    changes: dict[str, Any],
    history: Sequence[PastCall],
    entries: Sequence[SuppressionEntry],
    rule: str,
    until: datetime | None,
) -> None:
    rules, lead = RuleBook(campaign(**settings), 1), attrs.evolve(LEAD, **changes)
    found = rules.verdict(lead, history, entries, NOW)
    assert (found.rule, found.allowed_at) == (rule, until)
    assert found.allowed == (rule == "callable")
    assert found.reason
    place = rules.place_verdict(lead.zones, lead.region, NOW)
    assert rules.verdict(lead, history, entries, NOW, place) == found


@pytest.mark.parametrize(
    ("settings", "changes", "entries", "rule", "first"),
    [
        ({}, {}, (), "callable", NOW),
        ({}, {}, (LISTED,), "callable", NOW + 2 * HOUR),
        # one opens when the other is shut: at 22:00, and then at 9:00 of the next day
        ({}, {}, (attrs.evolve(LISTED, expires_at=NOW + 11 * HOUR),), "callable", NOW + 22 * HOUR),
        ({}, {}, (attrs.evolve(LISTED, expires_at=None),), "suppressed", None),
        # consent is there today, and not any more when the list allows it
        ({"consent": "any", "consent_days": 1}, {"consent_at": NOW - 23 * HOUR}, (LISTED,), "consent", None),
    ],
)
def test_the_first_moment_that_all_rules_allow(
    settings: dict[str, Any],
    changes: dict[str, Any],
    entries: Sequence[SuppressionEntry],
    rule: str,
    first: datetime | None,
) -> None:
    found = RuleBook(campaign(**settings), 1).earliest(attrs.evolve(LEAD, **changes), entries, NOW)
    assert (found.rule, found.allowed_at) == (rule, first)


def test_people_are_told_of_every_rule_in_order() -> None:
    caps = (Cap(most=1, hours=24), Cap(most=5, days=7))
    found = RuleBook(campaign(caps=caps), 1).verdicts(LEAD, [CALL], [LISTED], NOW)
    assert [each.rule for each in found] == [*RULES, "cap"]
    assert {each.rule for each in found if not each.allowed} == {"suppressed", "cap"}
    assert all(each.reason for each in found)
    assert all(each.allowed_at == NOW for each in found if each.allowed)


def test_a_lead_of_before_regions_were_known_has_the_holidays_of_the_campaign_s_country() -> None:
    rules = RuleBook(campaign(holidays=True), 1)
    assert rules.place_verdict(("America/New_York",), None, NOW + 24 * HOUR).rule == "closed_day"  # Thanksgiving


def test_calls_of_a_year_ago_are_not_asked_for_without_a_cap() -> None:
    assert RuleBook(campaign(), 1).history_since(NOW) is None
    assert RuleBook(campaign(caps=(Cap(most=1, days=2),)), 1).history_since(NOW) == NOW - 48 * HOUR
    of_the_law = RuleBook(campaign(profile="fr"), 1).history_since(NOW)
    assert of_the_law is not None
    assert of_the_law <= NOW - 30 * 24 * HOUR


def test_a_gateway_that_has_had_its_calls_is_left_out_and_only_all_of_them_forbid_the_call() -> None:
    rules = RuleBook(campaign(caps=(Cap(of="gateway", most=1, hours=24),)), 1)
    through_b = attrs.evolve(CALL, gateway="b", opened_at=NOW - 5 * HOUR)
    assert list(rules.full_gateways(LEAD, [CALL], NOW)) == ["a"]
    assert rules.verdict(LEAD, [CALL], [], NOW).allowed
    assert rules.verdict(LEAD, [CALL, through_b], [], NOW).allowed_at == NOW + 19 * HOUR


def test_an_exempt_cap_of_the_law_does_not_count() -> None:
    calls = [attrs.evolve(CALL, opened_at=NOW - n * HOUR) for n in (1, 2, 3)]
    consented = attrs.evolve(LEAD, consent_at=NOW - HOUR, consent_evidence="form 7")
    law, lifted = campaign(profile="us_fl"), campaign(profile="us_fl", exempt={"cap": "one matter each"})
    assert RuleBook(law, 1).verdict(consented, calls, [], NOW).rule == "cap"
    assert RuleBook(lifted, 1).verdict(consented, calls, [], NOW).allowed


def moments(of: Sequence[Verdict]) -> list[datetime]:
    return [each.allowed_at or NEVER for each in of]


ZONES = ["America/New_York", "America/Los_Angeles", "Australia/Lord_Howe", "Asia/Kathmandu"]
clocks = st.sampled_from(["2026-03-07", "2026-04-04", "2026-10-31", "2026-11-25"]).flatmap(
    lambda day: st.integers(0, 3 * 24 * 60).map(
        lambda minute: datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(minutes=minute)
    )
)
caps = st.builds(
    lambda most, span, kind, of: Cap.model_validate({"most": most, kind: span, "of": of}),
    most=st.integers(1, 2),
    span=st.integers(1, 30),
    kind=st.sampled_from(["hours", "days", "calendar_days"]),
    of=st.sampled_from(["number", "lead", "account", "gateway"]),
)


@st.composite
def windows(draw: st.DrawFn) -> CallingHours:
    start = draw(st.integers(0, 14))
    days = draw(st.lists(st.sampled_from(WEEK), min_size=3, unique=True))
    return CallingHours(days=tuple(days), start=time(start), end=time(draw(st.integers(start + 8, 23))))


@st.composite
def campaigns(draw: st.DrawFn) -> Campaign:
    return campaign(
        profile=draw(st.sampled_from(["none", "us_tsr", "us_fl", "uk", "cn", "fr", "ca"])),
        timezone=draw(st.none() | st.none() | st.sampled_from(ZONES)),
        windows=tuple(draw(st.lists(windows(), min_size=1, max_size=2))),
        caps=tuple(draw(st.lists(caps, max_size=2))),
        consent=draw(st.sampled_from(["none", "any", "written"])),
        retries=Retries(refusal_rest_days=draw(st.sampled_from([0, 2]))),
        holidays=draw(st.booleans()),
    )


def ago(hours: int) -> st.SearchStrategy[timedelta]:
    return st.integers(0, hours * 60).map(lambda minutes: timedelta(minutes=minutes))


@st.composite
def asked(draw: st.DrawFn) -> tuple[Candidate, list[PastCall], list[SuppressionEntry], datetime]:
    now = draw(clocks)
    moment = st.none() | ago(100).map(lambda span: now - span)
    candidate = Candidate(
        7,
        "+12125550100",
        tuple(draw(st.lists(st.sampled_from(ZONES), max_size=2, unique=True))),
        draw(st.sampled_from([None, "US", "US-FL", "FR"])),
        attempts=draw(st.integers(0, 3)),
        consent_at=draw(moment),
        consent_evidence=draw(st.sampled_from([None, "form 7"])),
        abandoned_at=draw(moment),
        machine_at=draw(moment),
        refused_at=draw(moment),
        callback_at=draw(moment),
    )
    history = [
        attrs.evolve(CALL, opened_at=now - span, gateway=draw(st.sampled_from(["a", "b"])))
        for span in draw(st.lists(ago(60), max_size=4))
    ]
    entries = [
        attrs.evolve(LISTED, pattern=draw(st.sampled_from(["+1", "+1646"])), expires_at=now - span + 50 * HOUR)
        for span in draw(st.lists(ago(100), max_size=2))
    ]
    return candidate, history, entries, now


@settings(max_examples=60, deadline=None)
@given(campaign=campaigns(), question=asked())
def test_the_one_verdict_is_the_gravest_of_all(
    campaign: Campaign, question: tuple[Candidate, list[PastCall], list[SuppressionEntry], datetime]
) -> None:
    rules = RuleBook(campaign, 1)
    candidate, *_, now = question
    one, every = rules.verdict(*question), rules.verdicts(*question)
    assert one.allowed == all(each.allowed for each in every)
    assert one == (gravest(every) or one)
    assert (one.allowed_at or NEVER) == max(moments(every))
    assert [each.rule for each in every] == sorted((each.rule for each in every), key=RULES.index)
    place = rules.place_verdict(candidate.zones, candidate.region, now)
    assert rules.verdict(*question, place) == one


@settings(max_examples=40, deadline=None)
@given(campaign=campaigns(), question=asked())
def test_when_the_moment_comes_that_rule_allows_the_call(
    campaign: Campaign, question: tuple[Candidate, list[PastCall], list[SuppressionEntry], datetime]
) -> None:
    rules = RuleBook(campaign, 1)
    candidate, history, entries, _ = question
    for index, each in enumerate(rules.verdicts(*question)):
        if each.allowed or each.allowed_at is None:
            continue
        instant = timedelta(microseconds=1)
        assert rules.verdicts(candidate, history, entries, each.allowed_at)[index].allowed
        if each.rule in ("calling_hours", "closed_day"):  # what forbids last a moment before may be the other one
            assert not rules.place_verdict(candidate.zones, candidate.region, each.allowed_at - instant).allowed
        else:
            assert not rules.verdicts(candidate, history, entries, each.allowed_at - instant)[index].allowed


@settings(max_examples=40, deadline=None)
@given(campaign=campaigns(), more=caps, question=asked())
def test_another_rule_never_allows_more(
    campaign: Campaign, more: Cap, question: tuple[Candidate, list[PastCall], list[SuppressionEntry], datetime]
) -> None:
    def until(campaign: Campaign) -> datetime:
        return RuleBook(campaign, 1).verdict(*question).allowed_at or NEVER

    mine = until(campaign)
    for changes in (
        {"caps": (*campaign.caps, more)},
        {"consent": "written"},
        {"holidays": True},
        {"closed_days": (question[3].date(),)},
        {"retries": Retries(refusal_rest_days=5)},
        {"consent_days": 1},
    ):
        assert until(campaign.model_copy(update=changes)) >= mine
    if campaign.timezone is None:  # under a profile it is another clock that counts
        assert until(campaign.model_copy(update={"profile": "none"})) <= mine
    candidate, history, entries, now = question
    rules = RuleBook(campaign, 1)
    listed = rules.verdict(candidate, history, [*entries, attrs.evolve(LISTED, expires_at=now + HOUR)], now)
    assert (listed.allowed_at or NEVER) >= mine
    called = rules.verdict(candidate, [*history, attrs.evolve(CALL, opened_at=now)], entries, now)
    assert (called.allowed_at or NEVER) >= mine


@pytest.mark.parametrize("profile", ["none", "us_tsr", "us_fl", "uk", "cn", "fr", "ca"])
@pytest.mark.parametrize("more", [{}, {"caps": (Cap(of="account", most=1, hours=24),)}, {"consent": "written"}])
@pytest.mark.parametrize("zones", [(), ("America/New_York",), ("America/New_York", "America/Los_Angeles")])
@pytest.mark.parametrize("attempts", [0, 3])
def test_leads_without_a_story_are_judged_alike(
    profile: str, more: dict[str, Any], zones: tuple[str, ...], attempts: int
) -> None:
    """The hopper asks once for all that have the same zones, region and attempts, and nothing else on record."""
    book = RuleBook(campaign(profile=profile, **more), 1)
    one = Candidate(7, "+12125550100", zones, "US-NY", attempts=attempts)
    other = Candidate(8, "+12125550199", zones, "US-NY", "smith", attempts)
    assert book.verdict(one, (), (), NOW) == book.verdict(other, (), (), NOW)
