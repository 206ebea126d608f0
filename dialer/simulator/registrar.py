"""Which phones are registered, and the sofia events that say so.

An expired registration is noticed by a sweep, up to half a minute late and a minute after it ran out, and its event
has no `from-user`: all as on a real switch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from dialer.simulator.timers import Timer
from dialer.simulator.wire import Pairs

if TYPE_CHECKING:
    from dialer.simulator.machine import Machine

AGENT = "simulated-softphone"
PORT = "7003"
# Sofia keeps a registration this long beyond what the phone asked for.
GRACE = 60


@attrs.define(slots=True)
class Registration:
    """One phone that can be rung."""

    extension: str
    call_id: str
    expires: int  # seconds asked for
    until: int  # epoch, with the grace
    timer: Timer | None = None

    def contact(self, domain: str) -> str:
        return f'"" <sip:{self.extension}@{domain}:7000>'


class Registrar:
    """All registrations of the profile `internal`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._calls = 0
        self.registrations: dict[str, Registration] = {}

    def start(self) -> None:
        """Register, without a word, the phones that are there before anyone listens."""
        for extension, group in sorted(self._machine.population.groups.items()):
            if group.registered:
                self._add(extension, 3600)

    def register(self, extension: str, expires: int = 3600) -> None:
        """The phone registers, or registers again."""
        registration = self._add(extension, expires)
        domain = self._machine.scenario.domain
        pairs = [
            ("profile-name", "internal"),
            ("from-user", extension),
            ("from-host", domain),
            ("presence-hosts", "n/a"),
            ("contact", registration.contact(domain)),
            ("call-id", registration.call_id),
            ("rpid", "unknown"),
            ("status", "Registered(UDP)"),
            ("expires", str(expires)),
            ("to-user", extension),
            ("to-host", domain),
            *self._network(),
            ("username", extension),
            ("realm", domain),
            ("user-agent", AGENT),
            *self._user(extension),
        ]
        self._fire("sofia::register", pairs)

    def expire_by_itself(self, extension: str, expires: int) -> None:
        """The phone registers for `expires` seconds and is never heard of again."""
        self.register(extension, expires)
        period = self._machine.scenario.expiry_sweep_seconds
        due = self._machine.stamp() / 1e6 + expires + GRACE
        wait = expires + GRACE + (period - due % period)
        self.registrations[extension].timer = self._machine.timers.after(wait, self.expire, extension)

    def refuse(self, extension: str) -> None:
        """The phone tries with a wrong password."""
        profile = ("profile-name", "internal")
        domain = self._machine.scenario.domain
        pairs = [profile, ("to-user", extension), ("to-host", domain), ("network-ip", "127.0.0.1")]
        pairs += [("user-agent", AGENT), profile, ("network-port", PORT), ("registration-type", "REGISTER")]
        self._fire("sofia::register_failure", pairs)

    def unregister(self, extension: str) -> None:
        """The phone says goodbye."""
        registration = self._remove(extension)
        if registration is None:
            return
        domain = self._machine.scenario.domain
        pairs = [
            ("profile-name", "internal"),
            ("username", extension),
            ("from-user", extension),
            ("from-host", domain),
            ("contact", registration.contact(domain)),
            ("call-id", registration.call_id),
            ("rpid", "unknown"),
            ("realm", domain),
            *self._network(),
            ("user-agent", AGENT),
            ("expires", "0"),
            *self._user(extension),
        ]
        self._fire("sofia::unregister", pairs)

    def expire(self, extension: str) -> None:
        """The sweep finds the registration run out."""
        registration = self._remove(extension)
        if registration is None:
            return
        domain = self._machine.scenario.domain
        pairs = [
            ("profile-name", "internal"),
            ("call-id", registration.call_id),
            ("user", extension),
            ("username", extension),
            ("host", domain),
            ("contact", registration.contact(domain)),
            ("expires", str(registration.until)),
            ("user-agent", AGENT),
            ("realm", domain),
            *self._network(),
        ]
        self._fire("sofia::expire", pairs)

    def gateway_state(self, gateway: str, up: bool) -> None:
        """A carrier goes or comes."""
        down = self._machine.population.gateways_down
        down.discard(gateway) if up else down.add(gateway)
        status = "UP" if up else "DOWN"
        self._fire("sofia::gateway_state", [("Gateway", gateway), ("State", "NOREG"), ("Ping-Status", status)])

    def _add(self, extension: str, expires: int) -> Registration:
        self._remove(extension)
        self._calls += 1
        until = self._machine.stamp() // 1_000_000 + expires + GRACE
        registration = Registration(extension, f"{self._calls}-11857@{self._machine.scenario.domain}", expires, until)
        self.registrations[extension] = registration
        return registration

    def _remove(self, extension: str) -> Registration | None:
        registration = self.registrations.pop(extension, None)
        if registration is not None and registration.timer is not None:
            registration.timer.cancel()
        return registration

    def _network(self) -> list[tuple[str, str]]:
        return [("network-ip", "127.0.0.1"), ("network-port", PORT)]

    def _user(self, extension: str) -> list[tuple[str, str]]:
        domain = self._machine.scenario.domain
        return [
            ("sip_number_alias", extension),
            ("sip_auth_username", extension),
            ("sip_auth_realm", domain),
            ("number_alias", extension),
            ("user_name", extension),
            ("domain_name", domain),
            ("user_context", "agents"),
        ]

    def _fire(self, subclass: str, pairs: Pairs) -> None:
        self._machine.fire("CUSTOM", after=pairs, subclass=subclass)
