"""What can happen to a dialer: each step is one thing that goes wrong, or that people do."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from dialer.errors import DialerError
from dialer.simulator.channel import Side
from tests.faults.virtual import Trouble, VirtualHouse

Step = Callable[[VirtualHouse, random.Random], Awaitable[None]]


async def nothing(_house: VirtualHouse, _dice: random.Random) -> None:
    """Time passes."""


# The daemon.


async def kill(house: VirtualHouse, dice: random.Random) -> None:
    await house.kill()
    await trio.sleep(dice.choice([0.0, 0.3, 8.0]))
    await house.start()


async def kill_again_at_once(house: VirtualHouse, dice: random.Random) -> None:
    for _ in range(3):
        await house.kill()
        await house.start()
        await trio.sleep(dice.uniform(0.0, 0.7))


async def stop_in_order(house: VirtualHouse, _dice: random.Random) -> None:
    await house.stop()
    await house.start()


# The switch.


async def cut_the_link(house: VirtualHouse, _dice: random.Random) -> None:
    house.switch.drop_connections()


async def cut_inside_a_frame(house: VirtualHouse, _dice: random.Random) -> None:
    house.switch.drop_connections(in_a_frame=True)


async def switch_unreachable(house: VirtualHouse, dice: random.Random) -> None:
    house.unreachable = True
    house.switch.drop_connections()
    house.later(dice.choice([0.5, 5.0]), lambda: setattr(house, "unreachable", False))


async def link_stalls(house: VirtualHouse, _dice: random.Random) -> None:
    house.switch.stall()


async def switch_restarts(house: VirtualHouse, _dice: random.Random) -> None:
    house.switch.restart()


async def an_event_is_lost(house: VirtualHouse, dice: random.Random) -> None:
    names = ["CHANNEL_ANSWER", "CHANNEL_PARK", "CHANNEL_BRIDGE", "CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"]
    house.switch.faults.lose_event(dice.choice([*names, "CHANNEL_DESTROY", "CHANNEL_UNBRIDGE", "BACKGROUND_JOB"]))


async def a_bridge_fails(house: VirtualHouse, dice: random.Random) -> None:
    house.switch.faults.force(dice.choice(["bridge_never_comes", "bridge_kills_both", "bridge_loses_agent"]))


async def a_command_is_refused(house: VirtualHouse, dice: random.Random) -> None:
    house.switch.faults.force(dice.choice(["bgapi_refused", "originate_fails_silently", "reply_slow"]))


# Redis and the database.


async def redis_goes(house: VirtualHouse, dice: random.Random) -> None:
    house.redis_faults.down = dice.choice([Trouble.REFUSED, Trouble.HANGING])
    house.later(dice.choice([0.2, 2.0, 9.0]), lambda: setattr(house.redis_faults, "down", None))


async def redis_loses_an_answer(house: VirtualHouse, dice: random.Random) -> None:
    house.redis_faults.at[house.redis_faults.requests + dice.randint(1, 20)] = Trouble.UNANSWERED


async def redis_loses_its_data(house: VirtualHouse, _dice: random.Random) -> None:
    house.lose_redis_data()


async def database_goes(house: VirtualHouse, dice: random.Random) -> None:
    house.database_faults.down = dice.choice([Trouble.REFUSED, Trouble.HANGING])
    house.later(dice.choice([0.2, 2.0, 9.0]), lambda: setattr(house.database_faults, "down", None))


async def database_loses_an_answer(house: VirtualHouse, dice: random.Random) -> None:
    house.database_faults.at[house.database_faults.requests + dice.randint(1, 4)] = Trouble.UNANSWERED


# People.


def _some_channel(house: VirtualHouse, dice: random.Random, side: Side) -> str:
    found = [one.uuid for one in house.switch.channels.values() if one.side is side and not one.hung_up]
    return dice.choice(found) if found else ""


async def a_customer_hangs_up(house: VirtualHouse, dice: random.Random) -> None:
    house.switch.hang_up(_some_channel(house, dice, Side.CUSTOMER))


async def a_phone_drops_its_call(house: VirtualHouse, dice: random.Random) -> None:
    house.switch.hang_up(_some_channel(house, dice, Side.PHONE))


async def a_phone_unregisters(house: VirtualHouse, dice: random.Random) -> None:
    extension = dice.choice(["1000", "1001"])
    house.switch.unregister(extension)
    house.later(3.0, lambda: house.switch.register(extension))


async def an_agent_calls_out(house: VirtualHouse, dice: random.Random) -> None:
    own = house.switch.agent_calls_out(dice.choice(["1000", "1001"]), "5551238")
    house.later(2.0, lambda: house.switch.hang_up(own))


async def an_agent_pauses(house: VirtualHouse, dice: random.Random) -> None:
    extension = dice.choice(["1000", "1001"])
    try:
        await house.daemon.desk.agent_pause(extension)
    except DialerError:
        return  # they are told, and ask again
    finally:
        house.later(1.0, lambda: house.wants_ready.add(extension))


STEPS: Final[tuple[Step, ...]] = (
    nothing,
    kill,
    kill_again_at_once,
    stop_in_order,
    cut_the_link,
    cut_inside_a_frame,
    switch_unreachable,
    link_stalls,
    switch_restarts,
    an_event_is_lost,
    a_bridge_fails,
    a_command_is_refused,
    redis_goes,
    redis_loses_an_answer,
    redis_loses_its_data,
    database_goes,
    database_loses_an_answer,
    a_customer_hangs_up,
    a_phone_drops_its_call,
    a_phone_unregisters,
    an_agent_calls_out,
    an_agent_pauses,
)
