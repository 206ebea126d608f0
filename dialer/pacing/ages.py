"""Things that began at some moment, counted by how long ago that was. Pure."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

_FIRST_ROOM: Final = 64


class Ages:
    """How many there are of each kind and age. Kept so that a count does not walk through Python objects.

    `bin_of[s]` is the bin of whoever is `s` whole seconds old, rising with age; who is older is in the last one.
    """

    def __init__(self, bin_of: Ints, kinds: int = 1) -> None:
        self._bin_of = bin_of
        self._bins = int(bin_of[-1]) + 1
        self._kinds = kinds
        self._began: Floats = np.zeros(_FIRST_ROOM)
        self._first_bin: Ints = np.zeros(_FIRST_ROOM, np.intp)  # of the kind, in the flat table of counts
        self._place: dict[str, int] = {}
        self._names: list[str] = []

    def __repr__(self) -> str:
        return f"<Ages of {len(self._names)}>"

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._place

    def begin(self, name: str, now_seconds: float, kind: int = 0) -> None:
        """`name` begins now, as `kind`; if it had begun before, that is forgotten."""
        place = self._place.get(name)
        if place is None:
            place = len(self._names)
            if place == len(self._began):
                self._began = np.concatenate([self._began, np.zeros(place)])
                self._first_bin = np.concatenate([self._first_bin, np.zeros(place, np.intp)])
            self._place[name] = place
            self._names.append(name)
        self._began[place] = now_seconds
        self._first_bin[place] = kind * self._bins

    def become(self, name: str, kind: int) -> None:
        """`name`, if it is there, is of another kind from now on."""
        place = self._place.get(name)
        if place is not None:
            self._first_bin[place] = kind * self._bins

    def end(self, name: str, now_seconds: float) -> float | None:
        """`name` is over; how old it was in seconds, None if it never began."""
        place = self._place.pop(name, None)
        if place is None:
            return None
        age_seconds = max(0.0, now_seconds - float(self._began[place]))
        last = self._names.pop()
        if last != name:  # the last one takes its place
            self._names[place] = last
            self._place[last] = place
            self._began[place] = self._began[len(self._names)]
            self._first_bin[place] = self._first_bin[len(self._names)]
        return age_seconds

    def counts(self, now_seconds: float, *, by_kind: bool = True) -> Floats:
        """Counts as floats, kind by bin, in one flat row; only by bin if not `by_kind`."""
        size = len(self._names)
        seconds = (now_seconds - self._began[:size]).astype(np.intp)
        bins = self._bin_of.take(seconds, mode="clip")  # below none too, if the clock ran back
        if by_kind:
            bins += self._first_bin[:size]
        return np.bincount(bins, minlength=self._bins * (self._kinds if by_kind else 1)).astype(float)
