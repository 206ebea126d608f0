from __future__ import annotations

import tomllib
from datetime import date, time
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from campaigns.campaign import (
    AgentDisposition,
    CallingHours,
    Campaign,
    Cap,
    Delays,
    Exempt,
    MessageKeys,
    MostTries,
    NextNumber,
    Retries,
    dump,
    load,
    parse_campaign,
)
from campaigns.disposition import UNCOUNTED, Disposition
from dialer.errors import InputRefusedError

SAMPLE = Path(__file__).parents[2] / "config" / "campaign.toml"
LEAST = 'name = "spring"\ngateways = ["a"]\ncountry = "US"\n'


def test_the_sample_has_every_setting_and_its_default() -> None:
    text = SAMPLE.read_text()
    sample = parse_campaign(text, "sample")
    least = Campaign(name=sample.name, gateways=sample.gateways, country=sample.country)
    assert sample == least

    shown = tomllib.loads(text)
    commented = {line[2:].split(" = ")[0] for line in text.splitlines() if line.startswith("# ") and " = " in line}
    for setting, field in Campaign.model_fields.items():
        assert (setting in commented) if field.default is None else (setting in shown), setting
    assert set(shown["windows"][0]) == set(CallingHours.model_fields)
    assert set(shown["message_keys"]) == set(MessageKeys.model_fields)
    assert set(shown["retries"]) == set(Retries.model_fields)
    assert set(shown["retries"]["delay_seconds"]) == set(Delays.model_fields)
    assert set(shown["retries"]["most_tries"]) == set(MostTries.model_fields)
    assert set(shown["retries"]["next_number"]) == set(NextNumber.model_fields)
    assert set(shown["exempt"]) == set(Exempt.model_fields)
    for setting in (*Cap.model_fields, *AgentDisposition.model_fields):  # which have tables of their own, if any
        assert setting in text, setting


def test_each_outcome_that_does_not_end_a_lead_has_its_retries() -> None:
    final = {Disposition.BRIDGED, Disposition.MESSAGE_PLAYED, Disposition.OPTED_OUT, Disposition.FAILED_OVER}
    assert Disposition.FAILED_OVER in UNCOUNTED
    for model in (Delays, MostTries, NextNumber):
        assert set(model.model_fields) == {each.value for each in Disposition if each not in final}


def test_what_is_commented_out_in_the_sample_would_be_accepted() -> None:
    lines = [
        line.removeprefix("# ") if line.startswith("# ") and " = " in line else line
        for line in SAMPLE.read_text().splitlines()
    ]
    text = "\n".join(lines).replace("dispositions = []", 'dispositions = [{ name = "no_sale" }]')
    campaign = parse_campaign(text, "sample")
    assert campaign.timezone
    assert campaign.caller_id
    assert campaign.max_calls_in_flight


@pytest.mark.parametrize(
    "model",
    [
        AgentDisposition,
        CallingHours,
        Campaign,
        Cap,
        Delays,
        Exempt,
        MessageKeys,
        MostTries,
        NextNumber,
        Retries,
    ],
)
def test_every_setting_is_described(model: type[BaseModel]) -> None:
    assert all(field.description for field in model.model_fields.values())


