"""originate: from the command to the `+OK` or the cause.

The command's answer (for `bgapi` the BACKGROUND_JOB) comes when the call is answered and its thread came round, up
to a frame after CHANNEL_ANSWER, or with the early media when that is not ignored. A call that fails tells its
answer between CHANNEL_HANGUP_COMPLETE and CHANNEL_DESTROY; one that rang too long tells it before both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from dialer.simulator.channel import CallState, Channel, Side, State
from dialer.simulator.dialstring import DialStringError, Target, parse_target, separate, take_variables
from dialer.simulator.headers import local_text
from dialer.simulator.population import Plan

if TYPE_CHECKING:
    from dialer.simulator.machine import Machine

USAGE = (
    "-USAGE: <call url> <exten>|&<application_name>(<app_args>) [<dialplan>] [<context>] [<cid_name>] [<cid_num>]"
    " [<timeout_sec>]\n"
)
DEFAULT_TIMEOUT = 60
Reply = Callable[[str], None]


@attrs.frozen
class Request:
    """An originate taken apart."""

    url: str
    variables: dict[str, str]
    target: Target
    timeout: int
    caller_id: str


def parse_originate(arguments: str) -> Request:
    """Raises DialStringError when it is no originate."""
    words = [word if word.lower() != "undef" else "" for word in separate(arguments, " ")]
    if not 2 <= len(words) <= 7:
        raise DialStringError(f"{len(words)} words")
    words += [""] * (7 - len(words))
    variables, url = take_variables(words[0], "{", "}")
    more, url = take_variables(url, "<", ">")
    leg_variables, url = take_variables(url, "[", "]")
    variables |= more | leg_variables
    timeouts = (variables.get("leg_timeout"), variables.get("originate_timeout"), words[6])
    timeout = next((int(text) for text in timeouts if text and text.isdecimal()), DEFAULT_TIMEOUT)
    caller_id = variables.get("origination_caller_id_number") or words[5] or "0000000000"
    return Request(url, variables, parse_target(words[1], words[2]), timeout, caller_id)


class Originator:
    """Starts calls."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def start(self, arguments: str, reply: Reply) -> None:
        """Originate; `reply` is called once, now or when it is known."""
        machine = self._machine
        try:
            request = parse_originate(arguments)
        except DialStringError:
            reply(USAGE)
            return
        if machine.faults.strikes("originate_fails_silently"):
            machine.timers.after(machine.lag(), reply, "-ERR NORMAL_TEMPORARY_FAILURE\n")
            return
        kind, _, rest = request.url.partition("/")
        if kind == "user":
            self._to_phone(request, rest, reply)
        elif request.url.startswith("sofia/gateway/"):
            self._to_gateway(request, request.url.removeprefix("sofia/gateway/"), reply)
        elif kind == "error":
            reply(f"-ERR {rest}\n")
        else:
            reply("-ERR CHAN_NOT_IMPLEMENTED\n")

    def _to_phone(self, request: Request, rest: str, reply: Reply) -> None:
        extension, _, domain = rest.partition("@")
        group = self._machine.population.groups.get(extension)
        if group is None or (domain and domain != self._machine.scenario.domain):
            reply("-ERR SUBSCRIBER_ABSENT\n")
            return
        if extension not in self._machine.registrar.registrations:
            reply("-ERR USER_NOT_REGISTERED\n")
            return
        plan = self._machine.population.phone(group, extension)
        self._launch(request, reply, plan, number=extension, side=Side.PHONE)

    def _to_gateway(self, request: Request, rest: str, reply: Reply) -> None:
        machine = self._machine
        name, _, number = rest.partition("/")
        gateway = machine.scenario.gateways.get(name)
        if gateway is None:
            uuid = request.variables.get("origination_uuid")
            if uuid:
                self._stillborn(uuid)
            reply("-ERR INVALID_GATEWAY\n")
            return
        if name in machine.population.gateways_down:
            reply("-ERR GATEWAY_DOWN\n")
            return
        plan = machine.population.customer(name, gateway, number)
        self._launch(request, reply, plan, number=number, side=Side.CUSTOMER, gateway=name)

    def _stillborn(self, uuid: str) -> None:
        """A channel that is only ever destroyed."""
        channel = Channel(
            uuid=uuid, number="", name="N/A", side=Side.CUSTOMER, session_id=self._session(), created=0,
            running=State.NONE, state=State.NONE,
        )  # fmt: skip
        self._machine.fire("CHANNEL_DESTROY", channel)

    def _session(self) -> int:
        self._machine.sessions += 1
        return self._machine.sessions

    def _launch(
        self, request: Request, reply: Reply, plan: Plan, *, number: str, side: Side, gateway: str = ""
    ) -> None:
        machine = self._machine
        uuid = request.variables.get("origination_uuid") or machine.new_uuid()
        if uuid in machine.channels or len(machine.channels) >= machine.scenario.max_sessions:
            reply("-ERR DESTINATION_OUT_OF_ORDER\n")
            return
        domain = machine.scenario.domain
        phone = side is Side.PHONE
        created = machine.stamp()
        channel = Channel(
            uuid=uuid,
            number=number,
            name=f"sofia/internal/{number}@{domain}:7000" if phone else f"sofia/external/{number}",
            side=side,
            session_id=self._session(),
            created=created,
            created_text=local_text(created),
            caller_id=request.caller_id,
            gateway=gateway,
            presence_id=f"{number}@{domain}" if phone else "",
            plan=plan,
        )
        channel.variables.update({name: value for name, value in request.variables.items() if value})
        channel.variables["originate_early_media"] = "false" if channel.is_true("ignore_early_media") else "true"
        channel.variables["originate_endpoint"] = "user" if phone else "sofia"
        channel.origination = Origination(machine, channel, request, reply)
        machine.add(channel)
        if gateway:
            machine.population.load[gateway] += 1
        machine.fire("CHANNEL_CREATE", channel)
        machine.fire("CHANNEL_ORIGINATE", channel)
        channel.run_state(State.CONSUME_MEDIA)
        channel.origination.begin(plan)


