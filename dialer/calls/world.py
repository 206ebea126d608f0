"""What an attempt needs of the rest of the house, in one value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import attrs

from campaigns.leases import Lease
from campaigns.opt_out import OptOut
from campaigns.recycle import NextStep
from campaigns.rules.callable import RuleBook
from campaigns.tables import CdrRow
from dialer.agents.roster import Roster
from dialer.calls.gateway import Gateways
from dialer.calls.live_calls import LiveCalls
from dialer.clock import Clock
from dialer.clock_check import ClockCheck
from dialer.esl.switch import Switch
from dialer.metrics import Metrics
from dialer.pacing.throttle import Throttle
from dialer.settings import CallSettings, SwitchSettings


class Ledger(Protocol):
    """Where attempts are written down; see records/ledger.py."""

    async def close(
        self,
        record: CdrRow,
        step: NextStep,
        *,
        opt_out: OptOut | None = None,
        default_outcome: str | None = None,
    ) -> None:
        """Result, record and the lead's next step, in one transaction. Keeps trying until it is written."""
        ...

    async def suppress(self, opt_out: OptOut) -> None:
        """Somebody wants no more calls. Keeps trying until it is written, in its next life if need be."""
        ...

    async def send(self, lease: Lease, book: RuleBook) -> bool:
        """What was only offered is about to be sent. Keeps trying until it is written; False if it must not be."""
        ...

    async def return_unsent(self, lease: Lease) -> None:
        """The call was never placed: the lead is as if never leased."""
        ...


@attrs.define(eq=False)
class World:
    """The parts every call uses. Built once, by the composition root; `calls` may be replaced by newer settings."""

    node: str
    clock: Clock
    calls: CallSettings
    switches: Mapping[str, Switch]
    switch_settings: Mapping[str, SwitchSettings]
    gateways: Gateways
    roster: Roster
    live_calls: LiveCalls
    ledger: Ledger
    metrics: Metrics
    clock_check: ClockCheck
    throttle: Throttle = attrs.field(factory=Throttle)
    # Why a switch that is there may not be as it is believed to be, until it has been looked at.
    doubts: dict[str, str] = attrs.field(factory=dict)
    # Messages that could not be played, by switch and sound, and when (trio's time).
    unplayable: dict[tuple[str, str], float] = attrs.field(factory=dict)
    # Whether a switch has an application, and when it was asked (trio's time).
    applications: dict[tuple[str, str], tuple[bool, float]] = attrs.field(factory=dict)
    # Whether a switch has a file, and when it was asked (trio's time).
    files: dict[tuple[str, str], tuple[bool, float]] = attrs.field(factory=dict)
