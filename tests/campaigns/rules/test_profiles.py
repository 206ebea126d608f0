from __future__ import annotations

from datetime import UTC, date, datetime
from typing import get_args

import pytest

from campaigns.campaign import Campaign, Exempt, parse_campaign
from campaigns.rules.callable import RuleBook
from campaigns.rules.candidate import Candidate
from campaigns.rules.profiles import _RULE_OF, Profile, Sources, lifted, profile_of, profiles
from dialer.errors import InputRefusedError

LEAST = 'name = "spring"\ngateways = ["a"]\ncountry = "US"\n'
ANYTIME = '[[windows]]\ndays = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]\nstart = "00:00"\nend = "24:00"\n'
WHERE = {
    "us_tsr": ("US-NY", "America/New_York"),
    "us_fl": ("US-FL", "America/New_York"),
    "uk": ("GB-ENG", "Europe/London"),
    "cn": ("CN", "Asia/Shanghai"),
    "fr": ("FR", "Europe/Paris"),
    "ca": ("CA-ON", "America/Toronto"),
}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_campaigns_may_name_every_profile_there_is() -> None:
    assert set(get_args(Campaign.model_fields["profile"].annotation)) == set(profiles())


@pytest.mark.parametrize("name", profiles())
def test_every_rule_of_a_profile_has_a_source_with_its_date_and_no_other_has(name: str) -> None:
    profile = profiles()[name]
    sourced = {rule for rule in Sources.model_fields if getattr(profile.sources, rule) is not None}
    assert sourced == profile.rules()
    for rule in sourced:
        source = getattr(profile.sources, rule)
        assert source.text
        assert source.url.startswith("http")
        assert date(2026, 1, 1) < source.looked_up


def test_every_setting_of_a_profile_belongs_to_a_rule_that_can_be_lifted() -> None:
    assert set(_RULE_OF) == set(Profile.model_fields) - {"title", "sources"}
    assert set(_RULE_OF.values()) == set(Exempt.model_fields) == set(Sources.model_fields)


def test_nothing_is_left_of_a_profile_whose_every_rule_is_lifted() -> None:
    exempt = Exempt(**dict.fromkeys(Exempt.model_fields, "a reason"))
    for name in profiles():
        assert profiles()[name].without(exempt).rules() == set()


# What each says of a place, in hours there; a campaign that would call around the clock.
@pytest.mark.parametrize(
    ("profile", "now", "allowed_at"),
    [
        ("us_tsr", "2026-11-25 12:59", "2026-11-25 13:00"),  # 8 in New York
        ("us_tsr", "2026-11-26 02:00", "2026-11-26 13:00"),  # 21
        ("us_tsr", "2026-11-29 15:00", "2026-11-29 15:00"),  # a Sunday
        ("us_fl", "2026-11-26 00:59", "2026-11-26 00:59"),
        ("us_fl", "2026-11-26 01:00", "2026-11-26 13:00"),  # 20
        ("uk", "2026-11-25 07:59", "2026-11-25 08:00"),
        ("uk", "2026-11-25 20:59", "2026-11-25 20:59"),
        ("uk", "2026-11-28 08:30", "2026-11-28 09:00"),  # a Saturday
        ("uk", "2026-11-29 12:00", "2026-11-30 08:00"),  # a Sunday
        ("uk", "2026-12-25 12:00", "2026-12-29 08:00"),  # Christmas, Boxing Day and its substitute
        ("cn", "2026-11-25 00:59", "2026-11-25 01:00"),
        ("cn", "2026-11-25 13:00", "2026-11-26 01:00"),
        ("fr", "2026-11-25 08:59", "2026-11-25 09:00"),
        ("fr", "2026-11-25 12:00", "2026-11-25 13:00"),  # the hour of lunch
        ("fr", "2026-11-27 19:00", "2026-11-30 09:00"),  # Friday at 20 to Monday
        ("fr", "2026-07-14 10:00", "2026-07-15 08:00"),
        ("ca", "2026-11-25 13:59", "2026-11-25 14:00"),
        ("ca", "2026-11-26 02:29", "2026-11-26 02:29"),  # 21:29
        ("ca", "2026-11-26 02:30", "2026-11-26 14:00"),
        ("ca", "2026-11-28 14:00", "2026-11-28 15:00"),  # a Saturday
        ("ca", "2026-11-28 23:00", "2026-11-29 15:00"),
    ],
)
def test_the_hours_of_each_profile(profile: str, now: str, allowed_at: str) -> None:
    text = LEAST + f'profile = "{profile}"\ncaller_id = "+12125550100"\n' + ANYTIME
    region, zone = WHERE[profile]
    found = RuleBook(parse_campaign(text, "x"), 1).place_verdict((zone,), region, utc(now))
    assert found.allowed_at == utc(allowed_at)


def test_florida_has_its_own_hours_and_the_rest_of_the_country_the_rule_s() -> None:
    rules = RuleBook(parse_campaign(LEAST + 'profile = "us_fl"\ncaller_id = "+12125550100"\n' + ANYTIME, "x"), 1)
    at_half_past_eight = utc("2026-11-26 01:30")
    assert not rules.place_verdict(("America/New_York",), "US-FL", at_half_past_eight).allowed
    assert rules.place_verdict(("America/New_York",), "US-NY", at_half_past_eight).allowed


