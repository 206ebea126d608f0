"""An agent says what became of a conversation: during it, or for a while after it, in the campaign's own words.

The outcome and the lead's step are replaced in one transaction. When the lead has gone on by then, because it was
called again, withdrawn or suppressed, only the outcome is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
from sqlmodel import Session

from campaigns import forbidden_leads, store, suppression_store
from campaigns.campaign import Campaign, zone_info
from campaigns.lead import LeadNumber, LeadStatus, all_numbers, zones_from_json
from campaigns.leases import candidate_of
from campaigns.opt_out import by_agent
from campaigns.outcomes import BY_AGENT, BY_KEY, campaign_of, note_on_lead, step_of, turn_of
from campaigns.retries import AgentDisposition
from campaigns.rules import suppression
from campaigns.rules.callable import RuleBook
from campaigns.rules.refusal import Rest, rest_after_refusal
from campaigns.tables import AttemptRow, CallOutcomeRow, CdrRow, LeadRow
from dialer.errors import InputRefusedError

# A conversation is over for its agent when the next one begins, and after this at the latest.
SAY_WITHIN: Final = timedelta(minutes=10)
LONGEST_PROMISE: Final = timedelta(days=366)
MAX_NOTE_CHARACTERS: Final = 500
_STAYS_LISTED: Final = (
    ", and stays on the do-not-call list: it is not called back unless it is taken off (dialer dnc remove)"
)
_GONE_ON: Final = (LeadStatus.DIALING, LeadStatus.WITHDRAWN, LeadStatus.SUPPRESSED)


@attrs.frozen
class Said:
    """What `agent` (an extension) says of the conversation in `attempt`: the name of an outcome, or its key.

    A call-back needs a time: `call_at`, like 2026-12-01 15:00, on the person's own clock unless it has an offset from
    UTC, or `in_minutes`; chosen by a key, it is after the outcome's delay_seconds. It is for this agent, or anyone.
    """

    attempt: str
    agent: str
    said_at: datetime
    name: str = ""
    key: str = ""
    note: str = ""
    call_at: str = ""
    in_minutes: float | None = None
    for_anyone: bool = False

    def write(self, session: Session) -> str:
        """Writes it down, and says so. May be done any number of times; what was said later stands.

        Raises InputRefusedError, with what would be right, when it cannot be said.
        """
        return _Saying(session, self).write()

    def to_value(self) -> dict[str, Any]:
        """For a journal: values that JSON knows."""
        return {**attrs.asdict(self), "said_at": self.said_at.isoformat()}

    @staticmethod
    def from_value(value: Mapping[str, Any]) -> Said:
        """What `to_value` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        return Said(**{**value, "said_at": datetime.fromisoformat(value["said_at"])})


