"""Agents say what became of their conversations: at the door, or by the keys of their phones in wrap-up.

Keys are taken of nailed-up legs that are in park; during a conversation an agent's keys are meant for the other side,
and an on-demand phone has no leg once its call is over. Which conversation is meant, the roster knows: that which is
on, or the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import attrs
import structlog
import trio

from campaigns import outcomes
from campaigns.database import Database
from campaigns.saying import SAY_WITHIN, Said
from dialer.calls.leg import KEYS
from dialer.calls.world import World
from dialer.door import Handler
from dialer.errors import InputRefusedError, UnavailableError
from dialer.esl.messages import Event
from dialer.records.ledger import DatabaseLedger

log = structlog.get_logger()

# A roster that cannot be asked which conversation a key is about is asked again for so long.
ASK_AGAIN_SECONDS: Final = 1.0
ASK_TIMES: Final = 10
MAX_WAITING_PRESSES: Final = 1_000


@attrs.frozen
class _Press:
    extension: str
    key: str
    age_from: float  # trio's time


class WrapUp:
    """Verbs for the door, beside those of `Desk`, and a listener to keys. `run` obeys the keys."""

    def __init__(
        self, world: World, database: Database, ledger: DatabaseLedger, agent_of_leg: Callable[[str], str | None]
    ) -> None:
        self._world = world
        self._database = database
        self._ledger = ledger
        self._agent_of_leg = agent_of_leg
        self._pressed, self._presses = trio.open_memory_channel[_Press](MAX_WAITING_PRESSES)

    def __repr__(self) -> str:
        return f"<WrapUp, {self._presses.statistics().current_buffer_used} keys to obey>"

    def verbs(self) -> dict[str, Handler]:
        return {"agent_dispose": self.agent_dispose}

    async def agent_dispose(
        self,
        extension: str,
        name: str,
        at: str = "",
        in_minutes: float | None = None,
        for_anyone: bool = False,
        note: str = "",
    ) -> str:
        """The agent's conversation, the one that is on or the last, is called `name`, one of its campaign's outcomes.

        A call-back is `at` a time or `in_minutes`, for this agent unless it is `for_anyone`.
        """
        texts = (extension, name, at, note)
        if not all(isinstance(text, str) for text in texts) or not isinstance(for_anyone, bool) or not name:
            raise InputRefusedError("extension, name, at and note are texts, and for_anyone is true or false")
        if in_minutes is not None and not (_is_number(in_minutes) and in_minutes >= 0):
            raise InputRefusedError(f"in_minutes is a number of minutes, and not {in_minutes!r}")
        said = Said(
            await self._conversation_of(extension),
            extension,
            self._world.clock.now(),
            name=name,
            note=note,
            call_at=at,
            in_minutes=in_minutes,
            for_anyone=for_anyone,
        )
        told = await self._database.write(said.write)
        log.info("outcome_said", agent=extension, attempt=said.attempt, outcome=name)
        return told

    async def _conversation_of(self, extension: str) -> str:
        """The attempt of the agent's conversation: the one that is on, or the last. Raises InputRefusedError."""
        agent = await self._world.roster.agent(extension)
        if agent.last_call:
            return agent.last_call
        since = self._world.clock.now() - SAY_WITHIN  # Redis may have forgotten it
        found = await self._database.read(lambda session: outcomes.last_call_of(session, extension, since))
        if found is None:
            raise InputRefusedError(f"{extension} has had no conversation of which anything could be said")
        return found

    def notice(self, event: Event) -> None:
        """A key was pressed, perhaps, on the phone of an agent who talks to nobody. Called by the link's reader."""
        if event.name != "DTMF":
            return
        extension, leg = self._agent_of_leg(event.unique_id), self._world.live_calls.leg(event.unique_id)
        if extension is None or leg is None or leg.bridged or not leg.parked:
            return
        key = event.header("DTMF-Digit")
        if key in KEYS:
            try:
                self._pressed.send_nowait(_Press(extension, key, trio.current_time()))
            except trio.WouldBlock:
                log.warning("key_not_obeyed", agent=extension, key=key)

    async def run(self) -> None:
        """Obeys keys in the order in which they were pressed, each agent's, until cancelled."""
        async with trio.open_nursery() as nursery:
            async for press in self._presses:
                nursery.start_soon(self._obey, press)

    async def _obey(self, press: _Press) -> None:
        for _ in range(ASK_TIMES):
            try:
                conversation = await self._conversation_of(press.extension)
            except InputRefusedError as error:
                log.info("key_means_nothing", agent=press.extension, key=press.key, reason=str(error))
                return
            except UnavailableError as error:
                log.warning("key_waits", agent=press.extension, key=press.key, error=str(error))
                await trio.sleep(ASK_AGAIN_SECONDS)
            else:
                await self._say(press, conversation)
                return
        log.error("key_not_obeyed", agent=press.extension, key=press.key)

    async def _say(self, press: _Press, conversation: str) -> None:
        pressed_at = self._world.clock.now() - timedelta(seconds=trio.current_time() - press.age_from)
        said = Said(conversation, press.extension, pressed_at, key=press.key)
        try:
            told = await self._ledger.say(said)
        except InputRefusedError as error:
            log.info("key_means_nothing", agent=press.extension, key=press.key, reason=str(error))
        else:
            log.info("outcome_said", agent=press.extension, attempt=conversation, key=press.key, told=told)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
