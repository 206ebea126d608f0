"""What the switch is asked for when a customer or a phone is called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from campaigns.campaign import Campaign, Sound
from campaigns.sound_files import sound_files
from dialer.calls.leg import Leg
from dialer.calls.message import apology, broadcast_message
from dialer.calls.originate import agent_call, customer_call, message_call, play
from dialer.esl import commands
from dialer.settings import CallSettings, GatewaySettings, SwitchSettings

UUID = "891ebad9-befe-4171-9569-7c757e361ac0"
GATEWAY = GatewaySettings(
    name="trunk",
    switch="fs",
    freeswitch_gateway="carrier_a",
    number_prefix="00",
    caller_id="+12025550100",
    concurrency=10,
)


def campaign(**changes: object) -> Campaign:
    return Campaign.model_validate({"name": "c", "gateways": ("trunk",), "country": "US", **changes})


def pattern_of(annotated: object) -> str:
    field = annotated.__metadata__[0]  # type: ignore[attr-defined]
    return next(str(one.pattern) for one in field.metadata if getattr(one, "pattern", None))


def test_a_sound_a_campaign_accepts_is_one_that_can_be_sent() -> None:
    assert pattern_of(Sound) == f"^{commands._ARGUMENT.pattern}$"


@given(st.from_regex(r"/[A-Za-z0-9_./@]*", fullmatch=True))
def test_a_sound_file_a_campaign_accepts_can_be_asked_for(sound: str) -> None:
    try:
        accepted = campaign(waiting_sound=sound)
    except ValidationError:
        return
    for path in sound_files(accepted).values():
        commands.FileExists(path)


def test_a_recordings_directory_that_is_accepted_can_be_sent() -> None:
    directory = SwitchSettings(name="fs").recordings_dir
    commands.Record(UUID, f"{directory}/campaign/2026-11-21/{UUID}.wav")


def test_a_customer_is_called_through_the_trunk_and_hears_the_waiting_sound_that_ends_by_itself() -> None:
    line = customer_call(UUID, "+442071234567", GATEWAY, campaign(), CallSettings(), "node").line()
    assert "}sofia/gateway/carrier_a/00442071234567 'endless_playback:tone_stream://" in line
    assert f"{{origination_uuid={UUID},dialer_attempt={UUID},dialer_node=node,ignore_early_media=true," in line
    assert "originate_timeout=30,hangup_after_bridge=false,origination_caller_id_number=+12025550100" in line
    # past the 2 s a person waits and the second a bridge may take, and later than any deadline of the daemon's own
    assert "execute_on_answer='sched_hangup +11 NO_USER_RESPONSE'" in line
    assert line.endswith(" inline")


def test_a_number_as_the_trunk_wants_it_and_a_trunk_that_must_say_something_in_time() -> None:
    national = GATEWAY.model_copy(update={"number_strip": "+44", "number_prefix": "0", "progress_seconds": 7})
    line = customer_call(UUID, "+442071234567", national, campaign(), CallSettings(), "node").line()
    assert "}sofia/gateway/carrier_a/02071234567 " in line
    assert ",leg_progress_timeout=7," in line
    plain = customer_call(UUID, "+442071234567", GATEWAY, campaign(), CallSettings(), "node").line()
    assert "progress_timeout" not in plain


@pytest.mark.parametrize(
    ("pooled", "of_campaign", "shown"),
    [
        (None, None, "+12025550100"),
        (None, "+18005550199", "+18005550199"),
        ("+12125550111", None, "+12125550111"),
        ("+12125550111", "+18005550199", "+12125550111"),
    ],
)
def test_the_number_that_people_see(pooled: str | None, of_campaign: str | None, shown: str) -> None:
    spring = campaign(mode="broadcast", message="/sounds/a.wav", caller_id=of_campaign)
    number, settings = "+442071234567", CallSettings()
    call = customer_call(UUID, number, GATEWAY, spring, settings, "node", pooled=pooled)
    message = message_call(UUID, number, GATEWAY, spring, settings, "node", pooled=pooled)
    assert call.variables["origination_caller_id_number"] == shown
    assert message.variables["origination_caller_id_number"] == shown


def test_a_message_ends_by_itself_and_only_the_key_that_opts_out_cuts_it() -> None:
    spring = campaign(mode="broadcast", message="/sounds/a.wav", message_key_seconds=4)
    line = message_call(UUID, "+442071234567", GATEWAY, spring, CallSettings(), "node").line()
    program = (
        "'set:park_timeout=4:NORMAL_CLEARING,set:playback_terminators=9,set:playback_samples=0,"
        "playback:/sounds/a.wav,park' inline"
    )
    assert line.endswith(f"}}sofia/gateway/carrier_a/00442071234567 {program}")
    assert play(UUID, broadcast_message(spring)).line() == f"uuid_transfer {UUID} {program}"
    # the message and three repeats, at their longest
    assert "execute_on_answer='sched_hangup +264 NO_USER_RESPONSE'" in line


def test_who_waits_for_a_phone_to_be_picked_up_is_not_cut_before() -> None:
    line = customer_call(
        UUID, "+12025550123", GATEWAY, campaign(phones="on_demand", agent_ring_seconds=20), CallSettings(), "node"
    ).line()
    seconds = int(re.findall(r"sched_hangup \+(\d+)", line)[0])
    assert seconds > 2 + 20 + 1


@pytest.mark.parametrize("nailed_up", [True, False])
def test_a_nailed_up_leg_comes_back_to_park_and_never_has_a_park_timeout(nailed_up: bool) -> None:
    line = agent_call(
        UUID, "1001", "example.org", campaign(auto_answer=True), CallSettings(), "node", nailed_up=nailed_up
    ).line()
    assert ("park_after_bridge=true" in line) == nailed_up
    assert ("hangup_after_bridge=true" in line) != nailed_up
    assert "park_timeout" not in line
    assert "sip_auto_answer=true" in line
    assert "execute_on_answer='sched_hangup +300 " in line
    assert line.endswith("}user/1001@example.org 'park' inline")


@pytest.mark.parametrize(("key", "seconds", "terminators"), [("7", 5, "7"), ("", 0, "none")])
def test_the_message_for_whom_there_was_nobody_hangs_up_by_itself(key: str, seconds: int, terminators: str) -> None:
    message = apology(campaign(abandoned_opt_out=key), Leg(UUID))
    assert play(UUID, message).line() == (
        f"uuid_transfer {UUID} "
        f"'set:park_timeout={seconds}:NORMAL_CLEARING,set:playback_terminators={terminators},set:playback_samples=0,"
        "playback:tone_stream://%(1000\\,500\\,350\\,440);loops=2,park' inline"
    )
