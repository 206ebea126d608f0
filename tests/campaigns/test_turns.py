from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from campaigns.turns import Turns


def served(turns: Turns, count: int) -> list[int]:
    order = []
    for _ in range(count):
        list_id = turns.next()
        assert list_id is not None
        turns.take(list_id)
        order.append(list_id)
    return order


def test_turns_are_in_proportion_to_weights_and_evenly_spread() -> None:
    assert served(Turns([(1, 1, 0.0), (2, 3, 0.0)]), 8) == [2, 1, 2, 2, 2, 1, 2, 2]


def test_what_is_owed_is_carried_over() -> None:
    """One turn at a time, as when few agents are idle, comes out as many at once do."""
    owed = {1: 0.0, 2: 0.0}
    order = []
    for _ in range(8):
        turns = Turns([(1, 1, owed[1]), (2, 3, owed[2])])
        order += served(turns, 1)
        owed = turns.credits
    assert order == served(Turns([(1, 1, 0.0), (2, 3, 0.0)]), 8)


def test_whoever_has_nobody_to_offer_gets_no_turns_and_saves_none_up() -> None:
    turns = Turns([(1, 1, 0.0), (2, 3, 0.0)])
    turns.leave(2)
    assert served(turns, 100) == [1] * 100
    assert turns.credits == {1: 0.0, 2: 0.0}
    turns.leave(1)
    assert turns.next() is None


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(1, 300))
def test_nobody_is_ever_more_than_a_turn_away_from_their_share(weights: list[int], count: int) -> None:
    turns = Turns([(index, weight, 0.0) for index, weight in enumerate(weights)])
    given_turns = Counter(served(turns, count))
    for index, weight in enumerate(weights):
        assert abs(given_turns[index] - count * weight / sum(weights)) < len(weights)
    assert abs(sum(turns.credits.values())) < 1e-6
