from __future__ import annotations

import pytest

from campaigns.disposition import CAUSES, Disposition, of_hangup_cause

# FreeSWITCH 1.10, switch_channel.c, CAUSE_CHART.
_CHART = """
NONE UNALLOCATED_NUMBER NO_ROUTE_TRANSIT_NET NO_ROUTE_DESTINATION CHANNEL_UNACCEPTABLE CALL_AWARDED_DELIVERED
NORMAL_CLEARING USER_BUSY NO_USER_RESPONSE NO_ANSWER SUBSCRIBER_ABSENT CALL_REJECTED NUMBER_CHANGED
REDIRECTION_TO_NEW_DESTINATION EXCHANGE_ROUTING_ERROR DESTINATION_OUT_OF_ORDER INVALID_NUMBER_FORMAT FACILITY_REJECTED
RESPONSE_TO_STATUS_ENQUIRY NORMAL_UNSPECIFIED NORMAL_CIRCUIT_CONGESTION NETWORK_OUT_OF_ORDER NORMAL_TEMPORARY_FAILURE
SWITCH_CONGESTION ACCESS_INFO_DISCARDED REQUESTED_CHAN_UNAVAIL PRE_EMPTED FACILITY_NOT_SUBSCRIBED OUTGOING_CALL_BARRED
INCOMING_CALL_BARRED BEARERCAPABILITY_NOTAUTH BEARERCAPABILITY_NOTAVAIL SERVICE_UNAVAILABLE BEARERCAPABILITY_NOTIMPL
CHAN_NOT_IMPLEMENTED FACILITY_NOT_IMPLEMENTED SERVICE_NOT_IMPLEMENTED INVALID_CALL_REFERENCE INCOMPATIBLE_DESTINATION
INVALID_MSG_UNSPECIFIED MANDATORY_IE_MISSING MESSAGE_TYPE_NONEXIST WRONG_MESSAGE IE_NONEXIST INVALID_IE_CONTENTS
WRONG_CALL_STATE RECOVERY_ON_TIMER_EXPIRE MANDATORY_IE_LENGTH_ERROR PROTOCOL_ERROR INTERWORKING SUCCESS
ORIGINATOR_CANCEL CRASH SYSTEM_SHUTDOWN LOSE_RACE MANAGER_REQUEST BLIND_TRANSFER ATTENDED_TRANSFER ALLOTTED_TIMEOUT
USER_CHALLENGE MEDIA_TIMEOUT PICKED_OFF USER_NOT_REGISTERED PROGRESS_TIMEOUT INVALID_GATEWAY GATEWAY_DOWN INVALID_URL
INVALID_PROFILE NO_PICKUP SRTP_READ_ERROR BOWOUT BUSY_EVERYWHERE DECLINE DOES_NOT_EXIST_ANYWHERE NOT_ACCEPTABLE
UNWANTED NO_IDENTITY BAD_IDENTITY_INFO UNSUPPORTED_CERTIFICATE INVALID_IDENTITY STALE_DATE REJECT_ALL
"""
ALL_CAUSES = _CHART.split()


def test_every_cause_of_freeswitch_has_a_disposition_and_no_other() -> None:
    assert set(CAUSES) == set(ALL_CAUSES)
    assert len(ALL_CAUSES) == len(set(ALL_CAUSES)) == 82


def test_a_call_that_was_never_answered_is_never_one_of_the_answered_outcomes() -> None:
    answered = {Disposition.BRIDGED, Disposition.ABANDONED, Disposition.HUNG_UP}
    answered |= {Disposition.MESSAGE_PLAYED, Disposition.OPTED_OUT, Disposition.MACHINE}
    assert not answered & set(CAUSES.values())


@pytest.mark.parametrize(
    ("cause", "disposition"),
    [
        ("USER_BUSY", Disposition.BUSY),  # SIP 486
        ("UNALLOCATED_NUMBER", Disposition.INVALID_NUMBER),  # 404
        ("NORMAL_TEMPORARY_FAILURE", Disposition.CONGESTION),  # 503
        ("CALL_REJECTED", Disposition.REJECTED),  # 603
        ("NO_ANSWER", Disposition.NO_ANSWER),  # the ring time was over
        ("NO_USER_RESPONSE", Disposition.NO_ANSWER),  # 480
        ("ORIGINATOR_CANCEL", Disposition.CANCELLED),  # our uuid_kill
        ("INVALID_GATEWAY", Disposition.CONGESTION),
        ("SYSTEM_SHUTDOWN", Disposition.CONGESTION),
        ("NEVER_HEARD_OF", Disposition.FAILED),
        ("", Disposition.FAILED),
    ],
)
def test_what_a_cause_means(cause: str, disposition: Disposition) -> None:
    assert of_hangup_cause(cause) is disposition


@pytest.mark.parametrize(
    ("sip_status", "disposition"),
    [
        (603, Disposition.REJECTED),
        (None, Disposition.REJECTED),
        (401, Disposition.CONGESTION),
        (402, Disposition.CONGESTION),
        (407, Disposition.CONGESTION),
        (403, Disposition.FAILED),
    ],
)
def test_a_trunk_that_refuses_us_does_not_end_leads_for_good(
    sip_status: int | None, disposition: Disposition
) -> None:
    assert of_hangup_cause("CALL_REJECTED", sip_status) is disposition


def test_a_status_changes_nothing_of_other_causes() -> None:
    assert of_hangup_cause("USER_BUSY", 403) is Disposition.BUSY
