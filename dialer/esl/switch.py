"""Keeps a link to one FreeSWITCH through every loss.

Each connection is an epoch with a number of its own. A new epoch is not open for dialing until `on_epoch` has put
our beliefs right (registrations, agents, calls in flight): only the application can rebuild its state.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
import structlog
import trio

from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.esl.commands import Command
from dialer.esl.conversation import LoginRefusedError, SequenceJumped, Ticket
from dialer.esl.link import Link, LinkLimits, run_link
from dialer.esl.messages import Event
from dialer.esl.subscription import DIALER, Subscription

log = structlog.get_logger()

BACKOFF_FIRST_SECONDS: Final = 0.1
BACKOFF_LAST_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0


def backoff_seconds(attempt: int, rng: random.Random) -> float:
    """How long to wait before the connect after `attempt` failed ones: doubling, capped, with full jitter above half.

    Many daemons whose switch restarted must not come back in step.
    """
    ceiling = min(BACKOFF_LAST_SECONDS, BACKOFF_FIRST_SECONDS * 2 ** min(attempt, 16))
    return float(ceiling * rng.uniform(0.5, 1.0))


@attrs.frozen
class SwitchAddress:
    """Where a FreeSWITCH's event socket is. `name` is what people call this switch."""

    name: str
    host: str
    port: int
    password: str = attrs.field(repr=False)


Connect = Callable[[SwitchAddress], Awaitable[trio.abc.Stream]]


async def connect_tcp(address: SwitchAddress) -> trio.abc.Stream:
    """Opens a TCP connection without Nagle's delay. Raises OSError."""
    with trio.fail_after(CONNECT_SECONDS):
        return await trio.open_tcp_stream(address.host, address.port)


