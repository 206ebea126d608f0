"""Which entry of a do-not-call list forbids a number.

An entry is a number or a prefix. It is for everybody (system), for the campaigns of one seller, or for one campaign,
and may expire. Storage looks entries up by the number and its prefixes, all at once; what they mean is decided here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from campaigns.rules.candidate import SuppressionEntry
from campaigns.rules.verdict import Verdict, forbidden

RULE = "suppressed"


def prefixes_of(number: str, lengths: Collection[int]) -> list[str]:
    """What `number` (E.164) begins with, of so many characters, the plus among them: to look prefixes up with."""
    return [number[:length] for length in sorted(lengths) if 0 < length <= len(number)]


def concerns(entry: SuppressionEntry, number: str, *, campaign: str, seller: str | None, now: datetime) -> bool:
    """Whether `entry` forbids `number` to `campaign` at `now`."""
    if entry.expires_at is not None and entry.expires_at <= now:
        return False
    if not (number.startswith(entry.pattern) if entry.is_prefix else number == entry.pattern):
        return False
    match entry.scope:
        case "system":
            return True
        case "seller":
            return seller is not None and entry.scope_name == seller
        case "campaign":
            return entry.scope_name == campaign
    raise ValueError(f"{entry.scope!r} is no scope; there are system, seller and campaign")


def forbidding(
    entries: Iterable[SuppressionEntry], number: str, *, campaign: str, seller: str | None, now: datetime
) -> SuppressionEntry | None:
    """Of `entries`, the one that forbids `number` longest; None when none does."""
    found: SuppressionEntry | None = None
    for entry in entries:
        if not concerns(entry, number, campaign=campaign, seller=seller, now=now):
            continue
        if entry.expires_at is None:
            return entry
        if found is None or found.expires_at is None or entry.expires_at > found.expires_at:
            found = entry
    return found


def suppressed(
    entries: Iterable[SuppressionEntry], number: str, *, campaign: str, seller: str | None, now: datetime
) -> Verdict | None:
    """What forbids `number`, until it expires; None when nothing does."""
    entry = forbidding(entries, number, campaign=campaign, seller=seller, now=now)
    if entry is None:
        return None
    whose = "of everybody" if entry.scope == "system" else f"of the {entry.scope} {entry.scope_name}"
    what = f"all numbers with {entry.pattern}" if entry.is_prefix else "the number"
    until = f", until {entry.expires_at:%Y-%m-%d %H:%M} UTC" if entry.expires_at is not None else ""
    return forbidden(RULE, f"{what} on the do-not-call list {whose} (from {entry.source}){until}", entry.expires_at)
