"""Calls that agents make by themselves: traffic the dialer did not start and must not mistake for its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dialer.simulator.bridging import Bridging
from dialer.simulator.channel import CallState, Channel, Side, State
from dialer.simulator.headers import local_text
from dialer.simulator.population import Plan

if TYPE_CHECKING:
    from dialer.simulator.machine import Machine


def call_out(machine: Machine, extension: str, number: str, gateway: str) -> str:
    """The agent at `extension` dials `number`; returns the uuid of the agent's leg."""
    domain = machine.scenario.domain
    agent = _channel(machine, Side.PHONE, number, f"sofia/internal/{extension}@{domain}")
    agent.direction = "inbound"
    agent.caller_id = agent.shown_caller = extension
    agent.presence_id = f"{extension}@{domain}"
    agent.set("user_name", extension)
    agent.set("sip_from_user", extension)
    customer = _channel(machine, Side.CUSTOMER, number, f"sofia/external/{number}")
    customer.caller_id = customer.shown_caller = extension
    customer.gateway = gateway
    plan = machine.population.customer(gateway, machine.scenario.gateways[gateway], number)
    customer.plan = plan
    machine.population.load[gateway] += 1
    machine.fire("CHANNEL_CREATE", agent)
    agent.run_state(State.EXECUTE)
    agent.call_state = CallState.RINGING
    agent.executing = True
    agent.hit_dialplan = True
    agent.application, agent.argument = "bridge", f"sofia/gateway/{gateway}/{number}"
    machine.fire("CHANNEL_CREATE", customer)
    machine.fire("CHANNEL_ORIGINATE", customer)
    customer.run_state(State.CONSUME_MEDIA)
    agent.dialled = customer
    _schedule(machine, agent, customer, plan)
    return agent.uuid


def _channel(machine: Machine, side: Side, number: str, name: str) -> Channel:
    machine.sessions += 1
    created = machine.stamp()
    channel = Channel(
        uuid=machine.new_uuid(),
        number=number,
        name=name,
        side=side,
        session_id=machine.sessions,
        created=created,
        created_text=local_text(created),
    )
    channel.counted = False
    machine.channels[channel.uuid] = channel
    return channel


def _schedule(machine: Machine, agent: Channel, customer: Channel, plan: Plan) -> None:
    after = machine.timers.after
    customer.timers += [
        after(plan.rings_at, _ring, machine, agent, customer),
        after(plan.answers_at, _answer, machine, agent, customer),
        after(plan.fails_at, _fail, machine, agent, customer, plan.cause),
    ]


def _ring(machine: Machine, agent: Channel, customer: Channel) -> None:
    for leg in (customer, agent):
        if leg.hung_up or leg.is_answered:
            continue
        leg.progressed = machine.stamp()
        leg.changed()
        machine.fire("CHANNEL_PROGRESS", leg)
        leg.call_state = CallState.RINGING


def _answer(machine: Machine, agent: Channel, customer: Channel) -> None:
    if agent.bridging is not None or customer.bridging is not None:  # one was taken away while it rang
        machine.hang_up(customer, "ORIGINATOR_CANCEL")
        return
    agent.dialled = None
    machine.answer(customer)
    customer.flip()
    if not agent.is_answered:
        machine.answer(agent)
    machine.bridges.complete(Bridging(agent, customer))


def _fail(machine: Machine, agent: Channel, customer: Channel, cause: str) -> None:
    agent.dialled = None
    machine.hang_up(customer, cause)
    machine.hang_up(agent, cause)
