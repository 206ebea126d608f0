"""Tables as people read them: in a terminal, columns without lines around them; in a spreadsheet, harmless cells."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.table import Table


def text_table(*columns: str) -> Table:
    """An empty table with these headings."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column)
    return table


def as_text(what: RenderableType) -> str:
    """`what` without colours, for a pipe or a terminal that scrolls."""
    console = Console(width=200, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(what)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def safe_cell(value: object) -> object:
    """No cell begins with what a spreadsheet would take for a formula. An E.164 number does, and harms nobody."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not value[1:].isdigit():
        return "'" + value
    return value
