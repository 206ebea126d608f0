"""May this lead be called now: all rules together, the campaign's own and those of its profile.

Each rule is asked for itself, and says what it has against the call and until when. The hopper wants one answer, the
gravest; people want them all. Both come from the same rules in the same order, so they cannot disagree.

The profile holds in addition to the campaign: two schedules that must both be open, the caps of both, the stricter
consent, the longer rest. So whatever a campaign says, it can only be tighter than the law, unless it is exempt from a
rule, which then is named with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import attrs

from campaigns.campaign import Campaign, Cap
from campaigns.rules import caps, consent, refusal, suppression
from campaigns.rules.calendar import rested_until
from campaigns.rules.calling_window import CLOSED, HOURS, Hours, PlaceVerdicts, Schedule, judge
from campaigns.rules.candidate import Candidate, PastCall, SuppressionEntry
from campaigns.rules.profiles import lifted, profile_of
from campaigns.rules.verdict import Verdict, allowed, forbidden, gravest

ATTEMPTS = "attempts"
ZONE = "zone"
REFUSED = refusal.RULE
LOCKOUT = "lockout"
CALLABLE = "callable"  # what a verdict is called that all rules share

RULES = (ZONE, HOURS, CLOSED, ATTEMPTS, suppression.RULE, consent.RULE, REFUSED, LOCKOUT, caps.RULE)
"""Every rule there is, in the order in which they are asked."""


@attrs.frozen
class _Question:
    """What a rule is asked of. `zones` are those whose clocks count."""

    candidate: Candidate
    zones: tuple[str, ...]
    history: Sequence[PastCall]
    suppressions: Sequence[SuppressionEntry]
    now: datetime


@attrs.frozen
class _Rule:
    """A rule that does not depend on the place alone: what it has against a call, or else says of it."""

    name: str
    nothing_against: str
    against: Callable[[_Question], Verdict | None]


class RuleBook:
    """The rules of one campaign. Made once for each definition; asked for any lead at any moment."""

    def __init__(self, campaign: Campaign, campaign_id: int) -> None:
        self.campaign = campaign
        self.campaign_id = campaign_id
        profile = profile_of(campaign)
        self._schedules = [
            Schedule(campaign.windows, frozenset(campaign.closed_days), campaign.holidays),
            Schedule(profile.windows or None, frozenset(profile.closed_days), profile.holidays),
        ]
        self._places: dict[str | None, list[Hours]] = {}
        self._caps = (*campaign.caps, *profile.caps)
        of_profile = profile.broadcast_consent if campaign.mode == "broadcast" else profile.consent
        self._consent = consent.stricter(campaign.consent, of_profile)
        self._consent_days = min(
            (days for days in (campaign.consent_days, profile.consent_days) if days is not None), default=None
        )
        self._abandoned_lockout = timedelta(
            hours=max(campaign.abandoned_lockout_hours, profile.abandoned_lockout_hours)
        )
        self._machine_lockout = timedelta(hours=profile.machine_lockout_hours)
        self._refusal_rest_days = refusal.rest_days(campaign)
        self._rules = self._rules_of_leads()
        self.lifted = lifted(campaign)
        """Rules of the profile that do not hold, each with the reason."""

    def __repr__(self) -> str:
        return f"<RuleBook {self.campaign.name}, profile {self.campaign.profile}, {len(self._caps)} caps>"

    def history_since(self, now: datetime) -> datetime | None:
        """How far back calls must be known for `verdict` at `now`; None when it needs none."""
        return caps.since(self._caps, now)

    def place_verdict(self, zones: tuple[str, ...], region: str | None, now: datetime) -> Verdict:
        """What depends on where a number is, and on the time: the same for all numbers there."""
        where = self.campaign.zones_of(zones)
        if not where:
            return self._nowhere()
        return self._judge(where, region, now).gravest

    def verdict(
        self,
        candidate: Candidate,
        history: Sequence[PastCall],
        suppressions: Sequence[SuppressionEntry],
        now: datetime,
        place: Verdict | None = None,
    ) -> Verdict:
        """Allowed, or what forbids the call longest. `place` is the `place_verdict` of the candidate, if known.

        `history` is of the number, the lead and the account since `history_since`, more does no harm, and
        `suppressions` are the entries of the number and its prefixes.
        """
        if place is None:
            place = self.place_verdict(candidate.zones, candidate.region, now)
        zones = self.campaign.zones_of(candidate.zones)
        question = _Question(candidate, zones, history, suppressions, now)
        forbidding = [place] if not place.allowed else []
        for rule in self._rules:
            found = rule.against(question)
            if found is not None:
                forbidding.append(found)
        return gravest(forbidding) or Verdict(CALLABLE, True, "no rule has anything against it", now)

    def earliest(self, candidate: Candidate, suppressions: Sequence[SuppressionEntry], moment: datetime) -> Verdict:
        """The verdict of the first moment, `moment` or later, that allows the call; or what forbids it for good.

        As far as is known before: a cap is full or not by the calls of that day, which are not looked at.
        """
        verdict = self.verdict(candidate, (), suppressions, moment)
        while not verdict.allowed and verdict.allowed_at is not None:  # one rule may open when another is shut
            verdict = self.verdict(candidate, (), suppressions, verdict.allowed_at)
        return verdict

    def verdicts(
        self,
        candidate: Candidate,
        history: Sequence[PastCall],
        suppressions: Sequence[SuppressionEntry],
        now: datetime,
    ) -> list[Verdict]:
        """Every rule's verdict, in the order of RULES, each cap for itself; then what the campaign is exempt from."""
        found = [self._zone_verdict(candidate, now)]
        zones = self.campaign.zones_of(candidate.zones)
        if zones:
            place = self._judge(zones, candidate.region, now)
            found += [place.hours, place.days]
        question = _Question(candidate, zones, history, suppressions, now)
        for each in self._rules:
            found.append(each.against(question) or allowed(each.name, each.nothing_against, now))
        found.sort(key=lambda verdict: RULES.index(verdict.rule))
        profile = self.campaign.profile
        return found + [
            allowed(rule, f"the rule of the profile {profile} does not hold for this campaign: {reason}", now)
            for rule, reason in self.lifted.items()
        ]

    @property
    def longest_lockout(self) -> timedelta:
        """The longest rest that a past call may ask for."""
        return max(self._abandoned_lockout, self._machine_lockout)

    @property
    def caps_gateways(self) -> bool:
        """Whether `full_gateways` can ever name one."""
        return any(cap.of == "gateway" for cap in self._caps)

    def full_gateways(
        self, candidate: Candidate, history: Sequence[PastCall], now: datetime
    ) -> Mapping[str, Verdict]:
        """The gateways that have had their most calls to the candidate's number: it is for another one to call.

        Each with the cap that forbids it for the longest.
        """
        zones = self.campaign.zones_of(candidate.zones)
        full: dict[str, Verdict] = {}
        for cap in self._caps:
            if cap.of == "gateway":
                found = caps.full_gateways(
                    cap, candidate, history, zones, now, campaign_id=self.campaign_id, seller=self.campaign.seller
                )
                for gateway, verdict in found.items():
                    if gateway not in full or gravest([full[gateway], verdict]) is verdict:
                        full[gateway] = verdict
        return full

    def _rules_of_leads(self) -> list[_Rule]:
        consent_there = "no consent is asked for" if self._consent == "none" else "there is the consent asked for"
        return [
            _Rule(ATTEMPTS, "attempts are left", self._attempts),
            _Rule(suppression.RULE, "on no do-not-call list", self._suppressed),
            _Rule(consent.RULE, consent_there, self._lacks_consent),
            _Rule(REFUSED, "no refusal to be respected", self._refused),
            _Rule(LOCKOUT, "nothing that asks for a rest", self._locked_out),
            *(_Rule(caps.RULE, f"{cap}: there is room", partial(self._capped, cap)) for cap in self._caps),
        ]

    def _judge(self, zones: Sequence[str], region: str | None, now: datetime) -> PlaceVerdicts:
        hours = self._places.get(region)
        if hours is None:
            place = region or self.campaign.country  # a lead of before regions were known
            hours = self._places[region] = [schedule.at(place) for schedule in self._schedules]
        return judge(hours, zones, now)

    def _zone_verdict(self, candidate: Candidate, now: datetime) -> Verdict:
        if not self.campaign.zones_of(candidate.zones):
            return self._nowhere()
        return allowed(ZONE, "it is known where the number may be", now)

    def _nowhere(self) -> Verdict:
        # A number that is nowhere cannot be called at a decent hour, until somebody says where it is.
        return forbidden(
            ZONE, "the number belongs to no place: its list, or the campaign, should say its timezone", None
        )

    def _attempts(self, asked: _Question) -> Verdict | None:
        made, most = asked.candidate.attempts, self.campaign.retries.max_attempts
        if made < most or asked.candidate.callback_at is not None:
            return None
        return forbidden(ATTEMPTS, f"there have been {made} attempts, of {most} at most", None)

    def _suppressed(self, asked: _Question) -> Verdict | None:
        entries = [one for one in asked.suppressions if one.source != refusal.SOURCE]
        if not entries:
            return None
        return suppression.suppressed(
            entries,
            asked.candidate.number,
            campaign=self.campaign.name,
            seller=self.campaign.seller,
            now=asked.now,
        )

    def _lacks_consent(self, asked: _Question) -> Verdict | None:
        return consent.lacking(self._consent, self._consent_days, asked.candidate, asked.now)

    def _refused(self, asked: _Question) -> Verdict | None:
        """The lead has refused; or the number has, to whoever else of the seller's called it."""
        at, days, candidate = asked.candidate.refused_at, self._refusal_rest_days, asked.candidate
        found: list[Verdict] = []
        if at is not None and days and asked.zones and (until := rested_until(at, days, asked.zones)) > asked.now:
            found.append(forbidden(REFUSED, f"refused on {at:%Y-%m-%d}: {days} whole days of rest", until))
        entries = [one for one in asked.suppressions if one.source == refusal.SOURCE]
        mine, seller = self.campaign.name, self.campaign.seller
        entry = suppression.forbidding(entries, candidate.number, campaign=mine, seller=seller, now=asked.now)
        if entry is not None:
            found.append(forbidden(REFUSED, f"the number refused a call of {seller or 'ours'}", entry.expires_at))
        return gravest(found)

    def _locked_out(self, asked: _Question) -> Verdict | None:
        abandoned_at, machine_at = asked.candidate.abandoned_at, asked.candidate.machine_at
        if abandoned_at is None and machine_at is None:
            return None
        return gravest(
            forbidden(
                LOCKOUT, f"{what} at {since:%Y-%m-%d %H:%M} UTC: {rest / timedelta(hours=1):g} h of rest", until
            )
            for what, since, rest in (
                ("found nobody on the line", abandoned_at, self._abandoned_lockout),
                ("was taken for a machine", machine_at, self._machine_lockout),
            )
            if since is not None and (until := since + rest) > asked.now
        )

    def _capped(self, cap: Cap, asked: _Question) -> Verdict | None:
        if len(asked.history) < cap.most:
            return None
        return caps.capped(
            cap,
            asked.candidate,
            asked.history,
            asked.zones,
            asked.now,
            campaign_id=self.campaign_id,
            seller=self.campaign.seller,
            gateways=self.campaign.gateways,
        )