def test_everything_wrong_is_said_at_once_with_place_value_and_what_would_be_right() -> None:
    text = """
        name = "A b"
        gateways = []
        conect_seconds = 3
        ring_seconds = "30"
        record = 1
        timezone = "Nowhere/Town"
        mode = "predictif"
        waiting_sound = "a\\nb"
        [[windows]]
        days = ["mon", "xx"]
        start = "9"
        end = "20:00"
        [retries.delay_seconds]
        busy = -1
    """
    with pytest.raises(InputRefusedError) as refused:
        parse_campaign(text, "spring.toml")
    lines = str(refused.value).splitlines()
    assert all(line.startswith("spring.toml: ") for line in lines)
    expected = [
        ('name = "A b"', "Lower-case"),
        ("gateways = []", "at least 1 item"),
        ("country: is missing", "ISO 3166"),
        ("conect_seconds = 3", "did you mean connect_seconds?"),
        ('ring_seconds = "30"', "should be a valid integer. Seconds"),
        ("record = 1", "should be a valid boolean"),
        ('timezone = "Nowhere/Town"', "like Europe/Berlin"),
        ('mode = "predictif"', "should be 'progressive', 'ratio', 'predictive'"),
        ("waiting_sound", "file or stream"),
        ('windows[0].days[1] = "xx"', "'sat' or 'sun'"),
        ('windows[0].start = "9"', "like 09:00"),
        ("retries.delay_seconds.busy = -1", 'or "never"'),
    ]
    for place, right in expected:
        assert any(place in line and right in line for line in lines), (place, lines)
    assert len(lines) == len(expected), lines


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "is not TOML"),
        ("name = " + "[" * 3_000, "is not TOML: it is nested deeper than 16"),
        ("a." * 1_000 + "a = 1", "is not TOML: it is nested deeper than 16"),
        ("max_calls_in_flight = " + "1" * 5_000, "is not TOML: Exceeds the limit"),
        ("max_calls_in_flight = 0x" + "f" * 4_000, "is not TOML: it has a number of more than 64 bits"),
        (LEAST + '"a\\nb" = 1', r"'a\nb' = 1: there is no such setting"),
        (LEAST + "connect_seconds = 0.4", "connect_seconds = 0.4: should be greater than or equal to 0.5"),
        (LEAST + "connect_seconds = nan", "connect_seconds"),
        (LEAST + 'waiting_sound = "/"', 'waiting_sound = "/": should be the path of a file, not of a folder'),
        (LEAST + 'abandoned_message = "/sounds/@@8000"', "not of a folder"),
        (LEAST + "ring_seconds = 121", "less than or equal to 120"),
        (LEAST.replace('["a"]', '["a", "a"]'), "each gateway once"),
        (LEAST.replace('["a"]', '["a\\nb"]'), "gateways[0]"),
        (LEAST.replace("US", "us"), "in capitals"),
        (LEAST + '[[windows]]\ndays=["mon"]\nstart="20:00"\nend="09:00"', "end should be later than start, 20:00"),
        (LEAST + '[[windows]]\ndays=["mon"]\nstart="09:00+01:00"\nend="20:00"', "no offset"),
        (LEAST + "[retries]\nmax_attempts = 0", "retries.max_attempts = 0"),
        (LEAST + '[retries.delay_seconds]\nbusy = "later"', 'retries.delay_seconds.busy = "later"'),
        (LEAST + "[retries.delay_seconds]\nbridged = 3", "there is no such setting"),
        (
            LEAST + 'mode = "ratio"\ncalls_per_agent = 0.9',
            "calls_per_agent = 0.9: should be greater than or equal to 1",
        ),
        (LEAST + 'mode = "broadcast"', "message is missing"),
        (LEAST + 'mode = "broadcast"\nmessage = "a.wav"\nignore_early_media = "false"', '"true" or "consume"'),
        (LEAST + '[message_keys]\nopt_out = "10"', 'message_keys.opt_out = "10"'),
        (LEAST + '[message_keys]\nopt_out = "1"', "should be two keys, and both are 1"),
        (LEAST + '[message_keys]\nagent = "2"', "there are opt_out, repeat"),
        (LEAST + 'seller = "Acme Inc."', 'seller = "Acme Inc."'),
        (LEAST + "closed_days = [2026-02-30]", "is not TOML"),
        (LEAST + 'closed_days = ["soon"]', "closed_days[0]"),
        (LEAST + '[[windows]]\ndays=["mon"]\nstart="09:00"\nend="20:00"\nregions=["Florida"]', "like US or US-FL"),
        (LEAST + '[[windows]]\ndays=["mon"]\nstart="09:00"\nend="20:00"\nregions=["US-fl"]', "windows[0].regions[0]"),
        (LEAST + "caps = [{ most = 3 }]", "exactly one of hours, days and calendar_days"),
        (LEAST + "caps = [{ most = 3, hours = 1, days = 1 }]", "exactly one of hours, days and calendar_days"),
        (LEAST + "caps = [{ most = 0, hours = 1 }]", "caps[0].most = 0"),
        (LEAST + "caps = [{ hours = 1 }]", "caps[0].most: is missing. So many, and no more"),
        (LEAST + 'caps = [{ most = 1, hours = 1, of = "person" }]', "'number', 'lead', 'account' or 'gateway'"),
        (LEAST + 'dispositions = [{ name = "a" }, { name = "a" }]', "a name of its own, and two have a"),
        (
            LEAST + 'dispositions = [{ name = "a", key = "1" }, { name = "b", key = "1" }]',
            "a key of its own, and two have 1",
        ),
        (LEAST + 'dispositions = [{ name = "busy" }]', "an outcome of the dialer's own"),
        (LEAST + 'dispositions = [{ name = "a", then = "sell" }]', "dispositions[0].then"),
        (
            LEAST + 'default_disposition = "b"\ndispositions = [{ name = "a" }]',
            "the name of one of dispositions, of which there are: a",
        ),
        (
            LEAST + 'default_disposition = "a"\ndispositions = [{ name = "a", then = "callback" }]',
            "none that promises a call-back",
        ),
        (LEAST + "[retries.most_tries]\nbusy = -1", "retries.most_tries.busy = -1"),
        (LEAST + '[retries.next_number]\nbusy = "soon"', 'seconds between 0 and 31622400, or "never"'),
        ("", "country: is missing"),
    ],
)
def test_nonsense_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InputRefusedError, match=r"spring\.toml") as refused:
        parse_campaign(text, "spring.toml")
    assert complaint in str(refused.value)


