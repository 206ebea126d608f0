"""The same few calls again and again, each time with one thing going wrong one moment later."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from tests.faults.stories import a_few_calls
from tests.faults.virtual import Faults, Trouble, VirtualHouse, run_virtually
from tests.faults.wire import Garble


def frames_of_the_story(redis_url: str, *, events_only: bool) -> int:
    def wrong(house: VirtualHouse) -> None:
        house.disorder.events_only = events_only
        house.disorder.frames = 0

    return run_virtually(a_few_calls, redis_url, wrong).disorder.frames  # type: ignore[no-any-return]


@pytest.mark.parametrize("phones", ["nailed_up", "on_demand"])
@pytest.mark.parametrize("garble", [Garble.CUT_BEFORE, Garble.CUT_INSIDE])
def test_the_link_is_cut_at_every_message(redis_url: str, garble: Garble, phones: str) -> None:
    moments = frames_of_the_story(redis_url, events_only=False)
    assert moments > 50
    every = 1 if phones == "nailed_up" else 3  # the same code for the customer's leg: a sample will do
    for moment in range(1, moments + 1, every):

        def wrong(house: VirtualHouse, moment: int = moment) -> None:
            house.disorder.at = {house.disorder.frames + moment: garble}

        told(run_virtually, moment, a_few_calls, redis_url, wrong, phones=f'"{phones}"')


def told(run: Callable[..., object], moment: int, *args: object, **kwargs: object) -> None:
    try:
        run(*args, **kwargs)
    except BaseException as error:
        error.add_note(f"at the moment {moment}")
        raise


@pytest.mark.parametrize("garble", [Garble.DROP, Garble.DOUBLE, Garble.SWAP, Garble.DELAY])
def test_every_event_is_lost_or_doubled_or_out_of_order_or_late(redis_url: str, garble: Garble) -> None:
    moments = frames_of_the_story(redis_url, events_only=True)
    assert moments > 40
    for moment in range(1, moments + 1):

        def wrong(house: VirtualHouse, moment: int = moment) -> None:
            house.disorder.events_only = True
            house.disorder.at = {house.disorder.frames + moment: garble}

        told(run_virtually, moment, a_few_calls, redis_url, wrong)


def requests_of_the_story(redis_url: str, faults: Callable[[VirtualHouse], Faults]) -> int:
    before = 0

    def wrong(house: VirtualHouse) -> None:
        nonlocal before
        before = faults(house).requests

    house = run_virtually(a_few_calls, redis_url, wrong)
    return faults(house).requests - before


@pytest.mark.parametrize("trouble", list(Trouble))
def test_redis_fails_at_every_request(redis_url: str, trouble: Trouble) -> None:
    moments = requests_of_the_story(redis_url, lambda house: house.redis_faults)
    assert moments > 50
    for moment in range(1, moments + 1):

        def wrong(house: VirtualHouse, moment: int = moment) -> None:
            house.redis_faults.at = {house.redis_faults.requests + moment: trouble}

        told(run_virtually, moment, a_few_calls, redis_url, wrong)


@pytest.mark.parametrize("seconds", [1.0, 12.0])  # shorter and longer than a lease
@pytest.mark.parametrize("trouble", [Trouble.REFUSED, Trouble.HANGING])
def test_redis_goes_at_every_request_and_comes_back(redis_url: str, trouble: Trouble, seconds: float) -> None:
    moments = requests_of_the_story(redis_url, lambda house: house.redis_faults)
    for moment in range(1, moments + 1, 4):

        def wrong(house: VirtualHouse, moment: int = moment) -> None:
            faults, at = house.redis_faults, house.redis_faults.requests + moment

            def on_request(request: int) -> None:
                if request == at:
                    faults.down = trouble
                    house.later(seconds, lambda: setattr(faults, "down", None))

            faults.on_request = on_request

        told(run_virtually, moment, a_few_calls, redis_url, wrong)


@pytest.mark.parametrize("trouble", list(Trouble))
def test_the_database_fails_at_every_write(redis_url: str, trouble: Trouble) -> None:
    moments = requests_of_the_story(redis_url, lambda house: house.database_faults)
    assert moments > 8
    for moment in range(1, moments + 1):

        def wrong(house: VirtualHouse, moment: int = moment) -> None:
            house.database_faults.at = {house.database_faults.requests + moment: trouble}

        told(run_virtually, moment, a_few_calls, redis_url, wrong)


# Tasks that tell a call's story, or keep what people want.
TELLERS = ("_run_attempt", "Attempt.", "_first_of", "on_the_list_first", "WrapUp._obey")


class KillAtStep(trio.abc.Instrument):
    """Kills the daemon after the n-th step of any task that tells a call's story."""

    def __init__(self, house: VirtualHouse, step: int) -> None:
        self.steps = 0
        self._house = house
        self._step = step
        self._token = trio.lowlevel.current_trio_token()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if any(part in task.name for part in TELLERS):
            self.steps += 1
            if self.steps == self._step:
                self._token.run_sync_soon(self._house.kill_now)


@pytest.mark.parametrize("phones", ["nailed_up", "on_demand"])
def test_the_daemon_dies_at_every_step_of_a_call(redis_url: str, phones: str) -> None:
    steps = 0
    step = 1
    while step == 1 or step <= steps:
        seen: list[KillAtStep] = []

        def wrong(house: VirtualHouse, step: int = step, seen: list[KillAtStep] = seen) -> None:
            seen.append(KillAtStep(house, step))
            trio.lowlevel.add_instrument(seen[0])

        told(run_virtually, step, a_few_calls, redis_url, wrong, phones=f'"{phones}"')
        steps = max(steps, seen[0].steps)
        step += 1 if phones == "nailed_up" else 2  # the customer's side is the same code
    assert steps > 60


@pytest.mark.parametrize("phones", ["nailed_up", "on_demand"])
def test_every_command_is_refused(redis_url: str, phones: str) -> None:
    """Those of a daemon that has died meanwhile, and those of the next that looks at what it left."""
    before = 0

    def die(house: VirtualHouse) -> None:
        nonlocal before
        before = house.switch.faults.asked["bgapi_refused"]
        house.later(0.4, house.kill_now)  # one talks by then

    def run(wrong: Callable[[VirtualHouse], None]) -> VirtualHouse:
        return run_virtually(a_few_calls, redis_url, wrong, phones=f'"{phones}"')  # type: ignore[no-any-return]

    commands = run(die).switch.faults.asked["bgapi_refused"] - before
    assert commands > 10
    for command in range(commands):

        def wrong(house: VirtualHouse, command: int = command) -> None:
            die(house)
            house.switch.faults.force("bgapi_refused", after=command)

        told(run, command, wrong)


@pytest.mark.parametrize("trouble", [Trouble.REFUSED, Trouble.UNANSWERED])
def test_the_database_is_away_when_a_daemon_starts_with_results_in_its_journal(
    redis_url: str, trouble: Trouble
) -> None:
    found_in_journal = 0

    def wrong(house: VirtualHouse) -> None:
        def die() -> None:
            nonlocal found_in_journal
            found_in_journal = len(house.journal)
            house.kill_now()

        house.later(0.35, lambda: setattr(house.database_faults, "down", trouble))
        house.later(8.0, die)
        house.later(12.0, house.kill_now)  # while it waits
        house.later(20.0, lambda: setattr(house.database_faults, "down", None))

    run_virtually(a_few_calls, redis_url, wrong)
    assert found_in_journal
