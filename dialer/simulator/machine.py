"""The switch itself: its channels, its events, and how a channel ends.

All of it is plain functions called by commands and timers; nothing here waits. What happens in a real switch on the
channel's own thread, up to one media frame after it was told, happens here after `lag()`. The parts (originating,
applications, bridges, the people) are objects of their own that share this one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from dialer.simulator import header_templates, headers
from dialer.simulator.applications import Applications
from dialer.simulator.bridging import Bridges
from dialer.simulator.channel import CallState, Channel, Side, State
from dialer.simulator.faults import FaultDice
from dialer.simulator.originate import Originator
from dialer.simulator.population import Population
from dialer.simulator.registrar import Registrar
from dialer.simulator.scenario import Scenario
from dialer.simulator.statistics import Tally
from dialer.simulator.timers import Timers
from dialer.simulator.wire import Block, Event, Pairs

# A real switch counts every event in Event-Sequence, also those nobody asked for (CHANNEL_STATE, CALL_UPDATE, API,
# CHANNEL_EXECUTE, …), so a client sees gaps all the time. This many come before each event we do make.
HIDDEN_BEFORE = {
    "CHANNEL_PROGRESS": 2,
    "CHANNEL_PROGRESS_MEDIA": 2,
    "CHANNEL_ANSWER": 3,
    "CHANNEL_BRIDGE": 6,
    "CHANNEL_UNPARK": 4,
    "CHANNEL_PARK": 1,
    "CHANNEL_HANGUP": 1,
    "CHANNEL_HANGUP_COMPLETE": 3,
    "BACKGROUND_JOB": 1,
    "PLAYBACK_START": 2,
    "RECORD_STOP": 1,
    "HEARTBEAT": 1,
}
# Events of a channel that carry no variables.
BARE = frozenset({"DTMF"})
SHUTDOWN_DELAY = 0.26


class Sink(Protocol):
    """Someone who may want events."""

    def offer(self, event: Event) -> None: ...


class Machine:
    """One life of a switch."""

    def __init__(self, scenario: Scenario, *, rng: random.Random, now: Callable[[], datetime]) -> None:
        self.scenario = scenario
        self.rng = rng
        self.now = now
        self.timers = Timers()
        self.faults = FaultDice(scenario.faults, rng)
        self.tally = Tally()
        self.channels: dict[str, Channel] = {}
        self.sinks: list[Sink] = []
        self.history: list[Channel] | None = None
        self.wanted: frozenset[str] = frozenset()
        self.on_shutdown: Callable[[], None] = lambda: None
        self.down = False
        self.core_uuid = self.new_uuid()
        self.started = self.stamp()
        self.sequence = 0
        self.sessions = 0
        self.frame = scenario.frame_ms / 1000
        self.registrar = Registrar(self)
        self.population = Population(self)
        self.applications = Applications(self)
        self.bridges = Bridges(self)
        self.originator = Originator(self)
        self._padding = Block([("variable_padding", "x" * scenario.padding_bytes)] if scenario.padding_bytes else [])

    def __repr__(self) -> str:
        return f"<Machine {self.core_uuid[:8]} channels={len(self.channels)} sequence={self.sequence}>"

    def new_uuid(self) -> str:
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def stamp(self) -> int:
        return headers.microseconds(self.now())

    def lag(self) -> float:
        """How long until a channel's thread comes round: up to one frame."""
        return self.rng.uniform(0, self.frame)

    def restart(self) -> None:
        """All channels gone without a word, a new Core-UUID, the sequence from the beginning."""
        self.timers.clear()
        for channel in self.channels.values():
            channel.cancel_timers()
        self.channels.clear()
        self.population.load = dict.fromkeys(self.population.load, 0)
        self.core_uuid = self.new_uuid()
        self.started = self.stamp()
        self.sequence = 0
        self.sessions = 0
        self.down = False

    # events

    def fire(
        self,
        name: str,
        channel: Channel | None = None,
        *,
        before: Pairs = (),
        after: Pairs = (),
        subclass: str | None = None,
        body: str | None = None,
    ) -> None:
        """Make an event and offer it to every connection."""
        self.tally.events += 1
        self.sequence += HIDDEN_BEFORE.get(name, 0) + 1
        if name not in self.wanted and "ALL" not in self.wanted:
            return
        event = self.event(name, channel, before=before, after=after, subclass=subclass, body=body)
        if self.faults.loses(name):
            return
        late = self.faults.late_by()
        if late:
            self.timers.after(late, self._deliver, event)
        else:
            self._deliver(event)

    def event(
        self,
        name: str,
        channel: Channel | None = None,
        *,
        before: Pairs = (),
        after: Pairs = (),
        subclass: str | None = None,
        body: str | None = None,
    ) -> Event:
        """An event with the number that the sequence is at."""
        blocks = [headers.head_block(self.core_uuid, name, subclass, self.stamp(), self.sequence)]
        if before:
            blocks.append(Block(before))
        if channel is not None:
            blocks += self._channel_blocks(name, channel)
        if after:
            blocks.append(Block(after))
        return Event(name, subclass, self.sequence, tuple(blocks), body)

    def _channel_blocks(self, name: str, channel: Channel) -> list[Block]:
        blocks = [headers.state_block(channel)]
        if channel.is_answered or (channel.progressed_media and name != "CHANNEL_PROGRESS_MEDIA"):
            blocks.append(headers.CODEC)
        if channel.created:
            blocks.append(headers.caller_block(channel))
        other = headers.other_block(channel)
        if other is not None:
            blocks.append(other)
        if name in BARE:
            return blocks
        if self.scenario.realistic_headers and channel.created:
            blocks += headers.fixed_blocks(channel)
        blocks.append(headers.variables_block(channel))
        if self.scenario.padding_bytes:
            blocks.append(self._padding)
        if channel.running is State.REPORTING:
            blocks.append(headers.reporting_block(channel, self.stamp()))
            if self.scenario.realistic_headers and channel.is_answered:
                blocks.append(header_templates.REPORT.fill({}))
        return blocks

    def _deliver(self, event: Event) -> None:
        for sink in self.sinks:
            sink.offer(event)

    def fire_job(self, job: str, command: str, argument: str, text: str) -> None:
        """The result of a `bgapi`."""
        pairs = [("Job-UUID", job), ("Job-Command", command)]
        if argument:
            pairs.append(("Job-Command-Arg", argument))
        self.fire("BACKGROUND_JOB", after=[*pairs, ("Content-Length", str(len(text.encode())))], body=text)

    def heartbeat(self) -> None:
        """HEARTBEAT, with the counts that a real one has."""
        up = (self.stamp() - self.started) // 1000
        pairs = [
            ("Event-Info", "System Ready"),
            ("Up-Time", uptime_text(up)),
            ("FreeSWITCH-Version", "1.11.3-dev+git~20260821T141014Z~cc93a683ca~64bit"),
            ("Uptime-msec", str(up)),
            ("Session-Count", str(len(self.channels))),
            ("Max-Sessions", str(self.scenario.max_sessions)),
            ("Session-Per-Sec", "500"),
            ("Session-Per-Sec-Last", "0"),
            ("Session-Per-Sec-Max", "2"),
            ("Session-Per-Sec-FiveMin", "2"),
            ("Session-Since-Startup", str(self.sessions)),
            ("Session-Peak-Max", str(self.tally.peak_channels)),
            ("Session-Peak-FiveMin", str(self.tally.peak_channels)),
            ("Idle-CPU", "47.933333"),
        ]
        self.fire("HEARTBEAT", after=pairs)

    # channels

    def add(self, channel: Channel) -> None:
        self.channels[channel.uuid] = channel
        if self.history is not None:
            self.history.append(channel)
        self.tally.peak_channels = max(self.tally.peak_channels, len(self.channels))
        if channel.side is Side.CUSTOMER:
            self.tally.originated += 1
        else:
            self.tally.agents_originated += 1

    def find(self, uuid: str) -> Channel | None:
        """A channel that can still be commanded."""
        channel = self.channels.get(uuid)
        return None if channel is None or channel.hung_up else channel

    def answer(self, channel: Channel) -> None:
        """The far end picked up."""
        channel.answered = self.stamp()
        channel.answer_state = "answered"
        channel.changed()
        self.fire("CHANNEL_ANSWER", channel)
        channel.call_state = CallState.ACTIVE
        if not channel.counted:
            pass
        elif channel.side is Side.CUSTOMER:
            self.tally.answered += 1
        else:
            self.tally.agents_answered += 1
        self.bridges.count(channel)
        self.population.answered(channel)

    def hang_up(self, channel: Channel, cause: str = "NORMAL_CLEARING") -> bool:
        """CHANNEL_HANGUP now, the rest when the channel's thread notices. False if it already had."""
        if channel.hung_up:
            return False
        channel.cancel_timers()
        channel.cause = cause
        channel.answer_state = "hangup"
        channel.state = State.HANGUP
        self.fire("CHANNEL_HANGUP", channel)
        channel.hung_up_at = self.stamp()
        channel.changed()
        if channel.is_answered and self.faults.strikes("answer_after_hangup"):
            self.fire("CHANNEL_ANSWER", channel)
        self.timers.after(self.lag(), self._unwind, channel)
        return True

    def far_end_hangs_up(self, channel: Channel, cause: str = "NORMAL_CLEARING") -> bool:
        """The person or the carrier at the other end ends it; False if it was over."""
        channel.ended_by_far_end = not channel.hung_up
        return self.hang_up(channel, cause)

    def lose(self, channel: Channel, cause: str) -> None:
        """A fault takes the channel, counted when it is an agent's."""
        if self.hang_up(channel, cause) and channel.side is Side.PHONE:
            self.tally.agents_lost += 1

    def _unwind(self, channel: Channel) -> None:
        """The channel's thread notices that it is hung up."""
        self.applications.stop(channel)
        self.bridges.leave(channel)
        channel.run_state(State.HANGUP)
        self.applications.stop_recordings(channel)
        channel.run_state(State.REPORTING)
        channel.call_state = CallState.HANGUP
        # The cause is in it twice, as in the real one: a JSON object with a name that repeats.
        self.fire("CHANNEL_HANGUP_COMPLETE", channel, before=[("Hangup-Cause", channel.cause)])
        self.bridges.left_before_it_came(channel)
        self._account(channel)
        if channel.origination is None:
            self.destroy(channel)
        else:  # whoever originates holds the channel until the result is told
            channel.origination.gone(channel)

    def _account(self, channel: Channel) -> None:
        if channel.side is Side.CUSTOMER and channel.counted:
            self.tally.causes[channel.cause] += 1
            if channel.is_answered and not channel.ever_bridged:
                self.tally.abandoned += 1

    def destroy(self, channel: Channel) -> None:
        """The end of it."""
        channel.state = State.DESTROY
        self.fire("CHANNEL_DESTROY", channel)
        if self.channels.pop(channel.uuid, None) is not None and channel.gateway:
            self.population.load[channel.gateway] -= 1

    def hang_up_all(self, cause: str) -> None:
        for channel in list(self.channels.values()):
            self.hang_up(channel, cause)

    def shut_down(self) -> None:
        """`fsctl shutdown`: an event, a notice, and silence."""
        self.timers.after(SHUTDOWN_DELAY, self._shut_down)

    def _shut_down(self) -> None:
        self.fire("SHUTDOWN", after=[("Event-Info", "System Shutting Down")])
        self.restart()
        self.down = True
        self.on_shutdown()


def uptime_text(milliseconds: int) -> str:
    """`0 years, 0 days, 0 hours, 9 minutes, 45 seconds, 518 milliseconds, 0 microseconds`."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    years, days = divmod(days, 365)
    counts: Sequence[tuple[int, str]] = (
        (years, "year"),
        (days, "day"),
        (hours, "hour"),
        (minutes, "minute"),
        (seconds, "second"),
        (milliseconds, "millisecond"),
        (0, "microsecond"),
    )
    return ", ".join(f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in counts)
