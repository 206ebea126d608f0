"""What rules are told of a lead: the number whose turn it is, the calls there have been, the lists it is on."""

from __future__ import annotations

from datetime import datetime

import attrs


@attrs.frozen
class Candidate:
    """A lead that is due, by the number whose turn it is.

    `zones` are where the number may be, and `region` what its prefix or its list says of the place: a country like
    US, or a part of one like US-FL. `attempts` have been made at the lead, not at this number alone.
    """

    lead_id: int
    number: str
    zones: tuple[str, ...] = ()
    region: str | None = None
    account: str | None = None
    attempts: int = 0
    consent_at: datetime | None = None
    consent_evidence: str | None = None
    # As the lead's history has them: nobody was there for the person, a machine answered, the person refused.
    abandoned_at: datetime | None = None
    machine_at: datetime | None = None
    refused_at: datetime | None = None
    callback_at: datetime | None = None  # promised to the person


@attrs.frozen
class PastCall:
    """A call that was made to the number, the lead or the account: one that counts, as an attempt at least."""

    opened_at: datetime
    campaign_id: int
    seller: str | None
    lead_id: int
    number: str
    account: str | None
    gateway: str
    caller_id: str | None = None
    answered: bool = False
    talked: bool = False


@attrs.frozen
class SuppressionEntry:
    """A number, or all numbers that begin alike, that must not be called by those in its scope."""

    pattern: str
    is_prefix: bool
    scope: str  # system, seller or campaign
    scope_name: str  # which seller or campaign; empty for system
    source: str
    expires_at: datetime | None = None
