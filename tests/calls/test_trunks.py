"""Over which trunks calls go out: order, shares, and slots for leads that do not fit every trunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.leases import Lease, Leased
from campaigns.slots import Slot
from dialer.calls.trunks import Dispatcher, in_order, others_for
from dialer.errors import UnavailableError
from dialer.settings import GatewaySettings


def settings(name: str, **changes: Any) -> GatewaySettings:
    return GatewaySettings(name=name, switch="fs", caller_id="12025550100", concurrency=10, **changes)


class Trunk:
    """A gateway with some room, which notes what is done to it."""

    def __init__(
        self, name: str, room: int = 100, *, rests: bool = False, away: bool = False, **changes: Any
    ) -> None:
        self.settings = settings(name, **changes)
        self.trunk = self.settings.trunk()
        self.name = name
        self.room = room
        self.rests = rests
        self.away = away
        self.asked: list[int] = []

    async def take(self, uuids: Sequence[str]) -> list[str]:
        if self.away:
            raise UnavailableError("Redis is away")
        self.asked.append(len(uuids))
        taken = list(uuids[: self.room])
        self.room -= len(taken)
        return taken

    async def put_back(self, *uuids: str) -> None:
        self.room += len(uuids)


class Leads:
    """Leads in order, each to be called over some of the trunks only."""

    def __init__(self, *fits: Sequence[str]) -> None:
        self.waiting = [frozenset(names) for names in fits]
        self.asks = 0

    async def lease(self, slots: Sequence[Slot], in_turn: bool) -> Leased:
        self.asks += 1
        free, leases, unfitted, waiting = list(slots), [], 0, []
        for fits in self.waiting:
            room = len(free) - (unfitted if in_turn else 0)
            slot = next((slot for slot in free if slot.gateway in fits), None) if room else None
            if slot is not None:
                free.remove(slot)
                leases.append(lease_in(slot))
                continue
            unfitted += bool(room)
            waiting.append(fits)
        self.waiting = waiting
        return Leased(leases, unfitted, {})


def lease_in(slot: Slot) -> Lease:
    return Lease(slot.uuid, 1, "+12125550100", slot.gateway, slot.switch, 1, {})


async def placed(dispatcher: Dispatcher, calls: int, trunks: Sequence[Trunk], leads: Leads) -> Counter[str]:
    gateways: Any = trunks
    leased = await dispatcher.lease(calls, gateways, leads.lease)
    return Counter(lease.gateway for lease in leased.leases) if leased is not None else Counter()


@pytest.mark.parametrize(
    ("trunks", "order"),
    [
        ([settings("b"), settings("a")], [["b"], ["a"]]),  # as the campaign names them
        ([settings("b", tier=2), settings("a")], [["a"], ["b"]]),
        ([settings("b", cost_per_minute=0.02), settings("a", cost_per_minute=0.01)], [["a"], ["b"]]),
        # a tier goes before the price, and the price before the weight
        ([settings("b"), settings("a", tier=2, cost_per_minute=0.0)], [["b"], ["a"]]),
        ([settings("b", cost_per_minute=0.02, weight=9), settings("a", cost_per_minute=0.01)], [["a"], ["b"]]),
        ([settings("b", weight=1), settings("a", weight=2)], [["b", "a"]]),
        (
            [settings("c"), settings("b", weight=1), settings("d"), settings("a", weight=2)],
            [["b", "a"], ["c"], ["d"]],
        ),
        ([settings("b", weight=1, tier=2), settings("a", weight=2)], [["a"], ["b"]]),
    ],
)
def test_the_order_in_which_trunks_are_tried(trunks: list[GatewaySettings], order: list[list[str]]) -> None:
    assert [[one.name for one in group] for group in in_order(trunks)] == order


async def test_the_next_trunk_is_for_what_the_first_has_no_room_for() -> None:
    first, second, third = Trunk("a", 3), Trunk("b", 100), Trunk("c")
    assert await placed(Dispatcher(), 5, [first, second, third], Leads(*["abc"] * 9)) == {"a": 3, "b": 2}
    assert third.asked == []


async def test_trunks_with_weights_share_in_proportion_over_many_decisions() -> None:
    dispatcher, total = Dispatcher(), Counter[str]()
    for _ in range(30):  # one call each
        trunks = [Trunk("a", weight=2), Trunk("b", weight=1)]
        total += await placed(dispatcher, 1, trunks, Leads("ab"))
    assert total == {"a": 20, "b": 10}
    assert await placed(dispatcher, 30, [Trunk("a", weight=2), Trunk("b", weight=1)], Leads(*["ab"] * 30)) == {
        "a": 20,
        "b": 10,
    }


async def test_looking_for_leads_in_vain_takes_nobodys_turn() -> None:
    dispatcher, total = Dispatcher(), Counter[str]()
    for index in range(40):
        leads = Leads("ab") if index % 2 else Leads()
        total += await placed(dispatcher, 1, [Trunk("a", weight=1), Trunk("b", weight=1)], leads)
    assert total == {"a": 10, "b": 10}


async def test_a_share_that_one_has_no_room_for_goes_to_the_others_before_the_next_tier() -> None:
    small, large, spare = Trunk("a", 1, weight=1), Trunk("b", weight=1), Trunk("c", tier=2)
    assert await placed(Dispatcher(), 10, [small, large, spare], Leads(*["abc"] * 10)) == {"a": 1, "b": 9}
    assert spare.asked == []


async def test_a_trunk_that_had_no_leads_has_saved_up_no_turns() -> None:
    dispatcher = Dispatcher()
    for _ in range(50):  # nobody may be called over b
        await placed(dispatcher, 1, [Trunk("a", weight=1), Trunk("b", weight=1)], Leads("a"))
    first = await placed(dispatcher, 6, [Trunk("a", weight=1), Trunk("b", weight=1)], Leads(*["ab"] * 6))
    assert first == {"a": 2, "b": 4}


async def test_leads_that_fit_no_slot_of_the_first_trunk_get_one_of_the_next() -> None:
    first, second, third = Trunk("a"), Trunk("b", tier=2), Trunk("c", tier=3)
    leads = Leads("b", "a", "c", "ab")
    assert await placed(Dispatcher(), 4, [first, second, third], leads) == {"a": 2, "b": 1, "c": 1}
    assert (first.asked, second.asked, third.asked) == ([4], [2], [1])
    assert leads.waiting == []


async def test_a_lead_that_the_first_trunk_must_not_call_keeps_its_turn() -> None:
    leads = Leads("b", "ab", "ab")
    for expected in ({"b": 1}, {"a": 1}, {"a": 1}):
        assert await placed(Dispatcher(), 1, [Trunk("a"), Trunk("b")], leads) == expected


async def test_others_go_before_a_lead_whose_only_trunk_has_no_room() -> None:
    leads = Leads("b", "ab", "ab")
    first, second = Trunk("a", 5), Trunk("b", 0)
    assert await placed(Dispatcher(), 2, [first, second], leads) == {"a": 2}
    assert leads.waiting == [frozenset("b")]
    assert first.room == 3


async def test_a_campaign_of_one_trunk_asks_once() -> None:
    leads = Leads("b", "a")  # b is on another switch
    assert await placed(Dispatcher(), 1, [Trunk("a")], leads) == {"a": 1}
    assert leads.asks == 1


async def test_a_single_lead_that_one_of_two_alike_has_failed_goes_over_the_other() -> None:
    for failed_by, other in ("ab", "ba"):
        trunks = [Trunk("a", weight=1), Trunk("b", weight=1)]
        assert await placed(Dispatcher(), 1, trunks, Leads(other)) == {other: 1}, failed_by


async def test_no_further_trunk_is_asked_when_there_are_no_more_leads() -> None:
    first, second = Trunk("a"), Trunk("b")
    leads = Leads("ab")
    assert await placed(Dispatcher(), 5, [first, second], leads) == {"a": 1}
    assert (leads.asks, second.asked) == (1, [])


async def test_slots_that_no_lead_was_found_for_are_given_back() -> None:
    first, second = Trunk("a", 10), Trunk("b", 10)
    await placed(Dispatcher(), 8, [first, second], Leads("b", "a"))
    assert (first.room, second.room) == (9, 9)


async def test_no_room_anywhere_is_told_apart_from_no_leads() -> None:
    gateways: Any = [Trunk("a", 0), Trunk("b", 0)]
    assert await Dispatcher().lease(3, gateways, Leads("a").lease) is None
    gateways = [Trunk("a", 1)]
    assert await Dispatcher().lease(3, gateways, Leads().lease) == Leased([], 0, {})


async def test_slots_are_given_back_when_leads_cannot_be_leased() -> None:
    trunk = Trunk("a", 5)
    gateways: Any = [trunk]

    async def fail(slots: Sequence[Slot], in_turn: bool) -> Leased:
        raise UnavailableError("the database is away")

    with pytest.raises(UnavailableError):
        await Dispatcher().lease(3, gateways, fail)
    assert trunk.room == 5


async def test_what_was_leased_is_not_lost_when_the_next_trunk_cannot_be_asked() -> None:
    first = Trunk("a", 5)
    gateways: Any = [first, Trunk("b", away=True)]
    leased = await Dispatcher().lease(3, gateways, Leads("a", "b").lease)
    assert leased is not None
    assert [lease.gateway for lease in leased.leases] == ["a"]
    assert first.room == 4


@given(
    trunks=st.lists(
        st.tuples(st.integers(0, 4), st.integers(1, 2), st.integers(0, 3), st.sampled_from([0.0, 0.01])),
        min_size=1,
        max_size=4,
    ),
    fits=st.lists(st.sets(st.sampled_from("abcd"), min_size=1), max_size=8),
    calls=st.integers(1, 8),
)
async def test_calls_never_exceed_what_was_asked_and_every_slot_is_accounted_for(
    trunks: list[tuple[int, int, int, float]], fits: list[set[str]], calls: int
) -> None:
    gateways = [
        Trunk(name, room, tier=tier, weight=weight, cost_per_minute=cost)
        for name, (room, tier, weight, cost) in zip("abcd", trunks, strict=False)
    ]
    rooms = {gateway.name: gateway.room for gateway in gateways}
    leads = Leads(*(sorted(one) for one in fits))
    found = await placed(Dispatcher(), calls, gateways, leads)
    assert found.total() <= min(calls, len(fits))
    assert {gateway.name: gateway.room + found[gateway.name] for gateway in gateways} == rooms
    if found.total() < calls:  # whoever is left fits no trunk that has room, and was not asked for others
        fresh = {gateway.name for gateway in gateways if gateway.room and not gateway.asked}
        assert not any(one & fresh for one in leads.waiting)


class _Switch:
    def __init__(self, ready: bool) -> None:
        self.ready = ready


@pytest.mark.parametrize(
    ("changes", "ready", "found"),
    [
        ({}, True, ["b"]),
        ({"rests": True}, True, []),
        ({"blind_areas": ("+1212",)}, True, []),
        ({"blind_areas": ("US-NY",)}, True, []),
        ({"number_strip": "+49"}, True, []),
        ({}, False, []),
    ],
)
def test_which_other_trunks_might_take_a_call_now(changes: Mapping[str, Any], ready: bool, found: list[str]) -> None:
    by_name = {"a": Trunk("a"), "b": Trunk("b", **changes)}
    gateways: Any = by_name
    switches: Any = {"fs": _Switch(ready)}
    lease = Lease("uuid", 1, "+12125550100", "a", "fs", 1, {}, region="US-NY")
    assert others_for(lease, ("a", "b", "not configured"), gateways, switches) == found