class Switch:
    """One FreeSWITCH. `run` keeps the link; everything else uses it and gets UnavailableError while it is away."""

    def __init__(
        self,
        address: SwitchAddress,
        *,
        rng: random.Random,
        limits: LinkLimits | None = None,
        subscription: Subscription = DIALER,
        connect: Connect = connect_tcp,
    ) -> None:
        self.address = address
        self.epoch = 0
        self.events_received = 0
        self.sequence_jumps = 0
        self.last_loss = ""
        self._rng = rng
        self._limits = limits or LinkLimits()
        self._subscription = subscription
        self._connect = connect
        self._link: Link | None = None
        self._epoch_opened = 0
        self._open_for_dialing = trio.Event()

    def __repr__(self) -> str:
        return f"<Switch {self.name} epoch {self.epoch} {'ready' if self.ready else 'away'} {self._link!r}>"

    @property
    def name(self) -> str:
        return self.address.name

    @property
    def ready(self) -> bool:
        """The link lives and our beliefs have been put right over it: dialing is allowed."""
        return self._open_for_dialing.is_set()

    @property
    def connected(self) -> bool:
        return self._link is not None

    async def wait_ready(self) -> None:
        while not self.ready:
            await self._open_for_dialing.wait()

    def submit(self, command: Command, job_uuid: str | None = None) -> Ticket:
        """Sends without waiting; see Link.submit."""
        return self._living_link().submit(command, job_uuid)

    async def run_command(self, command: Command, *, within_seconds: float = 5.0) -> str:
        """Sends and waits for the job's result; see Link.run."""
        return await self._living_link().run(command, within_seconds=within_seconds)

    async def submit_accepted(self, command: Command, job_uuid: str) -> None:
        """Sends and waits until the switch has taken the command; its result comes as a BACKGROUND_JOB event.

        For calls: raises UnavailableError also while the epoch is not open, since whoever puts our beliefs right
        must not meet a call that is only just on its way. Otherwise raises as Link.accepted does.
        """
        if not self.ready:
            raise UnavailableError(f"the switch {self.name!r} is away: {self.last_loss or 'not ready yet'}")
        link = self._living_link()
        await link.accepted(link.submit(command, job_uuid))

    async def refused(self, ticket: Ticket) -> None:
        """See Link.refused."""
        if self._link is not None:
            await self._link.refused(ticket)

    def drop_link(self, reason: str) -> None:
        """Ends the link if there is one: what it tells is not to be trusted. The next is tried at once."""
        if self._link is not None:
            self._link.drop(reason)

    def _living_link(self) -> Link:
        if self._link is None:
            raise UnavailableError(f"the switch {self.name!r} is away: {self.last_loss or 'not connected yet'}")
        return self._link

    async def run(
        self,
        *,
        on_event: Callable[[Event], None],
        on_epoch: Callable[[Switch], Awaitable[None]],
        on_jump: Callable[[SequenceJumped], None] = lambda _jump: None,
        on_lost: Callable[[Switch], None] = lambda _switch: None,
    ) -> None:
        """Connects, logs in, subscribes, calls `on_epoch`, and begins again whenever the link is lost. Never returns.

        `on_event` is called for each event in order, `on_jump` where some seem to be missing; neither must block.
        `on_epoch` may use the link and may raise
        UnavailableError or OutcomeUnknownError, which ends the epoch. Raises LoginRefusedError: a wrong password is
        neither retried nor hidden.
        """
        failures = 0
        while True:
            epoch_before = self.epoch
            self.last_loss = await self._live_once(on_event, on_epoch, on_jump)
            had_link = self.epoch != epoch_before
            if had_link and self._epoch_opened == self.epoch:
                failures = 0  # one that was never opened is a failure too, or it would be tried ten times a second
            if had_link:
                log.warning("switch_lost", switch=self.name, epoch=self.epoch, reason=self.last_loss)
                on_lost(self)
            elif failures in (0, 5) or failures % 60 == 0:
                log.warning("switch_unreachable", switch=self.name, reason=self.last_loss, tries=failures + 1)
            await trio.sleep(backoff_seconds(failures, self._rng))
            failures += 1

    async def _live_once(
        self,
        on_event: Callable[[Event], None],
        on_epoch: Callable[[Switch], Awaitable[None]],
        on_jump: Callable[[SequenceJumped], None],
    ) -> str:
        address = self.address
        try:
            stream = await self._connect(address)
        except (OSError, trio.TooSlowError) as error:
            return f"no connection to {address.host}:{address.port} ({str(error) or 'too slow'})"

        def count_and_pass(event: Event) -> None:
            self.events_received += 1
            on_event(event)

        def count_jump(jump: SequenceJumped) -> None:
            self.sequence_jumps += 1
            log.warning("events_lost_suspected", switch=self.name, expected=jump.expected, received=jump.received)
            on_jump(jump)

        reason = "the new epoch could not be opened"
        refused: LoginRefusedError | None = None
        async with trio.open_nursery() as nursery:

            async def open_epoch(link: Link) -> None:
                nonlocal reason
                try:
                    await on_epoch(self)
                except (UnavailableError, OutcomeUnknownError) as error:
                    reason = f"the new epoch could not be opened: {error}"
                    nursery.cancel_scope.cancel()
                    return
                if self._link is link:  # it may be lost by now, if `on_epoch` could not be cancelled
                    self._epoch_opened = self.epoch
                    self._open_for_dialing.set()
                    log.info("switch_ready", switch=self.name, epoch=self.epoch)

            def ended() -> None:
                self._link = None
                if self.ready:  # else somebody waits on it, and is to see the next epoch opened
                    self._open_for_dialing = trio.Event()

            def ready(link: Link) -> None:
                self._link = link
                self.epoch += 1
                log.info("switch_connected", switch=self.name, epoch=self.epoch)
                nursery.start_soon(open_epoch, link)

            try:
                reason = await run_link(
                    stream,
                    password=address.password,
                    subscription=self._subscription,
                    peer=f"the event socket of {address.name!r} at {address.host}:{address.port}",
                    limits=self._limits,
                    on_ready=ready,
                    on_event=count_and_pass,
                    on_jump=count_jump,
                    on_end=ended,
                )
            except LoginRefusedError as error:  # carried past the nursery, which would wrap it in a group
                refused = error
            finally:
                nursery.cancel_scope.cancel()
        if refused is not None:
            raise refused
        return reason
