"""The simulated floor of the pacing bench, against what can be worked out by hand."""

from __future__ import annotations

import random
import statistics
from xml.etree import ElementTree

import attrs
import pytest

from bench.pacing.chart import chart
from bench.pacing.floor import Floor, Outcome, Policy
from bench.pacing.measure import Cell, measure
from bench.pacing.policies import POLICIES, Ratio
from bench.pacing.scenario import Scenario, lead_drawer, lognormal_mu, read_scenarios

SCENARIOS = read_scenarios()
# Everybody answers after 10 s, talks for 30 s and is written up for 10 s.
EXACT = attrs.evolve(
    SCENARIOS["stat"],
    name="exact",
    answer_rate=1.0,
    fast_failures=0.0,
    ring_mean_seconds=10.0,
    ring_sigma=0.0,
    talk_mean_seconds=30.0,
    talk_sigma=0.0,
    short_share=0.0,
    wrap_up_mean_seconds=10.0,
    wrap_up_sigma=0.0,
)


def run(scenario: Scenario, agents: int, policy: Policy, hours: float = 1.0) -> Outcome:
    return Floor(scenario, agents, policy, seed=1, hours=hours, warm_up_seconds=0.0).run()


@pytest.mark.parametrize("agents", [1, 7])
def test_one_call_per_agent_by_hand(agents: int) -> None:
    outcome = run(EXACT, agents, POLICIES["progressive"]())
    # Ring 10 s, talk 30 s, wrap up 10 s, 72 times an hour.
    assert outcome.busy_seconds == pytest.approx(agents * 72 * 40)
    assert outcome.present_seconds == pytest.approx(agents * 3600)
    assert (outcome.dials, outcome.answers, outcome.abandoned) == (agents * 72, agents * 72, 0)


def test_the_second_of_two_calls_is_abandoned() -> None:
    outcome = run(EXACT, 1, Ratio(2.0))
    assert outcome.occupancy_percent == pytest.approx(80.0)
    assert (outcome.answers, outcome.abandoned, outcome.connected) == (144, 72, 72)
    assert outcome.abandoned_percent == outcome.worst_hour_percent == 50.0


def test_whoever_has_patience_gets_the_next_agent() -> None:
    """Two calls at once for one agent: the second person waits for the 40 s until the agent is free again."""
    outcome = run(attrs.evolve(EXACT, patience_seconds=40.5), 1, Ratio(2.0))
    assert outcome.abandoned == 0
    assert outcome.occupancy_percent == pytest.approx(100.0 * 80 / 90)


def test_the_warm_up_is_left_out_of_occupancy_but_not_of_abandoned() -> None:
    outcome = Floor(EXACT, 1, Ratio(2.0), seed=1, hours=25 / 3600, warm_up_seconds=25.0).run()
    # Busy from the 10th second to the end of the 50th.
    assert outcome.busy_seconds == pytest.approx(25.0)
    assert outcome.present_seconds == pytest.approx(25.0)
    assert (outcome.answers, outcome.abandoned, outcome.answers_after_warm_up) == (2, 1, 0)


def test_those_who_go_on_break_finish_their_call_and_are_not_logged_in() -> None:
    """The break begins at 45 s, in the first wrap-up: the agent goes at 50 s and is back at 80 s."""
    breaks = attrs.evolve(EXACT, break_share=1.0, break_every_minutes=45 / 60, break_minutes=30 / 60)
    outcome = run(breaks, 1, POLICIES["progressive"](), hours=85 / 3600)
    assert outcome.present_seconds == pytest.approx(55.0)
    assert outcome.busy_seconds == pytest.approx(40.0)


def test_no_more_calls_than_channels() -> None:
    class Greedy(Policy):
        most = 0

        def decide(self, floor: Floor) -> tuple[int, tuple[str, ...]]:
            self.most = max(self.most, floor.in_flight)
            return 1000, ()

    greedy = Greedy()
    run(SCENARIOS["trunks"], 10, greedy, hours=0.1)
    assert greedy.most == 12


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scenario", ["breaks", "mixed"])
def test_every_call_ends_once(policy: str, scenario: str) -> None:
    often = attrs.evolve(SCENARIOS[scenario], break_every_minutes=4.0, break_minutes=5.0)
    outcome = run(often, 6, POLICIES[policy](), hours=0.25)
    assert outcome.answers == outcome.connected + outcome.abandoned + outcome.waiting
    assert outcome.dials == outcome.answers + outcome.failed + outcome.withdrawn + outcome.ringing
    assert 0 < outcome.busy_seconds <= outcome.present_seconds


def test_calls_taken_back_are_never_answered() -> None:
    class TakesBack(Policy):
        tick_seconds = 1.0

        def __init__(self) -> None:
            self.ringing: list[str] = []

        def decide(self, floor: Floor) -> tuple[int, tuple[str, ...]]:
            if floor.now % 20.0 == 5.0:
                taken, self.ringing = tuple(self.ringing), []
                return 0, taken
            return (3, ()) if floor.now % 20.0 == 0.0 else (0, ())

        def placed(self, call: object, now: float) -> None:
            self.ringing.append(call.id)  # type: ignore[attr-defined]

    outcome = run(EXACT, 2, TakesBack(), hours=0.1)
    assert outcome.withdrawn == outcome.dials - outcome.ringing > 0
    assert outcome.answers == 0


def test_a_seed_gives_the_same_run_again() -> None:
    first, second = (run(SCENARIOS["step"], 5, Ratio(2.0)) for _ in range(2))
    assert first == second


def test_scenarios_are_as_they_say() -> None:
    step = SCENARIOS["step"].answer_rate_at(73_800.0)
    assert [step(seconds) for seconds in (0.0, 1799.0, 1800.0, 3600.0)] == [0.2, 0.2, 0.5, 0.2]
    bad_list = SCENARIOS["bad_list"].answer_rate_at(1000.0)
    assert [bad_list(seconds) for seconds in (0.0, 499.0, 500.0, 999.0)] == [0.4, 0.4, 0.1, 0.1]
    draw = lead_drawer(SCENARIOS["spread"], random.Random(1))
    assert statistics.fmean(rate for _, rate in (draw() for _ in range(5000))) == pytest.approx(0.30, abs=0.02)


def test_cut_off_talks_have_the_mean_that_is_asked_for() -> None:
    rng, mu = random.Random(1), lognormal_mu(190.0, 1.5, 5400.0)
    talks = [talk for talk in (rng.lognormvariate(mu, 1.5) for _ in range(200_000)) if talk <= 5400.0]
    assert statistics.fmean(talks) == pytest.approx(190.0, rel=0.02)


def test_the_chart_shows_each_cell() -> None:
    figures = [measure(Cell(policy, EXACT, 2, 0.1, 1)) for policy in ("progressive", "best-ratio", "ratio2")]
    drawing = chart(figures)
    ElementTree.fromstring(drawing)
    assert "2 calls per idle agent" in drawing
    assert f"{figures[2]['abandoned_percent']:.1f} %" in drawing