def test_a_campaign_may_be_tighter_than_its_profile() -> None:
    text = 'profile = "us_tsr"\ncaller_id = "+12125550100"\nabandon_limit_percent = 1\nconnect_seconds = 1.5\n'
    text += '[[windows]]\ndays = ["wed"]\nstart = "07:00"\nend = "10:00"'
    rules = RuleBook(parse_campaign(LEAST + text, "x"), 1)
    place = ("America/New_York",), "US-NY"
    assert rules.place_verdict(*place, utc("2026-11-25 12:30")).allowed_at == utc("2026-11-25 13:00")  # the law's
    assert rules.place_verdict(*place, utc("2026-11-25 15:00")).allowed_at == utc("2026-12-02 13:00")  # its own


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        (
            'profile = "us_tsr"\nabandon_limit_percent = 5\nconnect_seconds = 3\nring_seconds = 10',
            [
                "abandon_limit_percent = 5.0: should be 3 at most under the profile us_tsr (16 CFR 310.4(b)(4)(i): ",
                "as of 2026-11-27), or exempt.abandon_limit should say why not",
                "connect_seconds = 3.0: should be 2 at most",
                "ring_seconds = 10: should be 15 at least",
                "caller_id = none: should be a number at which the caller can be reached",
            ],
        ),
        ('profile = "ca"\ncaller_id = "12"\nabandon_limit_percent = 6', ["should be 5 at most"]),
        (
            'profile = "us_tsr"\ncaller_id = "12"\nabandoned_opt_out = ""',
            ['abandoned_opt_out = "": should be a key under the profile us_tsr (16 CFR 310.4(b)(1)(v)(B)(ii)'],
        ),
        (
            'profile = "us_fl"\ncaller_id = "12"\nmode = "broadcast"\nmessage = "silence_stream://9"\n'
            'message_keys = { opt_out = "" }',
            ['message_keys.opt_out = "": should be a key'],
        ),
        ('profile = "de"', ["'us_tsr', 'us_fl', 'uk', 'cn', 'fr', 'ca' or 'none'"]),
        ('exempt = { calling_hours = "B2B" }', ['exempt.calling_hours = "B2B": the profile none has no such rule']),
        (
            'profile = "ca"\ncaller_id = "12"\nexempt = { cap = "B2B" }',
            ["it has abandon_limit, caller_id, calling_hours, connect_seconds, consent"],
        ),
        ('exempt = { hours = "B2B" }', ["there is no such setting"]),
        ('profile = "fr"\nexempt = { consent = "a\\nb" }', ["exempt.consent"]),
    ],
)
def test_what_is_laxer_is_refused_with_the_source(text: str, complaints: list[str]) -> None:
    with pytest.raises(InputRefusedError) as refused:
        parse_campaign(LEAST + text, "spring.toml")
    for complaint in complaints:
        assert complaint in str(refused.value)


def test_with_a_reason_a_rule_is_lifted_and_the_reason_kept_and_shown() -> None:
    text = (
        'profile = "fr"\nexempt = { calling_hours = "asked for it", caller_id = "the trunk shows one" }\n' + ANYTIME
    )
    campaign = parse_campaign(LEAST + text, "x")
    assert lifted(campaign) == {"calling_hours": "asked for it", "caller_id": "the trunk shows one"}
    assert profile_of(campaign).rules() == {"closed_day", "cap", "consent", "refused"}
    rules = RuleBook(campaign, 1)
    now = utc("2026-11-28 22:00")  # a Saturday night
    assert rules.place_verdict(("Europe/Paris",), "FR", now).allowed
    shown = rules.verdicts(Candidate(1, "+33145678901", ("Europe/Paris",), "FR"), (), (), now)
    assert [each.reason for each in shown if each.allowed and "asked for it" in each.reason] == [
        "the rule of the profile fr does not hold for this campaign: asked for it"
    ]


def test_with_a_reason_a_campaign_may_abandon_more() -> None:
    text = 'profile = "us_tsr"\ncaller_id = "12"\nabandon_limit_percent = 5\nexempt = { abandon_limit = "B2B" }'
    assert parse_campaign(LEAST + text, "x").abandon_limit_percent == 5


def test_a_broadcast_abandons_nobody_but_needs_consent() -> None:
    text = 'mode = "broadcast"\nmessage = "a.wav"\nprofile = "uk"\ncaller_id = "12"\nconnect_seconds = 5\n'
    rules = RuleBook(parse_campaign(LEAST + text + "holidays = false", "x"), 1)
    mine = Candidate(1, "+442071838750", ("Europe/London",), "GB-ENG")
    assert rules.verdict(mine, (), (), utc("2026-11-25 12:00")).rule == "consent"
    with_agents = parse_campaign(LEAST + 'profile = "uk"\ncaller_id = "12"', "x")
    assert RuleBook(with_agents, 1).verdict(mine, (), (), utc("2026-11-25 12:00")).allowed
