"""What a channel runs while nobody talks to it: park, sounds, pauses, hang-ups.

A program is a list of (application, argument). Applications that take time (a sound, a pause) leave a timer in
`channel.step`; park leaves none. When the list is done the channel hangs up, as in a real switch.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from dialer.simulator.channel import CallState, Channel, State

if TYPE_CHECKING:
    from dialer.simulator.machine import Machine

# An application a real switch does not have, or one given nonsense, ends the call so.
BROKEN = "DESTINATION_OUT_OF_ORDER"
ENDED_BY_SCHEDULE = "ALLOTTED_TIMEOUT"

_TONE = re.compile(r"%\(([^)]*)")


def sound_length(path: str, default: float) -> float:
    """Seconds that a sound plays: tones and silence say so themselves."""
    if path.startswith("silence_stream://"):
        milliseconds = path.removeprefix("silence_stream://").split(",")[0]
        return math.inf if milliseconds.startswith("-") else float(milliseconds or 0) / 1000
    if path.startswith("tone_stream://"):
        total = 0.0
        for tone in _TONE.findall(path):
            on, _, rest = tone.partition(",")
            total += (float(on or 0) + float(rest.split(",")[0] or 0)) / 1000
        return total
    return default


class Applications:
    """Runs the programs of all channels."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def begin(self, channel: Channel, program: list[tuple[str, str]]) -> None:
        """Start `program` in place of whatever it ran."""
        self.stop(channel)
        channel.program.extend(program)
        channel.executing = True
        channel.silent = channel.orphan = False
        channel.hit_dialplan = True
        channel.run_state(State.EXECUTE)
        channel.changed()
        self._next(channel)

    def stop(self, channel: Channel) -> None:
        """End what it runs: PLAYBACK_STOP or CHANNEL_UNPARK, if there is anything to say."""
        if channel.step is not None:
            channel.step.cancel()
            channel.step = None
        channel.program.clear()
        if channel.playing:
            self._playback_stop(channel)
        if channel.parked:
            self._unpark(channel)
        if channel.dialled is not None:
            dialled, channel.dialled = channel.dialled, None
            self._machine.hang_up(dialled, "ORIGINATOR_CANCEL")

    def park(self, channel: Channel) -> None:
        """Park it outside any program, as `uuid_park` and `park_after_bridge` do: CS_PARK."""
        self.stop(channel)
        channel.run_state(State.PARK)
        self._park(channel)

    def _park(self, channel: Channel) -> None:
        channel.parked = True
        channel.silent = False
        self._machine.fire("CHANNEL_PARK", channel)
        seconds, _, cause = (channel.get("park_timeout") or "").partition(":")
        if seconds.isdecimal():
            # It is for once, and takes the other along (switch_ivr.c, `switch_ivr_park`).
            channel.set("park_timeout", "")
            channel.set("park_after_bridge", "")
            channel.step = self._machine.timers.after(
                int(seconds), self._machine.hang_up, channel, cause or "NORMAL_CLEARING"
            )

    def _unpark(self, channel: Channel) -> None:
        channel.parked = False
        self._machine.fire("CHANNEL_UNPARK", channel)

    def _next(self, channel: Channel) -> None:
        """Run applications until one takes time or the program is done."""
        while channel.program and not channel.hung_up:
            application, argument = channel.program.popleft()
            channel.application, channel.argument = application, argument
            channel.set("current_application_data", argument)
            channel.set("current_application", application)
            if self._run(channel, application, argument):
                return
        if not channel.hung_up:
            self._machine.hang_up(channel, "NORMAL_CLEARING")

    def _run(self, channel: Channel, application: str, argument: str) -> bool:
        """Run one application; True when it takes time."""
        match application:
            case "park":
                self._park(channel)
                return True
            case "playback" | "play_and_get_digits":
                channel.set("playback_terminator_used", "")
                scenario = self._machine.scenario
                if argument in scenario.missing_sounds or argument in scenario.broken_sounds:
                    return False  # the next application, without a word
                self._play(channel, argument, 1)
                return True
            case "endless_playback":
                self._play(channel, argument, None)
                return True
            case "loop_playback":
                count, _, path = argument.partition(" ")
                if not path or not count.lstrip("+").isdecimal():
                    self._machine.hang_up(channel, BROKEN)
                else:
                    self._play(channel, path, int(count))
                return True
            case "amd" if self._machine.scenario.tells_machines:
                plan = channel.plan
                if plan is not None and plan.verdict_after < math.inf:
                    channel.step = self._machine.timers.after(plan.verdict_after, self._judged, channel, plan.verdict)
                return True
            case "event":
                headers = dict(pair.split("=", 1) for pair in argument.split(",") if "=" in pair)
                subclass = headers.get("Event-Subclass")
                self._machine.fire(headers.get("Event-Name", "CUSTOM"), channel, subclass=subclass)
            case "sleep":
                channel.step = self._machine.timers.after(float(argument or 0) / 1000, self._next, channel)
                return True
            case "hangup":
                self._machine.hang_up(channel, argument or "NORMAL_CLEARING")
                return True
            case "sched_hangup":
                self.schedule_hang_up(channel, argument)
            case "set" | "export":
                name, _, value = argument.partition("=")
                channel.set(name, value)
            case "answer" | "pre_answer" | "info" | "log" | "unset":
                pass
            case _:
                self._machine.hang_up(channel, BROKEN)
                return True
        return False

    def _judged(self, channel: Channel, verdict: str) -> None:
        channel.step = None
        channel.set("amd_result", verdict)
        self._next(channel)

    def run_on_answer(self, channel: Channel) -> None:
        """`execute_on_answer`: an application in one line, `app arg` or `app::arg`."""
        line = channel.get("execute_on_answer")
        if line:
            application, _, argument = line.replace("::", " ", 1).partition(" ")
            self._run(channel, application, argument)

    def schedule_hang_up(self, channel: Channel, argument: str) -> None:
        """`+N [CAUSE]`, or a moment as an epoch."""
        when, _, cause = argument.strip().partition(" ")
        seconds = float(when.lstrip("+") or 0)
        if not when.startswith("+"):
            seconds = max(0.0, seconds - self._machine.now().timestamp())
        timer = self._machine.timers.after(
            seconds, self._machine.hang_up, channel, cause.strip() or ENDED_BY_SCHEDULE
        )
        channel.scheduled.append(timer)

    # sounds

    def _play(self, channel: Channel, path: str, times: int | None) -> None:
        """Play `path` `times` over; None for ever."""
        channel.playing = path
        self._machine.fire("PLAYBACK_START", channel, after=_playback(path))
        length = sound_length(path, self._machine.scenario.sound_seconds)
        left = None if times is None else times - 1
        channel.step = self._machine.timers.after(max(length, self._machine.frame), self._played, channel, path, left)

    def _played(self, channel: Channel, path: str, left: int | None) -> None:
        channel.step = None
        self._playback_stop(channel)
        if left is None or left > 0:
            self._play(channel, path, left)
        else:
            self._next(channel)

    def _playback_stop(self, channel: Channel) -> None:
        path, channel.playing = channel.playing, ""
        for name, value in PLAYED.items():
            channel.set(name, value)
        self._machine.fire("PLAYBACK_STOP", channel, after=[*_playback(path), ("Playback-Status", "done")])

    # recordings

    def record(self, channel: Channel, path: str) -> None:
        channel.recordings.append(path)
        self._machine.fire("RECORD_START", channel, after=[("Record-File-Path", path)])

    def stop_recording(self, channel: Channel, path: str) -> bool:
        """False when nothing of that name is being recorded."""
        if path not in channel.recordings:
            return False
        channel.recordings.remove(path)
        pairs = [("Record-File-Path", path), ("Record-Completion-Cause", "success-silence")]
        self._machine.fire("RECORD_STOP", channel, after=pairs)
        return True

    def stop_recordings(self, channel: Channel) -> None:
        for path in list(channel.recordings):
            self.stop_recording(channel, path)

    def press(self, channel: Channel, digit: str, *, duration: int = 2000, source: str = "RTP") -> None:
        """A key of the telephone."""
        pairs = [("DTMF-Digit", digit), ("DTMF-Duration", str(duration)), ("DTMF-Source", source)]
        self._machine.fire("DTMF", channel, after=pairs)
        terminators = channel.get("playback_terminators") or "*"
        if channel.application == "playback" and channel.playing and terminators != "none" and digit in terminators:
            channel.set("playback_terminator_used", digit)
            if channel.step is not None:
                channel.step.cancel()
            self._played(channel, channel.playing, 0)

    def transfer(self, channel: Channel, program: list[tuple[str, str]], told: str) -> None:
        """`uuid_transfer … inline`: out of what it did, into `program`, when its thread comes round."""
        channel.state = State.ROUTING
        channel.destination = told
        self.note_transfer(channel, told)
        channel.timers.append(self._machine.timers.after(self._machine.lag(), self._transferred, channel, program))

    def note_transfer(self, channel: Channel, told: str) -> None:
        """The traces a transfer leaves in the headers."""
        stamp = self._machine.stamp() // 1_000_000
        source = f"{stamp}:{self._machine.new_uuid()}:bl_xfer:{told}/default/inline"
        channel.push("transfer_history", source)
        channel.set("transfer_source", source)
        channel.logical_direction, channel.dialplan = "inbound", "inline"
        channel.profile_index += 1
        channel.changed()

    def _transferred(self, channel: Channel, program: list[tuple[str, str]]) -> None:
        self.stop(channel)
        self._machine.bridges.leave(channel)
        self._machine.bridges.left_before_it_came(channel)
        channel.destination = channel.number
        if channel.call_state is not CallState.EARLY:
            channel.call_state = CallState.ACTIVE
        self.begin(channel, program)


# The variables a sound leaves behind; nobody here counts samples.
PLAYED = {
    "playback_last_offset_pos": "6720",
    "playback_seconds": "2",
    "playback_ms": "2048",
    "playback_samples": "16384",
}


def _playback(path: str) -> list[tuple[str, str]]:
    kind = [("Playback-File-Type", "tone_stream")] if path.startswith("tone_stream://") else []
    return [*kind, ("Playback-File-Path", path)]
