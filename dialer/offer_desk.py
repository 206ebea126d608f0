"""What agents ask about the leads they are offered, and what status shows of offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dialer.calls.attempt import Attempt
from dialer.calls.preview import Preview
from dialer.door import Handler
from dialer.errors import InputRefusedError


class OfferDesk:
    """Verbs for the door, beside those of `Desk`. Each public method but the last two is one."""

    def __init__(self, attempts: Callable[[], Iterable[Attempt]]) -> None:
        self._attempts = attempts

    async def agent_offer(self, extension: str) -> dict[str, Any]:
        """The lead that is offered to the agent now: its number, the list's own columns, and how long it stands."""
        offer = self._offer(extension)
        return {**_described(offer), "fields": dict(offer.fields)}

    async def agent_accept(self, extension: str) -> str:
        """The lead is called, for this agent."""
        offer = self._offer(extension)
        offer.accept()
        return f"{offer.number} is called for {extension}"

    async def agent_skip(self, extension: str, reason: str = "") -> str:
        """The lead is not called now."""
        if not isinstance(reason, str):
            raise InputRefusedError("a reason is text")
        offer = self._offer(extension)
        offer.skip(reason)
        return f"{offer.number} is skipped"

    def verbs(self) -> dict[str, Handler]:
        return {
            "agent_offer": self.agent_offer,
            "agent_accept": self.agent_accept,
            "agent_skip": self.agent_skip,
        }

    def report(self) -> list[dict[str, Any]]:
        """Every offer that stands, by agent."""
        return sorted(map(_described, self._standing()), key=lambda offer: str(offer["agent"]))

    def _standing(self) -> Iterable[Preview]:
        return (one for one in self._attempts() if isinstance(one, Preview) and one.stands)

    def _offer(self, extension: str) -> Preview:
        for offer in self._standing():
            if offer.extension == extension:
                return offer
        raise InputRefusedError(f"no lead is offered to {extension!r} at this daemon now")


def _described(offer: Preview) -> dict[str, Any]:
    return {
        "agent": offer.extension,
        "campaign": offer.campaign,
        "number": offer.number,
        "seconds_left": round(offer.seconds_left, 1),
    }
