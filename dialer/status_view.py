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


def _pacing_row(campaign: dict[str, Any]) -> list[str | Text]:
    """How busy the agents are, the abandoned against the limit, and why it dials or does not."""
    pacing = campaign["pacing"]
    if pacing is None:
        return [campaign["name"], *["-"] * 6, campaign["why"]]
    busy = "-" if pacing["occupancy_percent"] is None else f"{pacing['occupancy_percent']:.0f} %"
    calls_each = f"{pacing['calls'] / pacing['agents_busy']:.1f}" if pacing["agents_busy"] else "-"
    limit = pacing["abandon_limit_percent"]
    abandoned = [
        _percent(pacing[f"abandoned_{span}"], pacing[f"live_answers_{span}"], limit) for span in ("day", "month")
    ]
    left = f"{pacing['abandoned_left']} call{'' if pacing['abandoned_left'] == 1 else 's'}"
    return [campaign["name"], busy, calls_each, *abandoned, f"{limit:g} %", left, campaign["why"]]


def _percent(abandoned: int, live: int, limit: float) -> Text:
    percent = 100 * abandoned / live if live else 0.0
    return Text(f"{percent:.2f} %", "bold red" if percent > limit else "")


def status_view(status: dict[str, Any]) -> RenderableType:
    """Everything in the answer, one block a subject."""
    parts: list[RenderableType] = []
    switches = text_table("switch", "state", "events", "last loss")
    for one in status["switches"]:
        state = Text("ready", "green") if one["ready"] else Text("away", "bold red")
        switches.add_row(one["name"], state, str(one["events_received"]), one["last_loss"] or "-")
    parts += [switches, ""]

    campaigns = text_table("campaign", "mode", "status", "calls", "leads", "outcomes in 24 h")
    pacing = text_table("pacing", "busy", "calls each", "abandoned", "in 30 d", "limit", "left", "why")
    for one in status["campaigns"]:
        campaigns.add_row(
            one["name"],
            one["mode"],
            one["status"],
            _counts(one["calls"]),
            _counts(one["leads"]),
            _counts(one["outcomes_24h"]),
        )
        pacing.add_row(*_pacing_row(one))
    parts += [campaigns, "", pacing, ""]

    said = text_table("what agents said", "in 24 h")
    for one in status["campaigns"]:
        if one["said_24h"]:
            said.add_row(one["name"], _counts(one["said_24h"]))
    if said.rows:
        parts += [said, ""]

    gateways = text_table("gateway", "switch", "in use", "of", "calls/s", "state")
    for one in status["gateways"]:
        style = "bold red" if one["rests"] else "yellow" if one["trouble"] else "green"
        gateways.add_row(
            one["name"],
            one["switch"],
            "?" if one["in_use"] is None else str(one["in_use"]),
            str(one["concurrency"]),
            f"{one['calls_per_second']:g}",
            Text(one["trouble"] or one["line"], style),
        )
    parts += [gateways, ""]

    states = Counter(agent["state"] for agent in status["agents"])
    parts.append(Text(f"agents: {_counts(dict(states))}", "bold"))
    agents = text_table("agent", "state", "for", "campaign", "calls", "said last")
    now_ms = time.time() * 1000
    for one in status["agents"][:40]:
        agents.add_row(
            one["extension"],
            Text(one["state"], _STATE_STYLE.get(one["state"], "")),
            f"{max(0, int((now_ms - one['since_ms']) / 1000))} s",
            one["campaign"],
            str(one["calls_taken"]),
            one["last_said"] or "-",
        )
    if len(status["agents"]) > 40:
        agents.add_row("…", f"{len(status['agents']) - 40} more", "", "", "", "")
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
    parts += [Text(f"not known now: {what}", "bold red") for what in status["not_known"]]
    if status["clock_trouble"]:
        parts.append(Text(f"nothing is dialed: {status['clock_trouble']}", "bold red"))
    for node, attempts in status["left_open"].items():
        told = (
            f"{attempts} calls of the node {node!r} are open for hours: has it gone? A daemon of that name ends them"
        )
        parts.append(Text(told, "yellow"))
    return Group(*parts)


def status_text(status: dict[str, Any]) -> str:
    """The same without colours, for a pipe or a terminal that scrolls."""
    return as_text(status_view(status))
