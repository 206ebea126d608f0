"""How often, and how soon again: settings of a campaign for each outcome, the dialer's and the agents' own."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from campaigns.disposition import Disposition
from campaigns.setting_types import NEVER, YEAR_SECONDS, Delay, Key, Settings, Slug, Text


class Delays(Settings):
    """How long a lead rests after each outcome before it is tried again."""

    no_answer: Delay = 4 * 3600.0
    """Seconds, or "never". Another part of the day finds another chance."""
    busy: Delay = 15 * 60.0
    """Seconds, or "never". The person is there, and will soon be free."""
    congestion: Delay = 5 * 60.0
    """Seconds, or "never". The trunk was in trouble, not the lead."""
    cancelled: Delay = 15 * 60.0
    """Seconds, or "never". We took the call back, and the phone may have rung."""
    abandoned: Delay = 72 * 3600.0
    """Seconds, or "never". Whoever found nobody on the line is left alone for days; many regulators demand it."""
    machine: Delay = 4 * 3600.0
    """Seconds, or "never". An answering machine: as if nobody had answered."""
    hung_up: Delay = 24 * 3600.0
    """Seconds, or "never". Answered, and gone before an agent was there: not again today."""
    skipped: Delay = 15 * 60.0
    """Seconds, or "never". An agent did not want it in preview. It counts as no attempt, since nobody was called."""
    failed: Delay = 3600.0
    """Seconds, or "never". Nothing that we understand; time for somebody to look."""
    unknown: Delay = 3600.0
    """Seconds, or "never". The switch was out of sight: the person may have been reached."""
    rejected: Delay = NEVER
    """Seconds, or "never". Somebody does not want the call."""
    invalid_number: Delay = NEVER
    """Seconds, or "never". It will not exist tomorrow either, and such calls spoil a trunk's good name."""

    def after(self, disposition: Disposition) -> float | Literal["never"]:
        """The rest after `disposition`, which is none that ends a lead by itself."""
        delay: float | Literal["never"] = getattr(self, disposition.value)
        return delay


Tries = Annotated[int, Field(ge=0, le=100)]


class MostTries(Settings):
    """How often each outcome may come before the lead is tried no more, whatever is left of max_attempts."""

    no_answer: Tries = 0
    """Times, 0 to 100; 0: as often as max_attempts allows, here and below."""
    busy: Tries = 0
    """Times."""
    congestion: Tries = 0
    """Times."""
    cancelled: Tries = 0
    """Times."""
    abandoned: Tries = 0
    """Times."""
    machine: Tries = 0
    """Times."""
    hung_up: Tries = 0
    """Times."""
    skipped: Tries = 0
    """Times; skipping is no attempt, so nothing else ends it."""
    failed: Tries = 0
    """Times."""
    unknown: Tries = 0
    """Times."""
    rejected: Tries = 0
    """Times."""
    invalid_number: Tries = 0
    """Times."""

    def of(self, disposition: Disposition) -> int:
        """How often `disposition` may come; 0: without a limit of its own."""
        most: int = getattr(self, disposition.value)
        return most


class NextNumber(Settings):
    """After which outcomes the lead's next number has its turn, and after what rest; "never": the same one again.

    When all have had their turn, the first one comes again after the outcome's own rest. A number whose outcome is
    tried again "never" has no further turn.
    """

    no_answer: Delay = NEVER
    """Seconds, or "never"."""
    busy: Delay = NEVER
    """Seconds, or "never"."""
    congestion: Delay = NEVER
    """Seconds, or "never". It was the trunk, not the number."""
    cancelled: Delay = NEVER
    """Seconds, or "never"."""
    abandoned: Delay = NEVER
    """Seconds, or "never". It is the person who is to be left alone, not the phone."""
    machine: Delay = NEVER
    """Seconds, or "never"."""
    hung_up: Delay = NEVER
    """Seconds, or "never"."""
    skipped: Delay = NEVER
    """Seconds, or "never"."""
    failed: Delay = NEVER
    """Seconds, or "never"."""
    unknown: Delay = NEVER
    """Seconds, or "never"."""
    rejected: Delay = NEVER
    """Seconds, or "never". A person who refuses does so on every phone."""
    invalid_number: Delay = 0.0
    """Seconds, or "never". Nobody has been disturbed, so the next one may be tried at once."""

    def after(self, disposition: Disposition) -> float | Literal["never"]:
        """The rest before the next number's turn after `disposition`; "never" when it is not its turn."""
        delay: float | Literal["never"] = getattr(self, disposition.value)
        return delay


class Retries(Settings):
    """How often, and how soon again."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """Calls to one lead at most, on all its numbers. Each placed call counts, whatever became of it. A promised
    call-back is made all the same."""
    callback_tries: int = Field(default=3, ge=1, le=20)
    """Calls at one promised call-back at most: when so many reach nobody, the lead is one like any other again."""
    refusal_rest_days: int = Field(default=0, ge=0, le=3660)
    """Whole days of the callee's calendar for which nobody who has refused is called, at an agent's word or by
    rejecting the call; 0: as the profile says, if it does."""
    spread_parts: bool = False
    """After no answer or a machine, try in a part of the day (morning, afternoon, evening) not tried of late."""
    delay_seconds: Delays = Delays()
    """Rest after each outcome."""
    most_tries: MostTries = MostTries()
    """How often each outcome may come."""
    next_number: NextNumber = NextNumber()
    """When the lead's next number has its turn."""


class AgentDisposition(Settings):
    """An outcome of conversations in the campaign's own words, which agents choose from in wrap-up."""

    name: Slug
    """What records and reports call it: lower-case letters, digits, _ and -."""
    title: Text = ""
    """What agents see; left out, the name."""
    then: Literal["done", "recycle", "callback", "do_not_call"] = "done"
    """What becomes of the lead. done: it is not called again. recycle: again after delay_seconds. callback: at the
    time the agent gives. do_not_call: never again, and its number goes on the do-not-call list of the campaign's
    seller, or of everybody where it names none."""
    delay_seconds: float = Field(default=86400.0, ge=0, le=YEAR_SECONDS)
    """recycle: the rest, in seconds. callback: the seconds until then, when the agent chooses it by its key."""
    most_tries: Tries = 0
    """recycle: how often it may come before the lead is tried no more; 0: as often as max_attempts allows."""
    next_number: bool = False
    """recycle: with the lead's next number, as when somebody else has this one."""
    refusal: bool = False
    """The person does not want it: they are left alone for as long as the profile says, whatever else is set."""
    key: Key = ""
    """The key of the agent's phone that chooses it in wrap-up: one of 0-9, * and #; "" for none."""

    @model_validator(mode="after")
    def _name_of_its_own(self) -> Self:
        if self.name in set(Disposition):
            raise ValueError(f"name should be another than {self.name}, which is an outcome of the dialer's own")
        return self
