"""What `dialer status` answered, as people read it: plain text for a pipe, a table that lives for a terminal."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from dialer.text_table import as_text, text_table

_STATE_STYLE = {
    "idle": "green",
    "on_call": "bold cyan",
    "reserved": "cyan",
    "wrap_up": "yellow",
    "paused": "dim",
    "offline": "red",
}


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "-"


def _busy(pacing: dict[str, Any] | None) -> str:
    """How busy the agents were of late, and how many calls there are for each who is busy."""
    if pacing is None or pacing["occupancy_percent"] is None:
        return "-"
    calls_per_agent = f", {pacing['calls'] / pacing['agents_busy']:.1f} calls each" if pacing["agents_busy"] else ""
    return f"{pacing['occupancy_percent']:.0f} %{calls_per_agent}"


def _abandoned(pacing: dict[str, Any] | None) -> Text:
    """Of those who answered, in a day and in 30 days, against the limit."""
    if pacing is None:
        return Text("-")
    parts, worst = [], 0.0
    for span, name in (("day", "24 h"), ("month", "30 d")):
        live, abandoned = pacing[f"live_answers_{span}"], pacing[f"abandoned_{span}"]
        percent = 100 * abandoned / live if live else 0.0
        worst = max(worst, percent)
        parts.append(f"{percent:.2f} % in {name}")
    limit = pacing["abandon_limit_percent"]
    return Text(f"{', '.join(parts)} (limit {limit:g} %)", "bold red" if worst > limit else "")


def status_view(status: dict[str, Any]) -> RenderableType:
    """Everything in the answer, one block a subject."""
    parts: list[RenderableType] = []
    switches = text_table("switch", "state", "events", "last loss")
    for one in status["switches"]:
        state = Text("ready", "green") if one["ready"] else Text("away", "bold red")
        switches.add_row(one["name"], state, str(one["events_received"]), one["last_loss"] or "-")
    parts += [switches, ""]

    campaigns = text_table(
        "campaign", "mode", "status", "busy", "abandoned", "calls", "leads", "outcomes in 24 h", "why"
    )
    for one in status["campaigns"]:
        campaigns.add_row(
            one["name"],
            one["mode"],
            one["status"],
            _busy(one["pacing"]),
            _abandoned(one["pacing"]),
            _counts(one["calls"]),
            _counts(one["leads"]),
            _counts(one["outcomes_24h"]),
            one["why"],
        )
    parts += [campaigns, ""]

    gateways = text_table("gateway", "switch", "in use", "of", "calls/s")
    for one in status["gateways"]:
        gateways.add_row(
            one["name"], one["switch"], str(one["in_use"]), str(one["concurrency"]), f"{one['calls_per_second']:g}"
        )
    parts += [gateways, ""]

    states = Counter(agent["state"] for agent in status["agents"])
    parts.append(Text(f"agents: {_counts(dict(states))}", "bold"))
    agents = text_table("agent", "state", "for", "campaign", "calls")
    now_ms = time.time() * 1000
    for one in status["agents"][:40]:
        agents.add_row(
            one["extension"],
            Text(one["state"], _STATE_STYLE.get(one["state"], "")),
            f"{max(0, int((now_ms - one['since_ms']) / 1000))} s",
            one["campaign"],
            str(one["calls_taken"]),
        )
    if len(status["agents"]) > 40:
        agents.add_row("…", f"{len(status['agents']) - 40} more", "", "", "")
    parts += [agents, ""]

    if status["offers"]:
        offers = text_table("offered to", "number", "campaign", "left")
        for one in status["offers"][:40]:
            offers.add_row(one["agent"], one["number"], one["campaign"], f"{one['seconds_left']:.0f} s")
        parts += [offers, ""]

    latencies = text_table("milliseconds", "count", "p50", "p99", "max")
    for name, one in status["metrics"].items():
        if name.endswith("_ms"):
            label = name.removesuffix("_ms").replace("_", " ")
            latencies.add_row(label, str(one["count"]), f"{one['p50']:g}", f"{one['p99']:g}", f"{one['max']:g}")
    parts.append(latencies)
    if status["database_trouble"]:
        parts.append(Text(f"results cannot be written: {status['database_trouble']}", "bold red"))
    return Group(*parts)


def status_text(status: dict[str, Any]) -> str:
    """The same without colours, for a pipe or a terminal that scrolls."""
    return as_text(status_view(status))
