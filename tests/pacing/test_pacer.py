"""The progressive pacer: nobody who answers finds nobody."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import example, given

from dialer.pacing.pacer import Progressive, View
from dialer.pacing.preview import Preview

counts = st.integers(0, 20) | st.integers(0, 1_000)
views = st.builds(
    View,
    now_seconds=st.floats(0, 1e9),
    idle_agents=counts,
    ringing=counts,
    waiting=counts,
    in_flight=counts,
    channels_left=st.none() | st.integers(-3, 20),
)

# Its limit was lowered while it had more calls than that.
OVER_ITS_LIMIT = View(now_seconds=0.0, idle_agents=9, ringing=2, waiting=1, in_flight=12, channels_left=-2)


@given(views)
@example(OVER_ITS_LIMIT)
def test_never_more_calls_than_agents_or_channels(view: View) -> None:
    decision = Progressive().decide(view)
    free = max(0, view.idle_agents - view.ringing - view.waiting)
    limit = free if view.channels_left is None else min(free, max(0, view.channels_left))
    assert decision.calls == limit
    assert decision.cancel == ()
    assert decision.reason.strip()


@given(views)
def test_the_reason_is_the_true_one(view: View) -> None:
    decision = Progressive().decide(view)
    if view.idle_agents == 0:
        assert decision.reason == "no agent is idle"
    elif view.ringing + view.waiting >= view.idle_agents:
        assert "is under way for each" in decision.reason
    elif decision.calls < view.idle_agents - view.ringing - view.waiting:
        assert "limit" in decision.reason
    else:
        assert decision.reason.startswith(f"{view.idle_agents} agents are idle")


@given(views)
def test_what_it_asked_for_is_enough(view: View) -> None:
    """Its calls placed, it asks for no more: one decision after another does not add up."""
    first = Progressive().decide(view)
    left = None if view.channels_left is None else view.channels_left - first.calls
    after = View(
        now_seconds=view.now_seconds,
        idle_agents=view.idle_agents,
        ringing=view.ringing + first.calls,
        waiting=view.waiting,
        in_flight=view.in_flight + first.calls,
        channels_left=left,
    )
    assert Progressive().decide(after).calls == 0


@given(views)
@example(OVER_ITS_LIMIT)
def test_leads_are_offered_to_agents_whom_no_call_needs(view: View) -> None:
    assert Preview().decide(view).calls == Progressive().decide(view).calls
    assert Preview().decide(view).reason.strip()
