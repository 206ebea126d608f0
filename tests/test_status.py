"""What an operator sees while something is away: all the rest, and what is missing."""

from __future__ import annotations

import trio

from dialer.status_view import status_text
from tests.faults.virtual import Trouble, VirtualHouse, run_virtually
from tests.house import number


def test_a_status_is_told_whatever_is_away(redis_url: str) -> None:
    async def story() -> None:
        async with VirtualHouse(redis_url).standing() as house:
            await house.start()
            await house.begin([number(0)], ["1000"])
            await house.until(lambda: house.switch.statistics().bridged == 1, "they talk", 30)
            await trio.sleep(0.02)  # the daemon has heard of it
            for away in (house.redis_faults, house.database_faults):
                away.down = Trouble.REFUSED
            status = await house.daemon.desk.status()
            assert [what.split(",")[0] for what in status["not_known"]] == ["agents", "campaigns but those that run"]
            assert (status["agents"], status["gateways"][0]["in_use"]) == ([], None)
            (campaign,) = status["campaigns"]
            assert (campaign["status"], campaign["calls"]["talking"]) == ("running", 1)
            assert "not known now: agents, and calls in use of gateways" in status_text(status)
            house.calm()
            status = await house.daemon.desk.status()
            assert (status["not_known"], len(status["agents"])) == ([], 1)

    run_virtually(story)