def test_a_broadcast_has_a_message_and_may_do_without_keys() -> None:
    text = LEAST + 'mode = "broadcast"\nmessage = "a.wav"\nmessage_keys = { opt_out = "", repeat = "" }'
    campaign = parse_campaign(text, "x")
    assert (campaign.message, campaign.message_keys) == ("a.wav", MessageKeys(opt_out="", repeat=""))


def test_times_may_be_toml_times_and_a_day_ends_at_24() -> None:
    text = LEAST + '[[windows]]\ndays=["sun"]\nstart=08:30:00\nend="24:00"'
    hours = parse_campaign(text, "x").windows[0]
    assert (hours.start, hours.end) == (time(8, 30), time(0))


def test_what_is_dumped_can_be_loaded() -> None:
    campaign = parse_campaign(SAMPLE.read_text(), "sample")
    other = parse_campaign(LEAST + '[retries.delay_seconds]\nbusy = "never"\nrejected = 60', "x")
    assert load(dump(campaign)) == campaign
    assert load(dump(other)) == other
    assert other.retries.delay_seconds.busy == "never"


def test_a_definition_of_an_older_version_has_the_defaults_of_what_is_new() -> None:
    assert load('{"name": "spring", "gateways": ["a"], "country": "US"}').ring_seconds == 30


def test_a_campaign_with_everything_is_read_and_kept() -> None:
    text = """
        seller = "acme"
        profile = "fr"
        caller_id = "+33145678901"
        closed_days = [2026-12-24]
        caps = [{ most = 3, hours = 24 }, { of = "account", most = 2, calendar_days = 7, across = "all" }]
        default_disposition = "no_sale"
        exempt = { consent = "they are customers" }
        [[windows]]
        days = ["mon"]
        start = "09:00"
        end = "12:00"
        regions = ["FR", "FR-971"]
        [[dispositions]]
        name = "no_sale"
        title = "Keine Lust"
        then = "recycle"
        refusal = true
        key = "2"
    """
    campaign = parse_campaign(LEAST + text, "x")
    assert load(dump(campaign)) == campaign
    assert campaign.closed_days == (date(2026, 12, 24),)
    assert str(campaign.caps[1]) == "at most 2 attempts per account in 7 calendar days"
    assert campaign.windows[0].regions == ("FR", "FR-971")
    chosen = campaign.disposition_called("no_sale")
    assert chosen is not None
    assert (chosen.title, chosen.then, chosen.refusal) == ("Keine Lust", "recycle", True)
    assert campaign.disposition_called("sale") is None
    assert hash(campaign) == hash(load(dump(campaign)))


def test_a_campaign_that_a_later_law_would_refuse_can_still_be_loaded() -> None:
    lax = '{"name": "spring", "gateways": ["a"], "country": "US", "profile": "us_tsr", "abandon_limit_percent": 5.0}'
    assert load(lax).abandon_limit_percent == 5.0


def test_campaigns_are_values() -> None:
    campaign = parse_campaign(LEAST, "x")
    with pytest.raises(ValidationError):
        campaign.ring_seconds = 3  # type: ignore[misc]
    assert hash(campaign) == hash(parse_campaign(LEAST, "y"))
