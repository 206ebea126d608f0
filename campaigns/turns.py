"""Whose turn it is among lists of one priority: each gets turns in proportion to its weight, evenly spread. Pure.

This is smooth weighted round-robin: at each turn every list that has somebody to call earns its weight, the richest
one takes the turn and pays what all have earned. Credits stay bounded, so that a list which had nobody to offer for a
day has not saved up a day of turns.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs


@attrs.define
class _Taker:
    list_id: int
    weight: int
    credit: float


class Turns:
    """Gives turns to lists, given as (list id, weight, credit), for as long as any is left."""

    def __init__(self, lists: Iterable[tuple[int, int, float]]) -> None:
        self._takers = {list_id: _Taker(list_id, weight, credit) for list_id, weight, credit in lists}
        self._left = dict(self._takers)

    def next(self) -> int | None:
        """The list whose turn it is; None when none is left. Asking changes nothing."""
        best, richest = None, 0.0
        for one in self._left.values():
            credit = one.credit + one.weight
            if best is None or credit > richest or (credit == richest and one.list_id < best):
                best, richest = one.list_id, credit
        return best

    def take(self, list_id: int) -> None:
        """`list_id`, which had the turn, has used it."""
        if len(self._left) == 1:
            return  # it would pay itself
        earned = 0
        for one in self._left.values():
            one.credit += one.weight
            earned += one.weight
        self._left[list_id].credit -= earned

    def leave(self, list_id: int) -> None:
        """`list_id` has nobody to offer: it gets no more turns, and keeps what it is owed."""
        del self._left[list_id]

    @property
    def credits(self) -> dict[int, float]:
        """What each list is owed, those that have left among them."""
        return {one.list_id: one.credit for one in self._takers.values()}
