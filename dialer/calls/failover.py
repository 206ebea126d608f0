"""What the end of a call says of its trunk, and whether another trunk is to try it. Pure.

A trunk is judged by its answer to the INVITE alone: a call that rang, was answered, or was refused by the person or
for the number has gone through, whatever became of it. The never-retry list is looked at first: nobody who is busy is
called again at once because of an odd cause beside the 486.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from dialer.calls.leg import Leg
from dialer.settings import GatewaySettings


class Sign(Enum):
    """What one call says of its trunk."""

    WELL = auto()  # it carried the call to somebody, or to nobody's number
    FAULT = auto()  # it would not carry it
    NEITHER = auto()  # nothing: we ended it, or the switch was out of sight


# We took the call back, or the time for ringing was over.
_OUR_OWN: Final = frozenset({"ORIGINATOR_CANCEL", "NO_ANSWER"})


def sign_of(settings: GatewaySettings, leg: Leg) -> Sign:
    """What the call on `leg` says of the trunk with `settings`, as far as is known now."""
    if leg.ringing_us or leg.early_media_us or leg.answered:
        return Sign.WELL
    if not leg.ended or leg.vanished:
        return Sign.NEITHER
    if leg.cause in _OUR_OWN:  # the trunk had said nothing yet; FreeSWITCH makes a 487 of it
        return Sign.NEITHER
    if _listed(settings.never_retry_on, leg):
        return Sign.WELL
    return Sign.FAULT if _listed(settings.fail_over_on, leg) else Sign.NEITHER


def failure_of(leg: Leg) -> str:
    """How the call on `leg` failed, as it is listed: `503 NORMAL_TEMPORARY_FAILURE`."""
    return " ".join(str(part) for part in (leg.sip_status, leg.cause) if part)


def _listed(failures: Sequence[str], leg: Leg) -> bool:
    status = str(leg.sip_status) if leg.sip_status else ""
    return leg.cause in failures or (status != "" and (status in failures or f"{status[0]}xx" in failures))


def goes_on(sign: Sign, gateway: str, failed: Sequence[str], others: Sequence[str]) -> bool:
    """Whether a call that ended with `sign` on `gateway` is to be tried over another trunk.

    `others` are those that might take it now, `failed` those that failed this lead since it was last called.
    """
    return sign is Sign.FAULT and any(name != gateway and name not in failed for name in others)
