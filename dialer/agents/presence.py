"""Keeps Redis' `registrations` and `calls`, and the agents' facts that follow from them, in step with the switches.

Events are taken in by the socket's reader without waiting and written by one task, in order. After a new epoch, or
when events came faster than Redis took them, everything is read anew from the switch.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog
import trio

from dialer.agents.agent import Agent
from dialer.agents.phone_calls import PhoneCalls, PhoneChange
from dialer.agents.roster import Roster
from dialer.calls.snapshot import Snapshot, show
from dialer.errors import UnavailableError
from dialer.esl.messages import CustomEvent, Event
from dialer.esl.switch import Switch
from dialer.settings import RedisSettings
from dialer.shared_state import SharedState

log = structlog.get_logger()

# Registrations and the agents' own calls: some events a second. Beyond this Redis is away, and all is read anew.
MAX_EVENTS_WAITING: Final = 10_000
_CONTACT: Final = re.compile(r"sips?:[^>;\s]+")
_GONE: Final = frozenset({"sofia::unregister", "sofia::expire"})


class Registration(msgspec.Struct, frozen=True):
    """A row of `show registrations as json`."""

    reg_user: str
    realm: str = ""
    url: str = ""
    expires: str = ""
    network_ip: str = ""
    network_port: str = ""
    network_proto: str = ""
    hostname: str = ""


class _Registrations(msgspec.Struct, frozen=True):
    row_count: int = 0
    rows: list[Registration] = []


def _contact(text: str) -> str:
    found = _CONTACT.search(text)
    return found.group() if found else text


def _as_register_event(row: Registration) -> str:
    """A registration found on the switch, in the shape of the sofia::register event it once was."""
    return json.dumps(
        {
            "Event-Name": "CUSTOM",
            "Event-Subclass": "sofia::register",
            "FreeSWITCH-Hostname": row.hostname,
            "from-user": row.reg_user,
            "from-host": row.realm,
            "contact": f"<{_contact(row.url)}>",
            "status": f"Registered({row.network_proto.upper()})",
            "expires": row.expires,
            "network-ip": row.network_ip,
            "network-port": row.network_port,
            "username": row.reg_user,
            "realm": row.realm,
        }
    )


CHANGES_A_TRIP: Final = 50
# The switch, the generation of what is known of it, and what is to be written.
_Noticed = tuple[str, int, CustomEvent | PhoneChange]


class Presence:
    """What phones are there and what they do, for all switches."""

    def __init__(self, state: SharedState, roster: Roster, settings: RedisSettings) -> None:
        self._state = state
        self._roster = roster
        self._settings = settings
        self._calls: defaultdict[str, PhoneCalls] = defaultdict(PhoneCalls)
        self._contacts: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._homes: dict[str, str] = {}
        # What was noticed before everything was read anew tells of a past that must not be written any more.
        self._generations: defaultdict[str, int] = defaultdict(int)
        self._writing = trio.Lock()
        self._send, self._receive = trio.open_memory_channel[_Noticed](MAX_EVENTS_WAITING)
        self.overflowed: set[str] = set()

    def __repr__(self) -> str:
        waiting = self._send.statistics().current_buffer_used
        return f"<Presence {len(self._contacts)} phones registered, {waiting} events waiting>"

    def notice(self, switch: str, event: Event) -> None:
        """Takes an event in, without waiting."""
        item: CustomEvent | PhoneChange | None
        if isinstance(event, CustomEvent):
            item = event if event.subclass in _GONE or event.subclass == "sofia::register" else None
        else:
            item = self._calls[switch].fold(event)
        if item is None:
            return
        try:
            self._send.send_nowait((switch, self._generations[switch], item))
        except trio.WouldBlock:
            if switch not in self.overflowed:
                log.error("presence_overflowed", switch=switch, limit=MAX_EVENTS_WAITING)
            self.overflowed.add(switch)

    async def run(self) -> None:
        """Writes what was noticed, in order, until cancelled."""
        async for switch, generation, item in self._receive:
            while True:
                try:
                    async with self._writing:
                        if generation == self._generations[switch]:
                            await self._write(switch, item)
                    break
                except UnavailableError as error:
                    log.warning("presence_not_written", error=str(error))
                    await trio.sleep(0.5)

    async def _write(self, switch: str, item: CustomEvent | PhoneChange) -> None:
        if isinstance(item, PhoneChange):
            await self._write_calls(item)
        else:
            await self._write_registration(switch, item)

    def link_begins(self, switch: str) -> None:
        """See `PhoneCalls.link_begins`."""
        self._calls[switch].link_begins()

    def look_begins(self, switch: str) -> None:
        """See `PhoneCalls.look_begins`."""
        self._calls[switch].look_begins()

    async def rebuild(self, switch: Switch, snapshot: Snapshot, agent_legs: frozenset[str]) -> None:
        """Reads registrations and calls anew. Raises UnavailableError if the switch or Redis is away."""
        text = await show(switch, "registrations")
        try:
            rows = msgspec.json.decode(text, type=_Registrations).rows
        except msgspec.MsgspecError as error:
            raise UnavailableError(f"the list of registrations of {switch.name!r} cannot be read: {error}") from error
        async with self._writing:
            agents = await self._roster.agents()
            self._generations[switch.name] += 1
            self.overflowed.discard(switch.name)
            for key in [key for key in self._contacts if key[0] == switch.name]:
                del self._contacts[key]
            values: dict[str, str] = {}
            for row in rows:
                self._contacts[switch.name, row.reg_user].add(_contact(row.url))
                values[row.reg_user] = _as_register_event(row)
            legs = agent_legs.union(agent.leg for agent in agents)  # other daemons keep some of them
            changes = self._calls[switch.name].rebuild(list(snapshot.channels.values()), legs, values.keys())
            await self._replace_registrations(switch.name, agents, values)
            await self._replace_calls(switch.name, agents, changes)
        log.info("presence_rebuilt", switch=switch.name, registrations=len(values), phones_on_calls=len(changes))

    def _home_of(self, extension: str) -> str:
        """The switch that `extension` gets calls on; empty if it is registered nowhere.

        A phone may be registered on several for safety, and tells each anew every few minutes: it stays where it is.
        """
        home = self._homes.get(extension, "")
        if not self._contacts.get((home, extension)):
            phones = self._contacts.items()
            home = next((name for (name, other), contacts in phones if other == extension and contacts), "")
            self._homes[extension] = home
        return home

    async def _replace_registrations(self, switch: str, agents: list[Agent], values: Mapping[str, str]) -> None:
        key = self._settings.registrations_key
        for agent in agents:
            self._homes.setdefault(agent.extension, agent.switch)
            if agent.switch == switch and agent.extension not in values:
                home = self._home_of(agent.extension)
                if not home:
                    await self._state.run(lambda client, ext=agent.extension: client.hdel(key, ext))  # type: ignore[misc]
                await self._roster.change(agent.extension, switch=home)
        if values:
            mapping: dict[Any, Any] = dict(values)
            await self._state.run(lambda client: client.hset(key, mapping=mapping))
        known = {agent.extension: agent.switch for agent in agents}
        for extension in values:
            home = self._home_of(extension)
            if known.get(extension) != home:
                await self._roster.change(extension, switch=home)

    def facts(self) -> dict[str, dict[str, str | int]]:
        """What is known of each phone, as facts of an agent: where it is, and how many calls of its own it has."""
        facts: dict[str, dict[str, str | int]] = {
            extension: {"switch": self._home_of(extension)} for _, extension in list(self._contacts)
        }
        for calls in self._calls.values():
            for extension, other_calls in calls.other_calls().items():
                facts.setdefault(extension, {})["other_calls"] = other_calls
        return facts

    async def _replace_calls(self, switch: str, agents: list[Agent], changes: list[PhoneChange]) -> None:
        busy = {change.extension for change in changes}
        # A phone that is registered nowhere may have lost its call and its registration unseen.
        idle = {agent.extension for agent in agents if agent.switch in (switch, "")} - busy
        for agent in agents:
            if agent.extension in idle and agent.other_calls:
                await self._roster.change(agent.extension, other_calls=0)
        key = self._settings.calls_key
        idle |= {extension for name, extension in self._contacts if name == switch} - busy
        if idle:
            await self._state.run(lambda client: client.hdel(key, *idle))
        await self._publish_calls(changes)
        known = {agent.extension: agent.other_calls for agent in agents}
        for change in changes:
            if known.get(change.extension, 0) != change.other_calls:
                await self._roster.change(change.extension, other_calls=change.other_calls)

    async def _write_calls(self, change: PhoneChange) -> None:
        await self._publish_calls([change])
        await self._roster.change(change.extension, other_calls=change.other_calls)

    async def _publish_calls(self, changes: Sequence[PhoneChange]) -> None:
        """Tells other tools, in small pieces: see Roster.agents."""
        settings = self._settings
        for start in range(0, len(changes), CHANGES_A_TRIP):
            texts = {one.extension: json.dumps(one.value) for one in changes[start : start + CHANGES_A_TRIP]}

            def write(client: Any, texts: dict[str, str] = texts) -> None:
                with client.pipeline(transaction=True) as pipe:
                    for extension, text in texts.items():
                        pipe.hset(settings.calls_key, extension, text)
                        pipe.publish(settings.calls_channel, text)
                    pipe.execute()

            await self._state.run(write)

    async def _write_registration(self, switch: str, event: CustomEvent) -> None:
        extension = event.header("from-user") or event.header("user")
        if not extension:
            return
        contacts = self._contacts[switch, extension]
        contact = _contact(str(event.all_headers().get("contact", "")))
        settings = self._settings
        text = json.dumps(event.all_headers())
        if event.subclass in _GONE:
            contacts.discard(contact)
            if contacts:  # a second phone of the same extension is still there
                return
            del self._contacts[switch, extension]
            home = self._home_of(extension)
            if home:  # it has moved to another switch
                await self._roster.change(extension, switch=home)
                return
        else:
            contacts.add(contact)

        def write(client: Any) -> None:
            with client.pipeline(transaction=True) as pipe:
                if contacts:
                    pipe.hset(settings.registrations_key, extension, text)
                else:
                    pipe.hdel(settings.registrations_key, extension)
                pipe.publish(settings.registrations_channel, text)
                pipe.execute()

        await self._state.run(write)
        await self._roster.change(extension, switch=self._home_of(extension))
