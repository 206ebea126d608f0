"""How one attempt ended: a closed list, and what each FreeSWITCH hang-up cause means for it.

The table answers one question only: a call that was *never answered* ended with this cause, so what do we know about
the lead? What happens after an answer (bridged, abandoned, hung up) is the attempt's own story and is not read off a
cause.

Four groups matter, because `recycle` treats them differently:

* the person's side spoke (busy, no answer, rejected): try again later, or never;
* the number itself is wrong (invalid number): never again;
* the trunk, the network or our own switch was in trouble (congestion): the lead has done nothing wrong, try soon;
* nothing fits (failed): a person should look, the lead waits its turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class Disposition(StrEnum):
    """The outcome of one attempt. The values are stored and exported: never rename one."""

    BRIDGED = "bridged"  # the person spoke to an agent
    ABANDONED = "abandoned"  # answered, and no agent was there in time
    HUNG_UP = "hung_up"  # answered, and gone before an agent was there, or before the end of the message
    MESSAGE_PLAYED = "message_played"  # heard a broadcast's message to its end, or pressed a key on it
    OPTED_OUT = "opted_out"  # pressed the key that ends such calls for good
    MACHINE = "machine"  # answered, and taken for an answering machine
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    REJECTED = "rejected"  # somebody, or somebody's network, does not want this call
    INVALID_NUMBER = "invalid_number"
    CONGESTION = "congestion"  # the network or a trunk, for the moment
    CANCELLED = "cancelled"  # we took it back
    FAILED = "failed"  # none of the above
    UNKNOWN = "unknown"  # the switch was out of sight and does not know the call any more
    SKIPPED = "skipped"  # an agent saw the lead and did not want it: no call was placed
    FAILED_OVER = "failed_over"  # the trunk would not carry it: the lead goes to another one


# How calls end that no trunk would carry.
REFUSED_BY_TRUNKS = frozenset({Disposition.CONGESTION, Disposition.FAILED})
UNCOUNTED = frozenset({Disposition.SKIPPED, Disposition.FAILED_OVER})
"""What is no attempt at the lead: no phone has rung."""


_TABLE: dict[Disposition, str] = {
    Disposition.NO_ANSWER: """
        NORMAL_CLEARING NO_USER_RESPONSE NO_ANSWER SUBSCRIBER_ABSENT ALLOTTED_TIMEOUT NO_PICKUP
        USER_NOT_REGISTERED
    """,
    Disposition.BUSY: "USER_BUSY BUSY_EVERYWHERE",
    Disposition.REJECTED: "CALL_REJECTED DECLINE UNWANTED REJECT_ALL INCOMING_CALL_BARRED",
    Disposition.INVALID_NUMBER: """
        UNALLOCATED_NUMBER INVALID_NUMBER_FORMAT NUMBER_CHANGED DOES_NOT_EXIST_ANYWHERE
    """,
    # RECOVERY_ON_TIMER_EXPIRE is SIP 408 and 504, and also a gateway that does not reply to the INVITE at all.
    # PROGRESS_TIMEOUT is one that has not said in time whether the number rings, where it is given a time.
    # SYSTEM_SHUTDOWN and CRASH are our own switch: the lead is as good as before.
    Disposition.CONGESTION: """
        NORMAL_TEMPORARY_FAILURE NORMAL_CIRCUIT_CONGESTION SWITCH_CONGESTION NETWORK_OUT_OF_ORDER
        DESTINATION_OUT_OF_ORDER REQUESTED_CHAN_UNAVAIL CHANNEL_UNACCEPTABLE NO_ROUTE_TRANSIT_NET
        BEARERCAPABILITY_NOTAVAIL EXCHANGE_ROUTING_ERROR PRE_EMPTED ACCESS_INFO_DISCARDED RECOVERY_ON_TIMER_EXPIRE
        PROGRESS_TIMEOUT SERVICE_UNAVAILABLE GATEWAY_DOWN INVALID_GATEWAY INVALID_PROFILE SYSTEM_SHUTDOWN CRASH
    """,
    Disposition.CANCELLED: """
        ORIGINATOR_CANCEL LOSE_RACE MANAGER_REQUEST PICKED_OFF BOWOUT BLIND_TRANSFER ATTENDED_TRANSFER
    """,
    Disposition.FAILED: """
        NONE SUCCESS NORMAL_UNSPECIFIED NO_ROUTE_DESTINATION CALL_AWARDED_DELIVERED REDIRECTION_TO_NEW_DESTINATION
        FACILITY_REJECTED FACILITY_NOT_SUBSCRIBED FACILITY_NOT_IMPLEMENTED RESPONSE_TO_STATUS_ENQUIRY
        OUTGOING_CALL_BARRED BEARERCAPABILITY_NOTAUTH BEARERCAPABILITY_NOTIMPL CHAN_NOT_IMPLEMENTED
        SERVICE_NOT_IMPLEMENTED INVALID_CALL_REFERENCE INCOMPATIBLE_DESTINATION INVALID_MSG_UNSPECIFIED
        MANDATORY_IE_MISSING MESSAGE_TYPE_NONEXIST WRONG_MESSAGE IE_NONEXIST INVALID_IE_CONTENTS WRONG_CALL_STATE
        MANDATORY_IE_LENGTH_ERROR PROTOCOL_ERROR INTERWORKING USER_CHALLENGE MEDIA_TIMEOUT INVALID_URL SRTP_READ_ERROR
        NOT_ACCEPTABLE NO_IDENTITY BAD_IDENTITY_INFO UNSUPPORTED_CERTIFICATE INVALID_IDENTITY STALE_DATE
    """,
}

CAUSES: Mapping[str, Disposition] = MappingProxyType(
    {cause: disposition for disposition, causes in _TABLE.items() for cause in causes.split()}
)
"""Every hang-up cause FreeSWITCH 1.10 can name, and what it means for a call that was never answered."""

# FreeSWITCH makes CALL_REJECTED of these too, though here the trunk refuses *us* (login, money, permission). Taken as
# the person's refusal, one expired trunk password would end a whole list for good.
_TRUNK_REFUSES_US: Mapping[int, Disposition] = MappingProxyType(
    {
        401: Disposition.CONGESTION,
        402: Disposition.CONGESTION,
        403: Disposition.FAILED,  # some carriers also say 403 of a number they do not serve: neither soon nor never
        407: Disposition.CONGESTION,
    }
)


def of_hangup_cause(cause: str, sip_status: int | None = None) -> Disposition:
    """What `cause` says of a call that was never answered; a cause we do not know is `FAILED`.

    `sip_status`, where it is known, tells a trunk that refuses us from a person who refuses the call.
    """
    disposition = CAUSES.get(cause, Disposition.FAILED)
    if disposition is Disposition.REJECTED and sip_status is not None:
        return _TRUNK_REFUSES_US.get(sip_status, disposition)
    return disposition
