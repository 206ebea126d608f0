"""Occupancy by policy as an SVG, written by hand: bars with their value, and what each policy abandoned beside it.

It has a ground of its own in both schemes, so that it can be read wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from bench.pacing.policies import LIMIT

Figure = Mapping[str, Any]

LABELS: Final[Mapping[str, str]] = {
    "progressive": "progressive, 1:1",
    "ratio2": "2 calls per idle agent",
    "ratio3": "3 calls per idle agent",
    "adaptive-tapered": "adaptive, tapered",
    "adaptive-average": "adaptive, average",
    "adaptive-average-ready": "adaptive, ready agents only",
    "best-ratio": "best fixed ratio in hindsight",
    "predictive": "predictive",
    "predictive+cancel": "predictive, takes calls back",
    "predictive+model": "predictive, knows its leads",
    "predictive+truth": "predictive, told the truth",
}
# What each looks like: the shipped ones stand out, what abandons too much is pale whoever it is.
SHIPPED: Final = ("predictive", "predictive+cancel", "predictive+model", "predictive+truth")
ORDER: Final = tuple(LABELS)

LABEL_WIDTH, BAR_WIDTH, ABANDONED_WIDTH = 190, 190, 74
PANEL_WIDTH: Final = LABEL_WIDTH + BAR_WIDTH + ABANDONED_WIDTH
ROW, BAR = 17, 11
GROUP_HEAD, PANEL_HEAD = 24, 34
MARGIN, GAP = 24, 36
COLUMNS: Final = 2
TITLE: Final = 76
LOWEST: Final = 50.0  # percent, where bars begin; said in the subtitle

_STYLE: Final = """
  .ground { fill: #ffffff; stroke: #d1d9e0 } .line { stroke: #d1d9e0 } .track { fill: #f0f3f6 }
  text { font-family: -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 18px; font-weight: 600 } .head { font-size: 14px; font-weight: 600 }
  .small { font-size: 11px } .quiet { fill: #59636e } .own { font-weight: 600 }
  .bar { fill: #8c959f } .bar.own { fill: #1a7f64 } .bar.over { fill: #d8b4ae }
  .number { font-variant-numeric: tabular-nums } .bad { fill: #c0392b; font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #3d444d } .line { stroke: #3d444d } .track { fill: #1b222b }
    text { fill: #f0f6fc } .quiet { fill: #9198a1 }
    .bar { fill: #767f8a } .bar.own { fill: #2fb592 } .bar.over { fill: #6b3f3b } .bad { fill: #ff8b7d }
  }
"""


def chart(figures: Iterable[Figure]) -> str:
    """The SVG of such figures as the bench prints."""
    panels: dict[str, dict[int, list[Figure]]] = {}
    for figure in figures:
        panels.setdefault(figure["scenario"], {}).setdefault(figure["agents"], []).append(figure)
    drawn = [_panel(scenario, groups) for scenario, groups in panels.items()]
    parts, top = [], TITLE
    columns = min(COLUMNS, max(1, len(drawn)))
    for start in range(0, len(drawn), columns):
        row = drawn[start : start + columns]
        for column, (panel, _) in enumerate(row):
            left = MARGIN + column * (PANEL_WIDTH + GAP)
            parts.append(f'<g transform="translate({left} {top})">{panel}</g>')
        top += max(height for _, height in row) + 14
    width, height = 2 * MARGIN + columns * PANEL_WIDTH + (columns - 1) * GAP, top + 6
    limit = f"{100 * LIMIT:g} %"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}" role="img">',
            f"<title>Occupancy and abandoned calls by pacing policy</title><style>{_STYLE}</style>",
            f'<rect class="ground" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            _text(MARGIN, 34, "Occupancy by pacing policy", "title"),
            _text(
                MARGIN,
                54,
                f"Bars: share of logged-in time in talk or wrap-up, from {LOWEST:g} to 100 %. "
                f"Right: abandoned of live answers; pale and red is more than {limit}.",
                "small quiet",
            ),
            *parts,
            "</svg>\n",
        ]
    )


def _panel(scenario: str, groups: Mapping[int, list[Figure]]) -> tuple[str, int]:
    """One scenario, and how high it is."""
    parts = [
        _text(0, 18, scenario, "head"),
        _text(LABEL_WIDTH, 18, "occupancy", "small quiet"),
        _text(PANEL_WIDTH, 18, "abandoned", "small quiet", "end"),
        f'<line class="line" x1="0" x2="{PANEL_WIDTH}" y1="26.5" y2="26.5"/>',
    ]
    y = PANEL_HEAD
    for agents, figures in sorted(groups.items()):
        parts.append(_text(0, y + 14, f"{agents} agents", "small quiet"))
        y += GROUP_HEAD
        for figure in sorted(figures, key=lambda each: _place(each["policy"])):
            parts.append(_row(y, figure))
            y += ROW
        y += 4
    return "\n".join(parts), y


def _row(y: int, figure: Figure) -> str:
    policy, value, abandoned = str(figure["policy"]), float(figure["value"]), float(figure["abandoned_percent"])
    own = " own" if policy in SHIPPED else ""
    over = abandoned > 100 * LIMIT
    track = BAR_WIDTH - 40  # the value stands behind it
    width = track * max(0.0, (value - LOWEST) / (100.0 - LOWEST))
    top = y + (ROW - BAR) / 2
    base = y + ROW / 2 + 4
    kind = " over" if over and not own else own
    return "".join(
        [
            _text(0, base, LABELS.get(policy, policy), f"small{own}"),
            f'<rect class="track" x="{LABEL_WIDTH}" y="{top}" width="{track}" height="{BAR}" rx="2"/>',
            f'<rect class="bar{kind}" x="{LABEL_WIDTH}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>',
            _text(LABEL_WIDTH + BAR_WIDTH - 4, base, f"{value:.1f}", f"small number{own}", "end"),
            _text(PANEL_WIDTH, base, f"{abandoned:.1f} %", f"small number {'bad' if over else 'quiet'}", "end"),
        ]
    )


def _place(policy: str) -> int:
    return ORDER.index(policy) if policy in ORDER else len(ORDER)


def _text(x: float, y: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'
