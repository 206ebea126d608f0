"""Measures every cell that is asked for: a line of JSON each, and a chart on request."""

from __future__ import annotations

import argparse
import json
import multiprocessing
from pathlib import Path
from typing import Any, Final

from bench.pacing.chart import chart
from bench.pacing.measure import BEST_RATIO, Cell, measure
from bench.pacing.policies import POLICIES
from bench.pacing.scenario import read_scenarios

SCENARIOS: Final = ("stat", "short", "step", "heavy")
SIZES: Final = (10, 50, 200)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pacing", description=__doc__)
    policies = [*POLICIES, BEST_RATIO]
    parser.add_argument(
        "--scenario", nargs="+", default=SCENARIOS, metavar="S", help="of the files; " + _or(SCENARIOS)
    )
    parser.add_argument("--agents", nargs="+", type=int, default=SIZES, metavar="N")
    parser.add_argument("--policy", nargs="+", default=policies, choices=policies, metavar="P", help=_or(policies))
    parser.add_argument("--hours", type=float, default=20.0, help="after half an hour that occupancy leaves out")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument(
        "--scenarios", nargs="+", type=Path, default=[], metavar="FILE", help="files of more scenarios"
    )
    parser.add_argument("--chart", type=Path, metavar="FILE.svg")
    parser.add_argument(
        "--drawn-from", type=Path, metavar="FILE", help="measures nothing: charts lines printed earlier"
    )
    options = parser.parse_args()
    if options.drawn_from is not None:
        figures = [json.loads(line) for line in options.drawn_from.read_text(encoding="utf-8").splitlines()]
    else:
        known = read_scenarios(*options.scenarios)
        if unknown := set(options.scenario) - set(known):
            parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
        figures = _measured(
            [
                Cell(policy, known[scenario], agents, options.hours, options.seeds)
                for scenario in options.scenario
                for agents in options.agents
                for policy in options.policy
            ],
            options.jobs,
        )
    if options.chart is not None:
        options.chart.write_text(chart(figures), encoding="utf-8")


def _or(names: tuple[str, ...] | list[str]) -> str:
    return "default: " + " ".join(names)


def _measured(cells: list[Cell], jobs: int) -> list[dict[str, Any]]:
    figures = []
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(cells))) as pool:
        for figure in pool.imap(measure, cells):
            print(json.dumps(figure), flush=True)
            figures.append(figure)
    return figures


if __name__ == "__main__":
    main()
