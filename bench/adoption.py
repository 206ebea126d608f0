"""A thousand conversations are on when the daemon starts: how long until it follows all of them and may dial."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

import trio

from bench.shared import CAMPAIGN, FIRST_EXTENSION, Stage, extensions, set_status, stage, tell
from campaigns.campaign import CampaignStatus
from dialer import log as logs
from dialer.daemon import Daemon, run_daemon

GOAL_SECONDS: Final = 2.0
READY_SECONDS: Final = 120.0

_SCENARIO: Final = """
max_sessions = 100000
[[phones]]
extensions = "{first}-{last}"
answer_delay = 0.2
[gateways.carrier_a]
ring_delay = 0.1
answer_delay = 0.2
talk = 3600.0
"""


async def measure(conversations: int) -> None:
    scenario = _SCENARIO.format(first=FIRST_EXTENSION, last=FIRST_EXTENSION + conversations - 1)
    async with stage(
        scenario, calls_per_second=100, phones="nailed_up", ring_seconds=20, leads=conversations
    ) as place:
        with (place.folder / "daemon.log").open("w", buffering=1, encoding="utf-8") as log_file:
            logs.configure_logging("warning", "json", log_file)
            await _fill_the_house(place, conversations)
            await _adopt(place, conversations)


async def _fill_the_house(place: Stage, conversations: int) -> None:
    """One life of the daemon, stopped with everybody talking."""
    stop = trio.Event()
    settings = place.settings.model_copy(
        update={"calls": place.settings.calls.model_copy(update={"drain_seconds": 0.0})}
    )
    async with trio.open_nursery() as nursery:
        daemon: Daemon = await nursery.start(partial(run_daemon, settings, stop=stop, handle_signals=False))
        for extension in extensions(conversations):
            await daemon.desk.agent_ready(extension, CAMPAIGN)
        await set_status(place.settings, CampaignStatus.RUNNING)
        await daemon.desk.campaigns_changed()
        with trio.fail_after(READY_SECONDS):
            while daemon.metrics.counts["bridged"] < conversations:  # noqa: ASYNC110 - a count, asked now and then
                await trio.sleep(0.1)
        await set_status(place.settings, CampaignStatus.PAUSED)
        stop.set()


async def _adopt(place: Stage, conversations: int) -> None:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        daemon: Daemon = await nursery.start(partial(run_daemon, place.settings, stop=stop, handle_signals=False))
        (keeper,) = daemon.keepers
        with trio.fail_after(READY_SECONDS):
            while not keeper.switch.connected:  # noqa: ASYNC110 - looked at closely, for the time
                await trio.sleep(0.001)
            connected_at = trio.current_time()

            def followed() -> int:
                return sum(watch.leg.bridged for watch in daemon.world.live_calls.on_switch(keeper.switch.name))

            # The customers' legs, and the agents' by those who keep them.
            while not (keeper.switch.ready and followed() >= 2 * conversations):  # noqa: ASYNC110
                await trio.sleep(0.005)
        seconds = trio.current_time() - connected_at
        tell("adoption", seconds, "s", conversations=conversations, goal=f"<= {GOAL_SECONDS:g}", met=seconds <= 2.0)
        stop.set()
        nursery.cancel_scope.deadline = trio.current_time() + 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=1000)
    trio.run(measure, parser.parse_args().conversations)


if __name__ == "__main__":
    main()
