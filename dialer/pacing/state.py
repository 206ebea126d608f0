"""What is worth keeping of a campaign's pacing, as one value and as text. Pure."""

from __future__ import annotations

import attrs
import msgspec

from dialer.pacing.answer_model import AnswerModel, AnswerModelState
from dialer.pacing.budget import BudgetState
from dialer.pacing.ring_tables import RingState
from dialer.pacing.supply import TALK_BINS, WRAP_BINS, SupplyState

VERSION = 1


@attrs.frozen
class PacingState:
    """Tables of rings and talks, the budget, and who answers (as its own text)."""

    ring: RingState
    supply: SupplyState
    budget: BudgetState
    answers: str
    version: int = VERSION

    def to_json(self) -> str:
        """Text that `from_json` reads."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> PacingState:
        """The state that `to_json` made `text` of. Raises ValueError for anything else, another version's too."""
        try:
            state = msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"is no state of pacing: {error}") from error
        if state.version != VERSION:
            raise ValueError(f"is of version {state.version}, and {VERSION} is read")
        supply = state.supply
        sizes = [len(supply.talk_ends), len(supply.talk_seconds), len(supply.wraps), len(supply.wrap_ends)]
        if sizes != [TALK_BINS, TALK_BINS, WRAP_BINS, WRAP_BINS]:
            raise ValueError(f"has tables of {sizes} bins, and {TALK_BINS} and {WRAP_BINS} are needed")
        if not len(state.ring.calls) == len(state.ring.answers) == len(state.ring.ends):
            raise ValueError("has tables of rings that are not of one length")
        state.answer_model()
        return state

    def answer_model(self) -> AnswerModel:
        """The model of who answers, as it was. Raises ValueError."""
        return AnswerModel(AnswerModelState.from_json(self.answers))
