"""The people: who answers, when, how long they wait and talk.

For each call a plan is drawn when it is originated, from a stream of its own made of the seed, the number and how
often it was called: whatever a dialer does, in whatever order, the same people do the same, so two dialers can be
compared. A number with a script does what the script says. Customers end the talk, unless the phone group says that
this agent's side does.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from dialer.simulator.channel import Channel, Side
from dialer.simulator.distribution import Distribution
from dialer.simulator.scenario import CAUSE_OF, Gateway, Outcome, Phones, Script, Timing, expand_extensions

if TYPE_CHECKING:
    from dialer.simulator.machine import Machine

# Numbers of which we know how often they were called; beyond it all are forgotten.
NUMBERS_LIMIT = 1_000_000
BETWEEN_KEYS_SECONDS = 0.5
_TIMINGS = tuple(Timing.model_fields)


@attrs.frozen
class Plan:
    """What the far end of one call will do, in seconds from the originate unless said otherwise."""

    rings_at: float = math.inf
    early_media: bool = False
    answers_at: float = math.inf
    fails_at: float = math.inf
    cause: str = "NORMAL_CLEARING"
    talk: float = math.inf  # from the bridge
    patience: float = math.inf  # from the answer
    hangs_up_after: float = math.inf  # from the answer, bridged or not
    is_machine: bool = False
    verdict: str = "NOTSURE"  # of whoever listens
    verdict_after: float = math.inf  # from the listening
    keys: str = ""
    keys_after: float = math.inf  # from the answer
    ends_the_talk: bool = False  # a phone whose user ends it, not the customer


class Population:
    """Draws plans and lets people act on them."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._seed = machine.rng.getrandbits(64)
        self._called: Counter[str] = Counter()
        scenario = machine.scenario
        self.groups: dict[str, Phones] = {}
        for group in scenario.phones:
            for extension in expand_extensions(group.extensions):
                self.groups[extension] = group
        self._mixes = {
            name: (list(gateway.mix), list(gateway.mix.values())) for name, gateway in scenario.gateways.items()
        }
        self.gateways_down = {name for name, gateway in scenario.gateways.items() if not gateway.up}
        self.load: dict[str, int] = dict.fromkeys(scenario.gateways, 0)

    def change_mix(self, gateway: str, mix: Mapping[Outcome, float]) -> None:
        """From now on people called through `gateway` answer otherwise."""
        self._mixes[gateway] = (list(mix), list(mix.values()))

    def customer(self, name: str, gateway: Gateway, number: str) -> Plan:
        """What calling `number` through this carrier will come to."""
        rng = self._stream(number)
        script = next((script for script in gateway.scripts if script.matches(number)), None)
        if script is not None:
            outcome = script.outcome
        else:
            outcomes, weights = self._mixes[name]
            outcome = outcomes[0] if len(outcomes) == 1 else rng.choices(outcomes, weights)[0]
        if self.load[name] >= gateway.capacity:
            outcome, script = Outcome.UNAVAILABLE, None
        times = {timing: _timing(timing, gateway, script).draw(rng) for timing in _TIMINGS}
        cause = (script.cause if script is not None else None) or CAUSE_OF.get(outcome, "NORMAL_CLEARING")
        rings = times["ring_delay"]
        second_step = rings + times["answer_delay"]
        match outcome:
            case Outcome.ANSWER | Outcome.EARLY_MEDIA_ANSWER | Outcome.ANSWER_HANG_UP | Outcome.MACHINE:
                is_machine = outcome is Outcome.MACHINE
                wrong = gateway.taken_for_person if is_machine else gateway.taken_for_machine
                return Plan(
                    is_machine=is_machine,
                    # Nothing is drawn where nothing can go wrong, and people do as they did without machines.
                    verdict="MACHINE" if is_machine != (wrong > 0 and rng.random() < wrong) else "HUMAN",
                    verdict_after=times["verdict_delay"],
                    rings_at=rings,
                    early_media=outcome is Outcome.EARLY_MEDIA_ANSWER,
                    answers_at=second_step,
                    talk=times["talk"],
                    patience=times["patience"],
                    hangs_up_after=times["hang_up_after"] if outcome is Outcome.ANSWER_HANG_UP else math.inf,
                    keys=script.keys if script is not None else "",
                    keys_after=times["key_delay"],
                )
            case Outcome.NO_ANSWER:
                return Plan(rings_at=rings, fails_at=rings + times["gives_up_after"], cause=cause)
            case Outcome.EARLY_MEDIA_FAILURE:
                return Plan(rings_at=rings, early_media=True, fails_at=second_step, cause=cause)
            case _:
                return Plan(fails_at=times["fail_delay"], cause=cause)

    def phone(self, group: Phones, extension: str) -> Plan:
        """What ringing this phone of a group will come to."""
        rng = self._stream(extension)
        rings = group.ring_delay.draw(rng)
        answer, reject = group.answer_delay.draw(rng), group.reject_delay.draw(rng)
        leaves = group.leaves_after.draw(rng)
        ends = group.ends_the_talk > 0 and rng.random() < group.ends_the_talk
        return Plan(
            rings_at=rings,
            answers_at=rings + answer if group.behaviour == "answers" else math.inf,
            fails_at=rings + reject if group.behaviour == "rejects" else math.inf,
            cause="CALL_REJECTED",
            hangs_up_after=leaves,
            ends_the_talk=ends,
        )

    def _stream(self, number: str) -> random.Random:
        """The dice of the next call to `number`."""
        if len(self._called) >= NUMBERS_LIMIT:
            self._called.clear()
        self._called[number] += 1
        return random.Random(f"{self._seed}:{number}:{self._called[number]}")

    # what they do

    def answered(self, channel: Channel) -> None:
        if channel.plan is None:
            return
        after = self._machine.timers.after
        channel.timers.append(after(channel.plan.hangs_up_after, self._machine.far_end_hangs_up, channel))
        channel.patience = after(channel.plan.patience, self._machine.far_end_hangs_up, channel)
        for index, key in enumerate(channel.plan.keys):
            pressed_at = channel.plan.keys_after + index * BETWEEN_KEYS_SECONDS
            channel.timers.append(after(pressed_at, self._machine.applications.press, channel, key))

    def bridged(self, first: Channel, second: Channel) -> None:
        for customer, other in ((first, second), (second, first)):
            if customer.patience is not None:
                customer.patience.cancel()
            if customer.side is not Side.CUSTOMER or customer.plan is None:
                continue
            ender = other if other.plan is not None and other.plan.ends_the_talk else customer
            customer.talk = self._machine.timers.after(customer.plan.talk, self._machine.far_end_hangs_up, ender)

    def unbridged(self, channel: Channel) -> None:
        if channel.talk is not None:
            channel.talk.cancel()
        if channel.plan is not None and not channel.hung_up:
            channel.patience = self._machine.timers.after(
                channel.plan.patience, self._machine.far_end_hangs_up, channel
            )


def _timing(name: str, gateway: Gateway, script: Script | None) -> Distribution:
    own = getattr(script, name) if script is not None else None
    chosen: Distribution = own if own is not None else getattr(gateway, name)
    return chosen
