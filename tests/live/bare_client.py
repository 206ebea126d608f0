"""How fast the switch itself connects a customer to an agent: a client that does only that, on one connection.

It holds nailed-up phones, starts calls at a fixed rate to customers who all answer, and bridges each to an idle phone
when the originate's job says `+OK`. It has no pacing, no leads and no records, so its figures are the floor for any
dialer on the same machine: what is measured is FreeSWITCH, this client's JSON, and the kernel between them.

    python -m tests.live.bare_client --calls 300 --rate 20 --phones 40
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

import trio

from .event_socket import Event, EventSocket
from .laboratory import Laboratory, Outcome

EVENTS = "BACKGROUND_JOB CHANNEL_ANSWER CHANNEL_BRIDGE CHANNEL_PARK CHANNEL_HANGUP_COMPLETE"
SOUND = r"tone_stream://%(2000\,4000\,440\,480);loops=-1"
RENEW_LIMIT = 30.0


@dataclass
class Call:
    """Seconds of our clock when we heard of it, microseconds of the switch's when it happened."""

    answered: float = 0.0
    answered_there: int = 0
    ready: float = 0.0
    asked: float = 0.0
    bridged: float = 0.0
    bridged_there: int = 0
    agent: str | None = None
    cause: str = ""


@dataclass
class BareClient:
    socket: EventSocket
    domain: str
    gateway: str = "carrier_a"
    calls: dict[str, Call] = field(default_factory=dict)
    seats: dict[str, str] = field(default_factory=dict)  # an agent leg's uuid and its extension
    idle: deque[str] = field(default_factory=deque)
    waiting: deque[str] = field(default_factory=deque)  # customers for whom no phone was idle
    lost: int = 0  # agent legs
    refused: int = 0
    done: int = 0
    changed: trio.Condition = field(default_factory=trio.Condition)

    async def run(self, *, count: int, rate: float, extensions: list[str]) -> dict[str, object]:
        await self.socket.subscribe(*EVENTS.split())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read)
            for extension in extensions:
                await self._seat(extension)
            with trio.fail_after(RENEW_LIMIT):
                await self._wait(lambda: len(self.idle) == len(extensions))
            began = time.monotonic()
            for index in range(count):
                await trio.sleep(max(0.0, began + index / rate - time.monotonic()))
                await self._dial(Outcome.TALKS.number(index % 1000))
            with trio.fail_after(60 + count / rate):
                await self._wait(lambda: self.done == count)
            elapsed = time.monotonic() - began
            nursery.cancel_scope.cancel()
        return self._report(count, rate, len(extensions), elapsed)

    def _report(self, count: int, rate: float, phones: int, elapsed: float) -> dict[str, object]:
        bridged = [call for call in self.calls.values() if call.bridged]
        at_once = [call for call in bridged if call.asked == call.ready]
        causes = [call.cause for call in self.calls.values() if not call.bridged]
        return {
            "calls": count,
            "rate": rate,
            "phones": phones,
            "seconds": round(elapsed, 1),
            "answered": sum(1 for call in self.calls.values() if call.answered),
            "bridged": len(bridged),
            "waited_for_a_phone": len(bridged) - len(at_once),
            "not_bridged": {cause: causes.count(cause) for cause in sorted(set(causes))},
            "bridges_refused": self.refused,
            "agent_legs_lost": self.lost,
            "milliseconds": {
                "answer_to_job_ok_received": spread([1e3 * (call.ready - call.answered) for call in at_once]),
                "job_ok_to_bridge_received": spread([1e3 * (call.bridged - call.asked) for call in at_once]),
                "answer_to_bridge_received": spread([1e3 * (call.bridged - call.answered) for call in at_once]),
                "answer_to_bridge_on_the_switch": spread(
                    [(call.bridged_there - call.answered_there) / 1e3 for call in at_once]
                ),
            },
        }

    async def _wait(self, condition: Callable[[], bool]) -> None:
        async with self.changed:
            while not condition():
                await self.changed.wait()

    async def _seat(self, extension: str) -> None:
        """A phone that rings once and then stays: nobody waits here for it to answer."""
        leg = str(uuid.uuid4())
        self.seats[leg] = extension
        variables = f"origination_uuid={leg},park_after_bridge=true,hangup_after_bridge=false"
        await self._ask(f"originate {{{variables}}}user/{extension}@{self.domain} &park()", f"seat {leg}")

    async def _dial(self, number: str) -> None:
        customer = str(uuid.uuid4())
        self.calls[customer] = Call()
        variables = f"origination_uuid={customer},ignore_early_media=true,originate_timeout=30"
        target = f"sofia/gateway/{self.gateway}/{number} 'endless_playback:{SOUND}' inline"
        await self._ask(f"originate {{{variables}}}{target}", f"dial {customer}")

    async def _ask(self, command: str, job: str) -> None:
        """Sends only; the reply says no more than the job's result will. The job id says what it is about."""
        await self.socket.send(f"bgapi {command}", f"Job-UUID: {job}")

    async def _read(self) -> None:
        """The one task that reads: every event in the order in which the switch sent it."""
        while True:
            event = await self.socket.event()
            heard = time.monotonic()
            match event["Event-Name"]:
                case "BACKGROUND_JOB":
                    what, about = event["Job-UUID"].split()
                    await self._on_job(what, about, event.get("_body", ""), heard)
                case "CHANNEL_PARK" if event["Unique-ID"] in self.seats:
                    await self._on_idle(event["Unique-ID"])
                case "CHANNEL_HANGUP_COMPLETE":
                    await self._on_end(event)
                case name if call := self.calls.get(event["Unique-ID"]):
                    self._on_call(name, call, event, heard)
            async with self.changed:
                self.changed.notify_all()

    def _on_call(self, name: str, call: Call, event: Event, heard: float) -> None:
        there = int(event["Event-Date-Timestamp"])
        if name == "CHANNEL_ANSWER":
            call.answered, call.answered_there = heard, there
        elif name == "CHANNEL_BRIDGE":
            call.bridged, call.bridged_there = heard, there

    async def _on_job(self, what: str, about: str, result: str, heard: float) -> None:
        call = self.calls.get(about)
        if call is None or (what == "dial" and call.cause):  # it may have come and gone already
            return
        refused = result.startswith("-ERR")
        if what == "dial" and refused:
            call.cause = result.removeprefix("-ERR").strip()
            self.done += 1
        elif what == "dial":
            call.ready = heard
            if self.idle:
                await self._bridge(about, self.idle.popleft(), heard)
            else:
                self.waiting.append(about)
        elif what == "bridge" and refused:
            self.refused += 1
            if call.agent in self.seats:
                self.idle.append(call.agent)
            call.agent = None

    async def _bridge(self, customer: str, leg: str, now: float) -> None:
        """The customer first: the other way round, a customer who leaves meanwhile takes the agent's leg along."""
        call = self.calls[customer]
        call.agent, call.asked = leg, now
        await self._ask(f"uuid_bridge {customer} {leg}", f"bridge {customer}")

    async def _on_idle(self, leg: str) -> None:
        while self.waiting:
            customer = self.waiting.popleft()
            if not self.calls[customer].cause:
                await self._bridge(customer, leg, time.monotonic())
                return
        self.idle.append(leg)

    async def _on_end(self, event: Event) -> None:
        ended = event["Unique-ID"]
        if extension := self.seats.pop(ended, None):
            self.lost += 1
            with contextlib.suppress(ValueError):
                self.idle.remove(ended)
            await self._seat(extension)
        elif (call := self.calls.get(ended)) and not call.cause:
            call.cause = event["Hangup-Cause"]
            self.done += 1
            if call.agent in self.seats and not call.bridged:
                # It left park without a word; this brings the CHANNEL_PARK that makes it idle again.
                await self._ask(f"uuid_park {call.agent}", f"park {call.agent}")


def spread(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 1),
        "p99": round(ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1),
        "max": round(ordered[-1], 1),
    }


async def measure(*, calls: int, rate: float, phones: int, talk: int) -> dict[str, object]:
    async with Laboratory() as laboratory:
        await laboratory.carrier(talk=talk)
        extensions = (await laboratory.phones(phones)).extensions
        async with await EventSocket.open(laboratory.esl_port, laboratory.password) as socket:
            client = BareClient(socket, laboratory.domain)
            return await client.run(count=calls, rate=rate, extensions=extensions)


def main(out: TextIO = sys.stdout) -> None:
    parser = argparse.ArgumentParser(description="The floor of answer-to-bridge on this machine, in JSON.")
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--rate", type=float, default=20, help="calls started per second")
    parser.add_argument("--phones", type=int, default=40, help="nailed-up phones, at most 100")
    parser.add_argument("--talk", type=int, default=1000, help="milliseconds a customer stays on the line")
    options = parser.parse_args()
    result = trio.run(
        lambda: measure(calls=options.calls, rate=options.rate, phones=options.phones, talk=options.talk)
    )
    print(json.dumps(result, indent=2), file=out)


if __name__ == "__main__":
    main()
