"""What a rule says of a call."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import attrs


@attrs.frozen
class Verdict:
    """What one rule says of a call at a moment.

    `rule` is a slug, stored and counted: never rename one. `reason` is for a person: a part of a sentence, which says
    what was found and where. `allowed_at` is the moment asked about when it is allowed; a later one when that is the
    first at which this rule will allow the call, as far as is known today; None when it never will by itself.
    """

    rule: str
    allowed: bool
    reason: str
    allowed_at: datetime | None


def allowed(rule: str, reason: str, now: datetime) -> Verdict:
    """`rule` has nothing against a call at `now`."""
    return Verdict(rule, True, reason, now)


def forbidden(rule: str, reason: str, until: datetime | None) -> Verdict:
    """`rule` forbids the call until `until`; None: for good, or until a person changes something."""
    return Verdict(rule, False, reason, until)


def gravest(verdicts: Iterable[Verdict]) -> Verdict | None:
    """Of those that forbid, the one that does so longest, the first of equals; None when none forbids."""
    found: Verdict | None = None
    for each in verdicts:
        if each.allowed:
            continue
        if each.allowed_at is None:
            return each
        if found is None or found.allowed_at is None or each.allowed_at > found.allowed_at:
            found = each
    return found
