"""What a campaign manager decides, read from TOML and refused as a whole when any of it is nonsense.

The model is the documentation: each setting's description says its unit and its reason, and is repeated in the
message when its value is refused. `config/campaign.toml` shows every setting; a test holds the two together.

Values are frozen. The daemon gets a new `Campaign` when the definition changes, never a changed one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, time
from enum import StrEnum
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, model_validator

from campaigns.retries import AgentDisposition, Delays, MostTries, NextNumber, Retries
from campaigns.rules.limits import CallingHours, Cap, Exempt
from campaigns.rules.profiles import breaches, unknown_exemptions
from campaigns.setting_types import (
    Country,
    Day,
    Dialable,
    GatewayName,
    Key,
    Settings,
    Slug,
    Sound,
    Zone,
    checked_zone,
)
from dialer.errors import InputRefusedError
from dialer.toml_text import instead_of, read_toml, settings_at, shown_key

__all__ = [
    "AgentDisposition",
    "CallingHours",
    "Campaign",
    "CampaignStatus",
    "Cap",
    "Country",
    "Day",
    "Delays",
    "Dialable",
    "Exempt",
    "GatewayName",
    "Key",
    "MessageKeys",
    "MostTries",
    "NextNumber",
    "Retries",
    "Slug",
    "Sound",
    "Zone",
    "dump",
    "load",
    "parse_campaign",
    "zone_info",
]


class CampaignStatus(StrEnum):
    """What the operator wants of a campaign. The values are stored: never rename one."""

    RUNNING = "running"
    PAUSED = "paused"  # calls that are up go on, no new ones
    STOPPED = "stopped"  # as paused; nobody is meant to work on it


class MessageKeys(Settings):
    """What the keys of a person's phone do while a broadcast's message plays, and a little after it."""

    opt_out: Key = "9"
    """One of 0-9, * and #; "" for none. Whoever presses it is never called again; the law mostly wants such a key."""
    repeat: Key = "1"
    """One of 0-9, * and #; "" for none. Plays the message again from the start."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.opt_out and self.opt_out == self.repeat:
            raise ValueError(f"opt_out and repeat should be two keys, and both are {self.opt_out}")
        return self


class Campaign(Settings):
    """Everything a manager decides about one campaign."""

    name: Slug
    """Lower-case letters, digits, _ and -; what commands and reports call it."""
    gateways: tuple[GatewayName, ...] = Field(min_length=1)
    """Trunks as the daemon's settings name them, the preferred one first: the next is used when those before it have
    no room, rest, or may not call the number. Tier, price and weight of a trunk go before this order."""
    country: Country
    """ISO 3166 code of the country whose national numbers the lists may contain."""
    mode: Literal["progressive", "ratio", "predictive", "preview", "broadcast"] = "progressive"
    """How calls are paced. progressive: a call for each agent who is free. ratio: calls_per_agent for each.
    predictive: as many as agents will be free to take. preview: an agent sees the lead and decides, then it is
    called. broadcast: no agents; whoever answers hears the message."""
    calls_per_agent: float = Field(default=1.5, ge=1, le=10)
    """ratio: calls under way for each free agent. More keeps agents busier, and leaves more people with nobody."""
    predictive_least_agents: int = Field(default=3, ge=1, le=1000)
    """predictive: with fewer agents logged in it dials as progressive: so few are too chancy to foretell."""
    cancel_ringing: bool = True
    """predictive: take back calls that have rung long, when it turns out that too few agents will be free."""
    preview_seconds: float = Field(default=30.0, ge=1, le=3600)
    """preview: seconds an agent has to look at a lead before preview_timeout decides."""
    preview_timeout: Literal["dial", "skip"] = "dial"
    """preview: what becomes of a lead that its agent has neither accepted nor skipped in time. skip: the agent is
    paused too, as nobody seems to be there."""
    message: Sound | None = None
    """broadcast: what people hear, a file or stream of FreeSWITCH that ends; it needs one, and has no default."""
    message_keys: MessageKeys = MessageKeys()
    """broadcast: what the keys of a person's phone do."""
    message_key_seconds: int = Field(default=5, ge=1, le=60)
    """Seconds after message, or abandoned_message, in which a key is still taken, before we hang up."""
    team: Slug | None = None
    """Campaigns that name the same team share its agents; left out, the campaign has agents of its own."""
    machine_detection: bool = False
    """progressive, ratio, predictive: whoever answers is listened to first, and machines are hung up on. Needs a
    module of FreeSWITCH that can tell them apart; see machine_detection in the daemon's settings."""
    machine_detection_seconds: float = Field(default=1.2, ge=0.2, le=8)
    """Seconds of listening at most, of connect_seconds: whoever is no machine by then is taken for a person."""
    machine_false_positive_percent: float = Field(default=5.0, ge=0, le=100)
    """Of those taken for machines, so many in a hundred are taken to be people, hung up on: they count as abandoned.
    Measure it by listening to recordings; regulators ask for the reasons behind the figure."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Among campaigns of one team: as long as one of a higher priority has somebody to call, the others wait."""
    phones: Literal["nailed_up", "on_demand"] = "nailed_up"
    """nailed_up: an agent's phone is rung once and stays connected. on_demand: it is rung for each call."""
    max_calls_in_flight: int | None = Field(default=None, ge=1, le=100_000)
    """Calls of this campaign at one time at most; left out, only agents and trunks limit it."""
    caller_id: Dialable | None = None
    """The number people see, digits with or without +; left out, the gateway's own."""
    connect_seconds: float = Field(default=2.0, ge=0.5, le=10)
    """Seconds from answer to an agent, after which a call counts as abandoned. Regulators say 2."""
    abandon_limit_percent: float = Field(default=3.0, ge=0.1, le=10)
    """Abandoned calls in a hundred live answers at most, over 24 hours and over 30 days. Regulators say 3 or less."""
    budget_group: Slug | None = None
    """Campaigns that name the same group share one abandonment budget; left out, the campaign has its own."""
    ring_seconds: int = Field(default=30, ge=5, le=120)
    """Seconds a phone rings before we give up. Less than 15 annoys and finds nobody; voicemail often comes at 25."""
    agent_ring_seconds: int = Field(default=10, ge=1, le=120)
    """Seconds an agent's phone rings before that agent counts as away."""
    wrap_up_seconds: float = Field(default=15.0, ge=0, le=3600)
    """Seconds an agent has after a call before the next one."""
    waiting_sound: Sound = "tone_stream://%(2000,4000,440,480);loops=-1"
    """What a person hears between answering and the agent: a file or stream of FreeSWITCH; default, ringing."""
    abandoned_message: Sound = "tone_stream://%(1000,500,350,440);loops=2"
    """What a person hears for whom there is no agent, before we hang up: the law mostly wants who called, and why."""
    ignore_early_media: Literal["true", "false", "consume"] = "true"
    """Sound before the answer. true: not listened to, only an answer counts. consume: taken off the line and dropped.
    false: a trunk's announcement counts as the call being up, which finds answering where there is none."""
    auto_answer: bool = False
    """Ask agents' phones to answer by themselves (Call-Info and Alert-Info headers)."""
    record: bool = False
    """Record both sides from the bridge on. Ask your lawyer first."""
    timezone: Zone | None = None
    """One zone for all calling hours, like Europe/Berlin; left out, the zones of each number. Under a profile of the
    law, unless exempt.calling_hours lifts its hours, only for numbers of which nobody knows where they are."""
    windows: tuple[CallingHours, ...] = Field(
        default=(CallingHours(days=("mon", "tue", "wed", "thu", "fri", "sat"), start=time(9), end=time(20)),),
        min_length=1,
    )
    """Hours in which people may be called, on their own wall clocks. Of the windows that name a place, those that
    name it most exactly hold there; the others hold everywhere else."""
    closed_days: tuple[date, ...] = ()
    """Days of the callee's calendar on which nobody is called, like 2026-12-24."""
    holidays: bool = False
    """Call nobody on the public holidays of the callee's country, and of the part of it, where that is known."""
    profile: Literal["us_tsr", "us_fl", "uk", "cn", "fr", "ca", "none"] = "none"
    """The law to keep: hours, days, caps, consent and limits in addition to the campaign's own, which may be tighter
    only. None of it is legal advice."""
    exempt: Exempt = Exempt()
    """Rules of the profile that do not hold for this campaign, each with the reason why."""
    seller: Slug | None = None
    """On whose behalf people are called: caps and do-not-call lists may be for all campaigns of one seller."""
    caps: tuple[Cap, ...] = ()
    """So many calls in so much time, and no more; a call must be within all of them."""
    consent: Literal["none", "any", "written"] = "none"
    """What a lead must have agreed to before it is called: any needs the moment of it, written the evidence too."""
    consent_days: int | None = Field(default=None, ge=1, le=36_600)
    """Days for which consent holds; left out, until it is withdrawn."""
    dispositions: tuple[AgentDisposition, ...] = ()
    """Outcomes of conversations in the campaign's own words, for agents to choose from in wrap-up."""
    default_disposition: Slug | None = None
    """The one of dispositions that a conversation gets of which nobody said anything; left out, the lead is done."""
    abandoned_opt_out: Key = "9"
    """The key with which people end such calls for good while abandoned_message plays: one of 0-9, * and #; "" for
    none."""
    abandoned_lockout_hours: float = Field(default=72.0, ge=0, le=366 * 24)
    """Hours for which nobody who was abandoned is called again, whatever retries say; 0 leaves it to them."""
    new_first: bool = False
    """Call leads that were never tried before those that are to be tried again. Promised call-backs precede both."""
    callback_patience_minutes: float = Field(default=15.0, ge=0, le=7 * 24 * 60)
    """Minutes a call-back waits for the agent who promised it, from the first moment at which it may be made; after
    that anybody takes it."""
    retries: Retries = Retries()
    """How often a lead is tried, and how soon again."""

    @model_validator(mode="after")
    def _distinct_gateways(self) -> Self:
        if len(set(self.gateways)) != len(self.gateways):
            raise ValueError("gateways should name each gateway once")
        return self

    @model_validator(mode="after")
    def _fit_for_broadcast(self) -> Self:
        if self.mode == "broadcast":
            if self.message is None:
                raise ValueError('message is missing: mode = "broadcast" has nothing to say without one')
            if self.ignore_early_media == "false":
                raise ValueError(
                    'ignore_early_media should be "true" or "consume" when mode is "broadcast": '
                    "the message would begin before anybody has answered"
                )
        return self

    @model_validator(mode="after")
    def _time_for_an_agent(self) -> Self:
        if self.machine_detection and self.machine_detection_seconds >= self.connect_seconds:
            raise ValueError(
                f"machine_detection_seconds should be less than connect_seconds, {self.connect_seconds:g}: "
                "a person would have to be connected in no time"
            )
        return self

    @model_validator(mode="after")
    def _distinct_dispositions(self) -> Self:
        for what, values in (
            ("name", [each.name for each in self.dispositions]),
            ("key", [each.key for each in self.dispositions if each.key]),
        ):
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise ValueError(f"dispositions should each have a {what} of its own, and two have {twice}")
        return self

    @model_validator(mode="after")
    def _default_disposition_exists(self) -> Self:
        if self.default_disposition is not None:
            chosen = self.disposition_called(self.default_disposition)
            if chosen is None:
                names = ", ".join(each.name for each in self.dispositions) or "none"
                raise ValueError(
                    f"default_disposition should be the name of one of dispositions, of which there are: {names}"
                )
            if chosen.then == "callback":
                raise ValueError("default_disposition should be none that promises a call-back: nobody has said when")
        return self

    def disposition_called(self, name: str) -> AgentDisposition | None:
        """The one of its own dispositions that is called `name`."""
        return next((each for each in self.dispositions if each.name == name), None)

    @property
    def listens_for_machines(self) -> bool:
        """Whether its calls tell people from machines before an agent is looked for."""
        return self.machine_detection and self.mode in ("progressive", "ratio", "predictive")

    @property
    def team_name(self) -> str:
        """Whose agents take its calls."""
        return self.team or self.name

    def zones_of(self, zones: tuple[str, ...]) -> tuple[str, ...]:
        """The zones whose wall clocks count for a number that may be in `zones`."""
        if self.timezone is None or (zones and self._callee_decides):
            return zones
        return (self.timezone,)

    @property
    def _callee_decides(self) -> bool:
        """Whether the law asks for the clock of whoever is called."""
        return self.profile != "none" and not self.exempt.calling_hours


