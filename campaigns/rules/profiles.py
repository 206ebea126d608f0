"""Profiles: what the law of a place asks, as data. `profiles.toml` has each figure with its source and its date.

A profile holds in addition to what a campaign says, so a campaign can only be tighter. Hours, days, caps, consent and
rests are rules like the campaign's own. Limits that a campaign sets itself, as how many may be abandoned, are
compared when the campaign is read. A rule that does not hold for a campaign is lifted by `exempt`, with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from campaigns.rules.limits import CallingHours, Cap, Exempt
from campaigns.setting_types import Settings, Text
from dialer.toml_text import read_toml

if TYPE_CHECKING:
    from campaigns.campaign import Campaign


class Source(Settings):
    """Where a figure is from."""

    text: Text
    """The law, rule or code, by its section, and what there is to know of it."""
    url: Text
    """Where it can be read."""
    looked_up: date
    """When it was read."""


class Sources(Settings):
    """Where each rule of a profile is from; a rule that it has not needs no source."""

    calling_hours: Source | None = None
    closed_day: Source | None = None
    cap: Source | None = None
    consent: Source | None = None
    lockout: Source | None = None
    refused: Source | None = None
    abandon_limit: Source | None = None
    connect_seconds: Source | None = None
    ring_seconds: Source | None = None
    caller_id: Source | None = None
    opt_out: Source | None = None


class Profile(Settings):
    """What the law of a place asks."""

    title: Text
    """Whose law it is."""
    windows: tuple[CallingHours, ...] = ()
    """Hours in which people may be called; empty: the law says nothing of them."""
    closed_days: tuple[date, ...] = ()
    """Days on which they may not."""
    holidays: bool = False
    """Whether they may not on public holidays."""
    caps: tuple[Cap, ...] = ()
    """How often they may be called."""
    consent: Literal["none", "any", "written"] = "none"
    """What they must have agreed to."""
    broadcast_consent: Literal["none", "any", "written"] = "none"
    """What they must have agreed to before a recorded message is played to them."""
    consent_days: int | None = Field(default=None, ge=1)
    """For how long that holds."""
    abandoned_lockout_hours: float = Field(default=0.0, ge=0)
    """How long they are left alone after an abandoned call."""
    machine_lockout_hours: float = Field(default=0.0, ge=0)
    """How long they are left alone after a call that was taken for one to a machine, and hung up on."""
    refusal_rest_days: int = Field(default=0, ge=0)
    """For how many whole days of their calendar they are left alone after they have refused."""
    most_abandoned_percent: float | None = None
    """Abandoned calls in a hundred answers at most."""
    most_connect_seconds: float | None = None
    """Seconds after which a call counts as abandoned, at most."""
    least_ring_seconds: int | None = None
    """Seconds for which a phone must be left to ring."""
    caller_id: bool = False
    """Whether they must see a number at which the caller can be reached."""
    opt_out: bool = False
    """Whether they must have a key with which they end such calls for good, wherever a message is played to them."""
    sources: Sources = Sources()
    """Where all this is from."""

    def rules(self) -> set[str]:
        """The rules it has, as `Exempt` and `Sources` name them."""
        has = {
            "calling_hours": bool(self.windows),
            "closed_day": bool(self.closed_days or self.holidays),
            "cap": bool(self.caps),
            "consent": (self.consent, self.broadcast_consent) != ("none", "none"),
            "lockout": bool(self.abandoned_lockout_hours or self.machine_lockout_hours),
            "refused": bool(self.refusal_rest_days),
            "abandon_limit": self.most_abandoned_percent is not None,
            "connect_seconds": self.most_connect_seconds is not None,
            "ring_seconds": self.least_ring_seconds is not None,
            "caller_id": self.caller_id,
            "opt_out": self.opt_out,
        }
        return {rule for rule, is_there in has.items() if is_there}

    def without(self, exempt: Exempt) -> Profile:
        """The profile without the rules that `exempt` lifts."""
        lifted = {rule for rule in Exempt.model_fields if getattr(exempt, rule)}
        nothing = Profile(title=self.title)
        return self.model_copy(
            update={
                setting: getattr(nothing, setting)
                for setting in Profile.model_fields
                if _RULE_OF.get(setting) in lifted
            }
        )


_RULE_OF = {
    "windows": "calling_hours",
    "closed_days": "closed_day",
    "holidays": "closed_day",
    "caps": "cap",
    "consent": "consent",
    "broadcast_consent": "consent",
    "consent_days": "consent",
    "abandoned_lockout_hours": "lockout",
    "machine_lockout_hours": "lockout",
    "refusal_rest_days": "refused",
    "most_abandoned_percent": "abandon_limit",
    "most_connect_seconds": "connect_seconds",
    "least_ring_seconds": "ring_seconds",
    "caller_id": "caller_id",
    "opt_out": "opt_out",
}


@cache
def profiles() -> dict[str, Profile]:
    """All profiles by name."""
    data = read_toml(files("campaigns.rules").joinpath("profiles.toml").read_text("utf-8"))
    return {name: Profile.model_validate(profile, strict=False) for name, profile in data.items()}


def profile_of(campaign: Campaign) -> Profile:
    """What the campaign's profile asks of it, without what it is exempt from."""
    return profiles()[campaign.profile].without(campaign.exempt)


