"""uuid_bridge, from the `+OK` that only means "asked" to the bridge, and all the ways it can miss.

The first channel named is the one that runs the bridge. Told at 0 ms, both leave what they were doing within a
frame (PLAYBACK_STOP, CHANNEL_UNPARK) and stand in CS_SOFT_EXECUTE; two frames after the command comes
CHANNEL_BRIDGE. In between:

- the first one dies: the second lives on, out of park, without another word;
- the second one dies: the first dies too, of ORIGINATOR_CANCEL;
- another bridge claims one of them: the one left behind is an orphan, in silence, with no event;
- one of them never answered: both die, though the command said +OK;
- one of them has answered but its originate has not said +OK: now and then legs are lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from dialer.simulator import headers
from dialer.simulator.applications import BROKEN
from dialer.simulator.channel import Channel, Side, State

if TYPE_CHECKING:
    from dialer.simulator.machine import Machine

FRAMES_TO_BRIDGE = 2
# A bridge to a leg that was not yet executing fails this long after the command.
FAILS_AFTER = 0.044
LEFT_ALONE = "ORIGINATOR_CANCEL"


@attrs.define(slots=True, eq=False)
class Bridging:
    """A bridge that was asked for and has not come."""

    first: Channel
    second: Channel
    over: bool = False  # nothing more will come of it
    left: bool = False  # both have left what they did

    def other(self, channel: Channel) -> Channel:
        return self.second if channel is self.first else self.first


class Bridges:
    """All bridges, standing and coming."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def ask(self, first: Channel, second: Channel) -> None:
        """Two live channels are to be bridged."""
        self._count_non_idle(first, second)
        if not first.is_answered and second.is_answered:
            first, second = second, first  # as a real switch does
        self._claim(first, second)
        self._claim(second, first)
        self._introduce(first, second)
        bridging = Bridging(first, second)
        first.bridging = second.bridging = bridging
        after, frame = self._machine.timers.after, self._machine.frame
        after(self._machine.lag(), self._leave_all, bridging)
        if not all(channel.is_answered or channel.executing for channel in (first, second)):
            after(frame, self._fail_unanswered, bridging)
        elif not (first.executing and second.executing):
            self._bridge_too_early(bridging)
        elif self._machine.faults.strikes("bridge_kills_both"):
            after(FAILS_AFTER, self._lose, bridging, (first, second))
        elif self._machine.faults.strikes("bridge_loses_agent"):
            after(FAILS_AFTER, self._lose, bridging, self._phones(bridging))
        elif self._machine.faults.strikes("bridge_never_comes"):
            after(FAILS_AFTER, self._lose, bridging, ())
        else:
            after(FRAMES_TO_BRIDGE * frame, self.complete, bridging)

    def _count_non_idle(self, first: Channel, second: Channel) -> None:
        for channel in (first, second):
            if channel.side is Side.PHONE and not channel.idle:
                self._machine.tally.bridges_to_non_idle += 1

    def _claim(self, channel: Channel, other: Channel) -> None:
        """Take `channel` out of whatever bridge it is in or waits for."""
        if channel.bridging is not None:
            bridging = channel.bridging
            bridging.over = True
            behind = bridging.other(channel)
            channel.bridging = behind.bridging = None
            if not bridging.left:
                behind.timers.append(self._machine.timers.after(self._machine.lag(), self._leave_one, behind))
            if not (behind.is_answered or behind.executing):
                self._machine.lose(behind, BROKEN)
            elif behind is not other:
                self._orphan(behind)
        if channel.partner is other:
            channel.state = other.state = State.ROUTING  # bridged anew: neither stays behind
        if channel.partner is not None:
            self._break(channel)
        # Claimed twice, it shows the other state: the second claim finds it asleep already.
        channel.state = State.HIBERNATE if channel.state is not State.HIBERNATE else State.CONSUME_MEDIA
        channel.profile_index += 1
        stamp = self._machine.stamp() // 1_000_000
        source = f"{stamp}:{self._machine.new_uuid()}:uuid_br:{other.uuid}"
        channel.push("transfer_history", source)
        channel.set("transfer_source", source)
        channel.set("signal_bond", other.uuid)
        channel.set("bridge_uuid", other.uuid)
        channel.set("bridge_channel", other.name)
        channel.call_uuid = channel.uuid
        channel.changed()

    def _introduce(self, first: Channel, second: Channel) -> None:
        """What each shows of the other from now on; each sees the other as it was."""
        first.logical_direction = "inbound"
        first.shown_callee = second.caller_id
        first.meet(second, "originatee")
        second.meet(first, "originator")
        for channel in (first, second):
            headers.other_block(channel)
        second.hit_dialplan = False
        second.shown_caller = first.number

    def _orphan(self, channel: Channel) -> None:
        channel.silent = True
        channel.orphan = True
        if channel.side is Side.CUSTOMER:
            self._machine.tally.orphans += 1

    def _phones(self, bridging: Bridging) -> tuple[Channel, ...]:
        return tuple(channel for channel in (bridging.first, bridging.second) if channel.side is Side.PHONE)

    def _bridge_too_early(self, bridging: Bridging) -> None:
        """Between CHANNEL_ANSWER and the originate's +OK."""
        faults, after = self._machine.faults, self._machine.timers.after
        if faults.strikes("bridge_at_answer_loses_agent"):
            after(FAILS_AFTER, self._lose, bridging, (bridging.first, bridging.second))
        elif faults.strikes("bridge_at_answer_loses_customer"):
            phones = self._phones(bridging)
            customers = tuple(leg for leg in (bridging.first, bridging.second) if leg not in phones)
            after(FAILS_AFTER, self._lose, bridging, customers)
        else:
            after(FRAMES_TO_BRIDGE * self._machine.frame, self.complete, bridging)

    # leaving what they did

    def _leave_all(self, bridging: Bridging) -> None:
        if bridging.over:
            return
        bridging.left = True
        legs = [bridging.first, bridging.second]
        self._machine.rng.shuffle(legs)  # two threads: either may come first
        legs.sort(key=lambda leg: not leg.is_answered)
        for leg in legs:
            self._leave_one(leg)

    def _leave_one(self, channel: Channel) -> None:
        if channel.hung_up:
            return
        if channel.is_answered or channel.executing:
            self._machine.applications.stop(channel)
        elif channel.origination is not None:
            channel.origination.tell(f"-ERR {LEFT_ALONE}\n")
        channel.run_state(State.SOFT_EXECUTE, channel.state)

    # how it ends

    def complete(self, bridging: Bridging) -> None:
        """CHANNEL_BRIDGE, if nothing has come between."""
        first, second = bridging.first, bridging.second
        if bridging.over or first.hung_up or second.hung_up:
            return
        self._finish(bridging)
        first.partner, second.partner = second, first
        first.first_of_bridge, second.first_of_bridge = True, False
        stamp = self._machine.stamp()
        for leg, other, kind in ((first, second, "originatee"), (second, first, "originator")):
            leg.bridged_at = stamp
            leg.silent = leg.orphan = False
            leg.call_uuid = first.uuid
            if leg.other is not other:
                leg.meet(other, kind)
            leg.set("last_bridge_to", other.uuid)
            leg.changed()
        first.run_state(State.SOFT_EXECUTE)
        second.run_state(State.EXCHANGE_MEDIA)
        self._machine.tally.bridges += first.counted
        for leg in (first, second):
            self.count(leg)
        pairs = [("Bridge-A-Unique-ID", first.uuid), ("Bridge-B-Unique-ID", second.uuid)]
        self._machine.fire("CHANNEL_BRIDGE", first, before=pairs)
        self._machine.population.bridged(first, second)

    def count(self, leg: Channel) -> None:
        """A leg that is bridged, and answered, for the first time."""
        if leg.ever_bridged or leg.partner is None or not leg.is_answered:
            return
        leg.ever_bridged = True
        if leg.side is Side.CUSTOMER and leg.counted:
            self._machine.tally.bridged += 1
            self._machine.tally.waited((self._machine.stamp() - leg.answered) / 1_000_000)

    def _finish(self, bridging: Bridging) -> None:
        bridging.over = True
        bridging.first.bridging = bridging.second.bridging = None

    def _fail_unanswered(self, bridging: Bridging) -> None:
        if bridging.over:
            return
        if not bridging.left:
            self._leave_all(bridging)
        self._finish(bridging)
        legs = sorted((bridging.first, bridging.second), key=lambda leg: leg.is_answered or leg.executing)
        for leg in legs:
            cause = LEFT_ALONE if leg.is_answered or leg.executing else BROKEN
            self._machine.lose(leg, cause)

    def _lose(self, bridging: Bridging, lost: tuple[Channel, ...]) -> None:
        """It does not come: `lost` die, the others stay in silence."""
        if bridging.over:
            return
        self._finish(bridging)
        for leg in (bridging.first, bridging.second):
            if leg in lost:
                self._machine.lose(leg, BROKEN)
            else:
                leg.silent = True

    # a channel goes

    def leave(self, channel: Channel) -> None:
        """`channel` goes, hung up or parked or transferred; a standing bridge ends."""
        if channel.partner is not None:
            self._break(channel)

    def left_before_it_came(self, channel: Channel) -> None:
        """The same for a bridge that had not come yet."""
        bridging = channel.bridging
        if bridging is None:
            return
        other = bridging.other(channel)
        self._finish(bridging)
        if channel is bridging.second:
            self._machine.lose(other, LEFT_ALONE)
            return
        if not bridging.left:
            self._leave_one(other)
        other.silent = True
        if self._machine.faults.strikes("death_mid_bridge_loses_agent"):
            self._machine.lose(other, BROKEN)

    def _break(self, leaver: Channel) -> None:
        """End a standing bridge because `leaver` leaves it."""
        stayer = leaver.partner
        assert stayer is not None
        leaver.partner = stayer.partner = None
        first, second = (leaver, stayer) if leaver.first_of_bridge else (stayer, leaver)
        leaver.meet(stayer, leaver.other_type)
        stayer.meet(leaver, stayer.other_type)
        cause = leaver.cause or "NORMAL_CLEARING"
        stayer.set("last_bridge_hangup_cause", cause)
        pairs = [("Bridge-A-Unique-ID", first.uuid), ("Bridge-B-Unique-ID", second.uuid)]
        if leaver is first:
            self._stay(stayer)
            self._machine.fire("CHANNEL_UNBRIDGE", first, before=pairs)
        else:
            self._machine.fire("CHANNEL_UNBRIDGE", first, before=pairs)
            if not stayer.hung_up and not _parks(stayer) and stayer.state is not State.ROUTING:
                stayer.run_state(State.EXECUTE)
            self._stay(stayer)
        self._machine.population.unbridged(leaver)
        self._machine.population.unbridged(stayer)

    def _stay(self, stayer: Channel) -> None:
        """What becomes of the one who is left; sent elsewhere too, it goes its own way."""
        if stayer.hung_up or stayer.state is State.ROUTING:
            return
        if _parks(stayer):
            self._machine.applications.park(stayer)
        else:
            self._machine.hang_up(stayer, "NORMAL_CLEARING")


def _parks(channel: Channel) -> bool:
    """`park_after_bridge`, unless a `park_timeout` undoes it, as it does on a real switch."""
    return channel.is_true("park_after_bridge") and not channel.get("park_timeout")
