"""A finished attempt to its record: the disposition, the times, and whether it was abandoned. Pure."""

from __future__ import annotations

from datetime import datetime

import attrs

from campaigns.abandonment import abandoned_of
from campaigns.campaign import Campaign
from campaigns.disposition import Disposition, of_hangup_cause
from campaigns.leases import Lease
from campaigns.tables import CdrRow
from dialer.calls.leg import HungUpBy, Leg
from dialer.calls.originate import shown_number
from dialer.clock import from_microseconds, microseconds


@attrs.frozen
class Ending:
    """What the attempt itself knows of how it went; the rest is on the leg."""

    abandoned: bool = False
    unknown: bool = False
    failure: str = ""  # why the call could not be placed at all
    agent: str = ""
    agent_leg: str = ""
    agent_ended_it: bool = False
    recording: str = ""
    skipped: bool = False  # offered to `agent`, who did not want it
    broadcast: bool = False  # no agent was ever to be there
    machine: bool = False  # what answered was taken for one
    heard: bool = False  # the message to its end, or far enough to press a key
    opted_out: bool = False
    keys: str = ""
    note: str = ""
    failed_over: bool = False  # no phone rang, and another trunk is to try it


def disposition_of(leg: Leg, ending: Ending) -> Disposition:
    """The one outcome of an attempt.

    Somebody who answered, was not bridged and is not known to have hung up themselves was dropped by us: that is
    abandoned, whatever the cause was, so that the legal count can only be too high.
    """
    if ending.failure:
        return Disposition.FAILED
    if ending.skipped:
        return Disposition.SKIPPED
    if ending.opted_out:
        return Disposition.OPTED_OUT
    if ending.machine:
        return Disposition.MACHINE
    if ending.heard:
        return Disposition.MESSAGE_PLAYED
    if leg.bridged_us:
        return Disposition.BRIDGED
    if ending.abandoned:
        return Disposition.ABANDONED
    if ending.unknown or not leg.ended or leg.vanished:
        return Disposition.UNKNOWN
    if leg.answered and ending.broadcast:
        return Disposition.FAILED if leg.hung_up_by is HungUpBy.SWITCH else Disposition.HUNG_UP
    if leg.answered:
        return Disposition.HUNG_UP if leg.hung_up_by is HungUpBy.FAR_END else Disposition.ABANDONED
    if ending.failed_over:
        return Disposition.FAILED_OVER
    return of_hangup_cause(leg.cause, leg.sip_status or None)


def _moment(us: int) -> datetime | None:
    return from_microseconds(us) if us else None


def _milliseconds(start_us: int, end_us: int) -> int | None:
    return max(0, (end_us - start_us) // 1000) if start_us and end_us else None


def _who_hung_up(leg: Leg, ending: Ending) -> str | None:
    if ending.agent_ended_it:
        return "agent"
    if leg.hung_up_by is None or not leg.answered:
        return None
    return "customer" if leg.hung_up_by is HungUpBy.FAR_END else "dialer"


def record_of(
    leg: Leg,
    ending: Ending,
    lease: Lease,
    campaign: Campaign,
    campaign_id: int,
    *,
    caller_id: str,
    node: str,
    originated_at: datetime,
    now: datetime,
) -> CdrRow:
    """The record of an attempt, all times the switch's own where it told them. `caller_id` is the trunk's own."""
    ended_us = leg.ended_us or microseconds(now)
    record = CdrRow(
        attempt_uuid=lease.uuid,
        campaign_id=campaign_id,
        lead_id=lease.lead_id,
        attempt_no=lease.attempt_no,
        number=lease.number,
        gateway=lease.gateway,
        switch=lease.switch,
        caller_id=shown_number(lease.caller_id, campaign, caller_id) or None,
        agent=ending.agent or None,
        agent_leg=ending.agent_leg or None,
        disposition=disposition_of(leg, ending),
        hangup_cause=leg.cause or ("ORIGINATE_REFUSED" if ending.failure else ""),
        sip_status=leg.sip_status or None,
        hung_up_by=_who_hung_up(leg, ending),
        originated_at=originated_at,
        ringing_at=_moment(leg.ringing_us),
        early_media_at=_moment(leg.early_media_us),
        answered_at=_moment(leg.answered_us),
        bridged_at=_moment(leg.bridged_us),
        ended_at=from_microseconds(ended_us),
        ring_ms=_milliseconds(leg.ringing_us or leg.early_media_us, leg.answered_us or ended_us),
        wait_ms=_milliseconds(leg.answered_us, leg.bridged_us or ended_us),
        talk_ms=_milliseconds(leg.bridged_us, ended_us),
        recording=(leg.record_path or ending.recording) or None,
        keys=ending.keys or None,
        note=ending.note or None,
        node=node,
    )
    # A message is what was called for: nobody waits for an agent.
    if ending.machine:
        record.false_positive_permille = round(10 * campaign.machine_false_positive_percent)
    record.abandoned = None if ending.broadcast else abandoned_of(record, campaign.connect_seconds)
    return record