def lifted(campaign: Campaign) -> dict[str, str]:
    """The rules of its profile that do not hold for `campaign`, each with the reason."""
    rules = profiles()[campaign.profile].rules()
    return {
        rule: reason for rule in Exempt.model_fields if rule in rules and (reason := getattr(campaign.exempt, rule))
    }


def breaches(campaign: Campaign) -> Iterator[str]:
    """What the campaign sets more laxly than its profile allows: the setting, its value, what is right, and why."""
    profile = profile_of(campaign)

    def breach(setting: str, rule: str, value: object, right: str) -> str:
        source: Source | None = getattr(profile.sources, rule)
        where = f" ({source.text}; as of {source.looked_up})" if source is not None else ""
        return (
            f"{setting} = {value}: should be {right} under the profile {campaign.profile}{where}, "
            f"or exempt.{rule} should say why not"
        )

    most, connect, ring = profile.most_abandoned_percent, profile.most_connect_seconds, profile.least_ring_seconds
    if most is not None and campaign.abandon_limit_percent > most and campaign.mode != "broadcast":
        yield breach("abandon_limit_percent", "abandon_limit", campaign.abandon_limit_percent, f"{most:g} at most")
    if connect is not None and campaign.connect_seconds > connect and campaign.mode != "broadcast":
        yield breach("connect_seconds", "connect_seconds", campaign.connect_seconds, f"{connect:g} at most")
    if ring is not None and campaign.ring_seconds < ring:
        yield breach("ring_seconds", "ring_seconds", campaign.ring_seconds, f"{ring} at least")
    if profile.caller_id and campaign.caller_id is None:
        yield breach("caller_id", "caller_id", "none", "a number at which the caller can be reached")
    is_broadcast = campaign.mode == "broadcast"
    key = campaign.message_keys.opt_out if is_broadcast else campaign.abandoned_opt_out
    if profile.opt_out and not key:
        setting = "message_keys.opt_out" if is_broadcast else "abandoned_opt_out"
        yield breach(setting, "opt_out", '""', "a key")


def unknown_exemptions(campaign: Campaign) -> Iterator[str]:
    """What the campaign is exempt from that its profile does not ask for: mostly the wrong profile."""
    rules = profiles()[campaign.profile].rules()
    for rule in Exempt.model_fields:
        reason = getattr(campaign.exempt, rule)
        if reason and rule not in rules:
            asked = ", ".join(sorted(rules)) or "nothing"
            yield f'exempt.{rule} = "{reason}": the profile {campaign.profile} has no such rule; it has {asked}'