class _Saying:
    """One transaction's look at what is said."""

    def __init__(self, session: Session, said: Said) -> None:
        self._session = session
        self._said = said
        attempt = session.get(AttemptRow, said.attempt)
        if attempt is None:
            raise InputRefusedError(f"the call {said.attempt} is not on record")
        self._attempt = attempt
        self._cdr = session.get(CdrRow, said.attempt)
        self._campaign = campaign_of(session, attempt.campaign_id)
        self._lead = session.get_one(LeadRow, attempt.lead_id)

    def write(self) -> str:
        said, attempt = self._said, self._attempt
        self._check_in_time()
        chosen = chosen_of(self._campaign, said)
        row = self._session.get(CallOutcomeRow, said.attempt)
        if row is not None and row.set_by in (BY_AGENT, BY_KEY) and row.set_at > said.said_at:
            return f"{attempt.number} is {row.name}, which was said later"
        callback_at = self._callback_at(chosen)
        if row is None:
            row = CallOutcomeRow(
                attempt_uuid=attempt.uuid,
                campaign_id=attempt.campaign_id,
                lead_id=attempt.lead_id,
                agent=said.agent,
                name=chosen.name,
                set_by=BY_AGENT,
                set_at=said.said_at,
            )
        row.agent, row.name, row.note = said.agent, chosen.name, said.note or None
        row.set_by, row.set_at = BY_KEY if said.key else BY_AGENT, said.said_at
        row.callback_at = callback_at
        row.callback_agent = said.agent if callback_at is not None and not said.for_anyone else None
        self._session.add(row)
        self._session.flush()
        told = f"{attempt.number} is {chosen.title or chosen.name}"
        rest = self._let_rest(chosen)
        if chosen.then == "do_not_call":
            by_agent(attempt.number, attempt.uuid, self._campaign, said.agent, said.said_at).write(self._session)
            told += ", and on the do-not-call list"
        if rest is not None:
            told += f", and is left alone until {self._shown(rest.until)}"
        if callback_at is not None:
            told += self._promise(callback_at, row.callback_agent)
        if self._cdr is not None and not self._step_lead(chosen, row):
            told += "; the lead has gone on meanwhile, and stays as it is"
        return told

    def _promise(self, callback_at: datetime, agent: str | None) -> str:
        """What may be promised of a call-back. Whatever is said later, who asked for no more calls stays listed."""
        called = self._number_called()
        candidate = attrs.evolve(
            candidate_of(self._attempt.lead_id, self._lead),
            number=called.number,
            zones=called.zones,
            region=called.region,
            callback_at=callback_at,
            abandoned_at=None,  # they have been spoken to
            refused_at=None,  # if they have, it is among the entries
        )
        entries = suppression_store.entries_for(self._session, [called.number]).get(called.number, ())
        first = RuleBook(self._campaign, self._attempt.campaign_id).earliest(candidate, entries, callback_at)
        if first.rule == suppression.RULE:
            return _STAYS_LISTED
        if first.allowed_at is None:
            return f", but is not called back as things stand: {first.reason}"
        promise = f", to be called back {self._shown(callback_at)} by {agent or 'anybody'}"
        return promise + (f" (not before {self._shown(first.allowed_at)})" if first.allowed_at > callback_at else "")

    def _let_rest(self, chosen: AgentDisposition) -> Rest | None:
        """A refusal counts at once, and whatever becomes of the lead; one that was none does not any more."""
        uuid, number, said_at = self._attempt.uuid, self._attempt.number, self._said.said_at
        rest = rest_after_refusal(self._campaign, self._number_called().zones, said_at) if chosen.refusal else None
        if rest is not None:
            suppression_store.let_rest(self._session, number, rest, attempt=uuid, now=said_at)
        else:
            gone = suppression_store.rest_no_more(self._session, number, self._campaign.seller, attempt=uuid)
            forbidden_leads.allowed_again(self._session, gone, said_at)
        return rest

    def _check_in_time(self) -> None:
        said, cdr = self._said, self._cdr
        if len(said.note) > MAX_NOTE_CHARACTERS or not all(one.isprintable() for one in said.note):
            raise InputRefusedError(f"a note is one line of at most {MAX_NOTE_CHARACTERS} characters")
        if cdr is None:  # it goes on, or ends at this moment
            return
        if cdr.agent != said.agent or cdr.bridged_at is None:
            raise InputRefusedError(f"{said.agent} did not talk in the call {said.attempt} to {cdr.number}")
        if said.said_at > cdr.ended_at + SAY_WITHIN:
            minutes = SAY_WITHIN.total_seconds() / 60
            raise InputRefusedError(
                f"the last conversation of {said.agent}, with {cdr.number}, ended at {cdr.ended_at:%H:%M:%S} UTC; "
                f"what became of it can be said for {minutes:g} minutes"
            )

    def _callback_at(self, chosen: AgentDisposition) -> datetime | None:
        said = self._said
        if chosen.then != "callback":
            if said.call_at or said.in_minutes is not None:
                raise InputRefusedError(f"{chosen.name} is no call-back, so it has no time")
            return None
        if said.call_at and said.in_minutes is not None:
            raise InputRefusedError("a call-back is at a time or in so many minutes, not both")
        if said.in_minutes is not None:
            moment = said.said_at + timedelta(minutes=min(max(said.in_minutes, 0.0), 1e6))
        elif said.call_at:
            moment = moment_of(said.call_at, self._zones)
        elif said.key:
            moment = said.said_at + timedelta(seconds=chosen.delay_seconds)
        else:
            raise InputRefusedError(
                f'{chosen.name} is a call-back, which needs a time: like "2026-12-01 15:00", or in so many minutes'
            )
        if not said.said_at <= moment <= said.said_at + LONGEST_PROMISE:
            now = self._shown(said.said_at)
            raise InputRefusedError(
                f"a call-back {self._shown(moment)} cannot be promised: it should be within a year, and it is {now}"
            )
        return moment.astimezone(UTC)

    @property
    def _zones(self) -> tuple[str, ...]:
        """Whose wall clocks count for the number that was called."""
        return self._campaign.zones_of(self._number_called().zones)

    def _number_called(self) -> LeadNumber:
        """The number that was called, as the lead has it; it may have got others since."""
        number, lead = self._attempt.number, self._lead
        known = (one for one in all_numbers(lead) if one.number == number)
        return next(known, LeadNumber(number, zones_from_json(lead.zones), lead.kind, lead.region))

    def _shown(self, moment: datetime) -> str:
        zone = zone_info(self._zones[0]) if self._zones else UTC
        return f"{moment.astimezone(zone):%Y-%m-%d %H:%M %Z}"

    def _step_lead(self, chosen: AgentDisposition, row: CallOutcomeRow) -> bool:
        """The lead's step is another; False if it has gone on."""
        attempt, lead, cdr = self._attempt, self._lead, self._cdr
        if cdr is None or attempt.closed_at is None:
            return False
        if lead.status in _GONE_ON or lead.last_called_at != attempt.closed_at:
            return False
        as_it_was = json.loads(row.before)
        if not as_it_was:  # it ended when the campaign had no words of its own
            return False
        turn = turn_of(lead, attempt.attempt_no, attempt.gateway, as_it_was)
        step = step_of(chosen, turn, self._campaign, row, self._said.said_at)
        # As of the call's close: by that it is known that the lead has not gone on, next time too.
        store.step_lead(self._session, attempt.lead_id, step, attempt.closed_at, disposition=cdr.disposition)
        note_on_lead(self._session, lead, chosen.name)
        return True