class Origination:
    """One originate until its answer is told; it then also lets the channel be destroyed."""

    def __init__(self, machine: Machine, channel: Channel, request: Request, reply: Reply) -> None:
        self._machine = machine
        self._channel = channel
        self._request = request
        self._reply: Reply | None = reply

    def begin(self, plan: Plan) -> None:
        after, channel = self._machine.timers.after, self._channel
        # Ringing at once is still said before the answer, and after CHANNEL_ORIGINATE.
        if plan.rings_at <= 0:
            self._ring(plan.early_media)
        else:
            channel.timers.append(after(plan.rings_at, self._ring, plan.early_media))
        channel.timers.append(after(plan.answers_at, self._answer))
        channel.timers.append(after(plan.fails_at, self._fail, plan.cause))
        # The real one compares whole seconds of the clock, so it gives up to a second less.
        elapsed = self._machine.stamp() % 1_000_000 / 1e6
        channel.timers.append(after(max(0.0, self._request.timeout - elapsed), self._time_out))
        progress_limit = channel.get("leg_progress_timeout") or ""
        if progress_limit.isdecimal():
            # It looks at whole seconds too, and wants more of them than the limit.
            channel.timers.append(after(int(progress_limit) + 1 - elapsed, self._give_up_unheard))

    def tell(self, text: str) -> None:
        """Answer the command, once."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(text)

    def gone(self, channel: Channel) -> None:
        """The channel hung up; the command learns it a little later, and only then is the channel destroyed."""
        if self._reply is None:
            self._release()
        else:
            self._machine.timers.after(self._machine.lag(), self._release)

    def _release(self) -> None:
        channel = self._channel
        self.tell(f"-ERR {channel.cause}\n")
        channel.origination = None
        self._machine.destroy(channel)

    def _ring(self, early_media: bool) -> None:
        channel, machine = self._channel, self._machine
        if not early_media:
            channel.progressed = machine.stamp()
            channel.changed()
            machine.fire("CHANNEL_PROGRESS", channel)
            channel.call_state = CallState.RINGING
            return
        channel.progressed_media = machine.stamp()
        channel.answer_state = "early"
        channel.changed()
        machine.fire("CHANNEL_PROGRESS_MEDIA", channel)
        channel.call_state = CallState.EARLY
        if (channel.get("ignore_early_media") or "false").lower() in {"false", "no", "off", "0"}:
            self._succeed()

    def _answer(self) -> None:
        channel, machine = self._channel, self._machine
        machine.answer(channel)
        if not channel.hung_up:
            machine.applications.run_on_answer(channel)
        if not channel.executing and not channel.hung_up:
            channel.timers.append(machine.timers.after(machine.lag(), self._succeed))

    def _fail(self, cause: str) -> None:
        self._machine.far_end_hangs_up(self._channel, cause)

    def _time_out(self) -> None:
        if not self._channel.is_answered and not self._channel.executing:
            self._machine.hang_up(self._channel, "NO_ANSWER")
            self.tell("-ERR NO_ANSWER\n")

    def _give_up_unheard(self) -> None:
        channel = self._channel
        if not (channel.progressed or channel.progressed_media or channel.is_answered):
            self._machine.hang_up(channel, "PROGRESS_TIMEOUT")

    def _succeed(self) -> None:
        channel = self._channel
        self.tell(f"+OK {channel.uuid}\n")
        channel.origination = None
        channel.flip()
        channel.set("endpoint_disposition", "ANSWER")
        channel.set("pre_transfer_caller_id_number", channel.caller_id)
        channel.set("channel_cid_flipped", "yes")
        if channel.bridging is None and channel.partner is None:
            # A target that is no &app() is a transfer, with its history entry.
            told = self._request.target.told
            if told:
                self._machine.applications.note_transfer(channel, told)
            self._machine.applications.begin(channel, self._request.target.program)