def parse_campaign(text: str, source: str) -> Campaign:
    """The campaign that `text` (TOML) defines; `source` is what to call the text, a file name mostly.

    Raises InputRefusedError with one line for each thing that is wrong: where, what was found, what would be right.
    What its profile of the law does not allow is wrong too. `load` does not look at that: the law may have changed.
    """
    try:
        data = read_toml(text)
    except ValueError as error:
        raise InputRefusedError(f"{source}: is not TOML: {error}") from None
    try:
        # By way of JSON, where strict mode still takes a list for a tuple: TOML knows no tuples.
        campaign = Campaign.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise InputRefusedError("\n".join(_complaints(error, source))) from None
    against_the_law = [*breaches(campaign), *unknown_exemptions(campaign)]
    if against_the_law:
        raise InputRefusedError("\n".join(f"{source}: {each}" for each in against_the_law))
    return campaign


def dump(campaign: Campaign) -> str:
    """`campaign` as JSON, for the database."""
    return campaign.model_dump_json()


def load(text: str) -> Campaign:
    """The campaign that `dump` made `text` of, by this version or an older one."""
    return Campaign.model_validate_json(text)


def zone_info(name: str) -> ZoneInfo:
    """The zone called `name`; InputRefusedError if there is none."""
    try:
        return ZoneInfo(checked_zone(name))
    except ValueError as error:
        raise InputRefusedError(f"{name!r} is not a time zone: it {error}") from None


def _complaints(error: ValidationError, source: str) -> Iterator[str]:
    items = error.errors(include_url=False)
    within = {item["loc"][:n] for item in items for n in range(len(item["loc"]))}
    for item in items:
        if item["type"] == "too_short" and item["loc"] in within:
            continue  # it only counts the items that are right, and those that are not have been named
        where = "".join(f"[{p}]" if isinstance(p, int) else f".{shown_key(p)}" for p in item["loc"]).lstrip(".")
        settings, description = settings_at(Campaign, item["loc"])
        if item["type"] == "missing":
            yield f"{source}: {where}: is missing. {description}"
        elif item["type"] == "extra_forbidden":
            hint = instead_of(str(item["loc"][-1]), settings)
            yield f"{source}: {where} = {_shown(item['input'])}: there is no such setting; {hint}"
        else:
            message = item["msg"]
            for prefix in ("Value error, ", "Input ", "String ", "Tuple "):
                message = message.removeprefix(prefix)
            yield f"{source}: {where or 'campaign'} = {_shown(item['input'])}: {message}. {description}".rstrip()


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else text[:80] + "…"