def chosen_of(campaign: Campaign, said: Said) -> AgentDisposition:
    """The outcome that `said` means. Raises InputRefusedError, naming those there are, if there is none such."""
    if not campaign.dispositions:
        raise InputRefusedError(f"the campaign {campaign.name} has no dispositions for agents to choose from")
    for one in campaign.dispositions:
        if said.key == one.key if said.key else said.name == one.name:
            return one
    what = f"the key {said.key}" if said.key else f"{said.name!r}"
    there_are = ", ".join(map(_shown, campaign.dispositions))
    raise InputRefusedError(f"{what} is no disposition of the campaign {campaign.name}; there are {there_are}")


def _shown(one: AgentDisposition) -> str:
    extras = [*([one.title] if one.title else []), *([f"key {one.key}"] if one.key else [])]
    return f"{one.name} ({', '.join(extras)})" if extras else one.name


def moment_of(text: str, zones: tuple[str, ...]) -> datetime:
    """`text`, like 2026-12-01 15:00, as a moment: on the wall clock of `zones` unless it has an offset from UTC.

    Raises InputRefusedError when it is none, or another moment in each of `zones`.
    """
    try:
        parsed = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputRefusedError(
            f'{text!r} is no time for a call-back; give it like "2026-12-01 15:00", or with an offset like '
            '"2026-12-01 15:00+01:00"'
        ) from None
    if parsed.tzinfo is not None:
        return parsed
    moments = {zone: parsed.replace(tzinfo=zone_info(zone)) for zone in zones}
    if len({moment.astimezone(UTC) for moment in moments.values()}) == 1:
        return next(iter(moments.values()))
    places = " or ".join(f"{zone} ({moment.isoformat()[-6:]})" for zone, moment in moments.items())
    raise InputRefusedError(
        f"that number is {f'in {places}' if places else 'nowhere that is known'}; give an offset from UTC too, like "
        f'"{text.strip()}+01:00"'
    )
