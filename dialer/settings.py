"""The daemon's configuration: one TOML file, read whole, every mistake in it told at once.

Units are in the names. Defaults are here and nowhere else; config/dialer.toml shows each with its reason.
"""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Final, Literal

import attrs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from campaigns.campaign import Day, Zone
from campaigns.disposition import CAUSES
from campaigns.trunk import CallerId, Trunk
from dialer.errors import ConfigurationError
from dialer.toml_text import instead_of, read_toml, settings_at, shown_key

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
# The password every FreeSWITCH ships with. Good enough on loopback, where whoever can use it owns the machine anyway.
DEFAULT_PASSWORD: Final = "ClueCon"  # noqa: S105


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_password(url: str) -> str:
    """`url` as it may be shown."""
    head, at, tail = url.partition("?")[0].rpartition("@")
    scheme, colon, _ = head.partition("://")
    return f"{scheme}{colon}…@{tail}" if at and colon else f"…@{tail}" if at else tail


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class SwitchSettings(_Section):
    """One FreeSWITCH and its event socket."""

    name: Name
    host: str = "127.0.0.1"
    port: int = Field(default=8021, ge=1, le=65535)
    password: str | None = Field(default=None, repr=False)
    password_file: Path | None = None
    password_env: str | None = None
    # The domain phones register under on this switch: user/EXTENSION@DOMAIN.
    domain: Name = "127.0.0.1"
    heartbeat_seconds: float = Field(default=20.0, gt=0, le=300)
    recordings_dir: str = Field(default="/var/lib/freeswitch/recordings", pattern=r"^/[A-Za-z0-9_./@+=-]{1,500}$")

    @model_validator(mode="after")
    def _one_password(self) -> SwitchSettings:
        given = [k for k in ("password", "password_file", "password_env") if getattr(self, k) is not None]
        if len(given) > 1:
            raise ValueError(f"give one of {', '.join(given)}, not {len(given)}")
        return self

    @property
    def is_here(self) -> bool:
        """Whether it is reached over loopback, so that it most likely has the files of this machine."""
        return _is_loopback(self.host)

    def secret(self) -> str:
        """The event socket's password.

        Raises ConfigurationError if its file or variable cannot be read, and for the default password of FreeSWITCH
        on an address that others can reach.
        """
        where = f"switch {self.name!r}"
        password = DEFAULT_PASSWORD if self.password is None else self.password
        if self.password_file is not None:
            try:
                password = self.password_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"{where}: password_file {self.password_file}: {error}") from error
        if self.password_env is not None:
            if self.password_env not in os.environ:
                raise ConfigurationError(f"{where}: the environment variable {self.password_env} is not set")
            password = os.environ[self.password_env]
        if password == DEFAULT_PASSWORD and not _is_loopback(self.host):
            raise ConfigurationError(
                f"{where}: the default event-socket password is refused for {self.host}, which is not loopback: "
                "set another in event_socket.conf.xml and name its file in password_file"
            )
        if not password or not password.isprintable():
            raise ConfigurationError(f"{where}: the password is empty or has control characters in it")
        return password


Shown = Annotated[str, Field(pattern=r"^\+?[0-9]{1,20}$")]
Area = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{0,14}$")]
# An area, or a region as ISO 3166 writes it.
BlindArea = Annotated[str, Field(pattern=r"^(\+[1-9][0-9]{0,14}|[A-Z]{2}(-[A-Z0-9]{1,3})?)$")]


def _failure_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _known_failure(value: str) -> str:
    if not re.fullmatch(r"[3-6]([0-9]{2}|xx)", value) and value not in CAUSES:
        raise ValueError(
            "should be a SIP status such as 503, all of a hundred such as 5xx, or a hang-up cause such as "
            "NETWORK_OUT_OF_ORDER"
        )
    return value


# How a call failed.
Failure = Annotated[str, BeforeValidator(_failure_as_text), AfterValidator(_known_failure)]
# Of these another trunk may know better. 401, 402, 403 and 407 are the trunk refusing us.
_FAIL_OVER_ON: Final = (
    *("401", "402", "403", "407", "408", "5xx"),
    *("NETWORK_OUT_OF_ORDER", "NORMAL_CIRCUIT_CONGESTION", "SWITCH_CONGESTION", "NORMAL_TEMPORARY_FAILURE"),
    *("REQUESTED_CHAN_UNAVAIL", "NO_ROUTE_TRANSIT_NET", "RECOVERY_ON_TIMER_EXPIRE", "PROGRESS_TIMEOUT"),
    *("SERVICE_UNAVAILABLE", "GATEWAY_DOWN", "INVALID_GATEWAY"),
)
# Of these no trunk will know better: the person, or the number, has spoken.
_NEVER_RETRY_ON: Final = (
    *("404", "410", "480", "484", "486", "600", "603", "604", "607", "608"),
    *("USER_BUSY", "UNALLOCATED_NUMBER", "INVALID_NUMBER_FORMAT", "NUMBER_CHANGED", "NO_ANSWER", "NO_USER_RESPONSE"),
    "SUBSCRIBER_ABSENT",
)


class CallerIdSettings(_Section):
    """A number of a trunk's pool."""

    number: Shown
    areas: tuple[Area, ...] = ()
    most_per_day: int | None = Field(default=None, ge=1, le=1_000_000)
    rest_days: tuple[Day, ...] = ()

    def caller_id(self) -> CallerId:
        return CallerId(self.number, self.areas, self.most_per_day, self.rest_days)


class GatewaySettings(_Section):
    """One trunk, as campaigns name it."""

    name: Name
    switch: Name
    # What FreeSWITCH calls it in sofia.conf; the same name unless given.
    freeswitch_gateway: Name | None = None
    # Taken off the beginning of the E.164 number; a trunk that does so calls no number that begins otherwise.
    number_strip: str = Field(default="", pattern=r"^(\+?[1-9][0-9]{0,14})?$")
    # Put before the digits that are left; the number itself goes out without its "+".
    number_prefix: str = Field(default="", pattern=r"^\+?[0-9*#]{0,16}$")
    caller_id: Shown
    caller_ids: tuple[CallerIdSettings, ...] = ()
    concurrency: int = Field(ge=1, le=100_000)
    calls_per_second: float = Field(default=10.0, gt=0, le=10_000)
    most_per_callee_a_day: int | None = Field(default=None, ge=1, le=100)
    blind_areas: tuple[BlindArea, ...] = ()
    timezone: Zone = "UTC"
    tier: int = Field(default=1, ge=1, le=100)
    weight: int = Field(default=0, ge=0, le=1000)
    cost_per_minute: float = Field(default=0.0, ge=0, le=1000)
    progress_seconds: int | None = Field(default=None, ge=1, le=60)
    fail_over_on: tuple[Failure, ...] = _FAIL_OVER_ON
    never_retry_on: tuple[Failure, ...] = _NEVER_RETRY_ON
    park_after_faults: int = Field(default=5, ge=1, le=1000)
    park_seconds: float = Field(default=30.0, ge=1, le=86_400)
    park_seconds_most: float = Field(default=900.0, ge=1, le=86_400)

    @model_validator(mode="after")
    def _consistent(self) -> GatewaySettings:
        if self.park_seconds_most < self.park_seconds:
            raise ValueError(
                f"park_seconds_most should be at least park_seconds, {self.park_seconds:g}: the rest only grows"
            )
        numbers = [one.number for one in self.caller_ids]
        twice = sorted({number for number in numbers if numbers.count(number) > 1})
        if twice:
            raise ValueError(f"caller_ids should have each number once, and {', '.join(twice)} is there twice")
        return self

    @property
    def sofia_name(self) -> str:
        return self.freeswitch_gateway or self.name

    def dialed(self, number: str) -> str:
        """The E.164 `number` as this trunk wants it."""
        digits = number.removeprefix("+").removeprefix(self.number_strip.removeprefix("+"))
        return self.number_prefix + digits

    def trunk(self) -> Trunk:
        """What campaigns know of it.

        With a pool in which every number is for some areas only, `caller_id` is for the rest of the world.
        """
        pool = tuple(one.caller_id() for one in self.caller_ids)
        if pool and all(one.areas for one in pool):
            everywhere = CallerId(self.caller_id, areas=("+",))  # the least local of all
            mine = next((one for one in pool if one.number == self.caller_id), everywhere)
            everywhere = attrs.evolve(mine, areas=tuple(dict.fromkeys((*mine.areas, "+"))))
            pool = (*(one for one in pool if one is not mine), everywhere)
        return Trunk(
            self.name,
            self.switch,
            blind=self.blind_areas,
            caller_ids=pool,
            most_per_callee_a_day=self.most_per_callee_a_day,
            within=f"+{self.number_strip.removeprefix('+')}" if self.number_strip else "",
            zone=self.timezone,
        )


class DatabaseSettings(_Section):
    url: str = Field(default="sqlite:////var/lib/dialer/dialer.db", repr=False)

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        if not url.startswith(("sqlite:///", "postgresql://", "postgresql+psycopg://")):
            raise ValueError("a URL beginning with sqlite:/// or postgresql:// is needed")
        return url


class RedisSettings(_Section):
    """Where agents and gateway slots are kept. Without a URL the daemon runs a private redis-server."""

    url: str | None = Field(default=None, repr=False)
    prefix: str = Field(default="dialer:", pattern=r"^[A-Za-z0-9_.:-]{0,64}$")
    registrations_key: str = "registrations"
    registrations_channel: str = "registrations"
    calls_key: str = "calls"
    calls_channel: str = "calls"
    timeout_seconds: float = Field(default=2.0, gt=0, le=30)


class DoorSettings(_Section):
    """The local socket the command line talks to. Whoever may write to it may run the dialer."""

    path: Path = Path("/run/dialer/door.sock")
    mode: str = Field(default="0660", pattern=r"^0[0-7]{3}$")


class LogSettings(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class CallSettings(_Section):
    """Deadlines of a call that are the same for all campaigns."""

    bridge_seconds: float = Field(default=1.0, gt=0, le=10)
    agent_lease_seconds: float = Field(default=30.0, ge=5, le=600)
    slot_lease_seconds: float = Field(default=60.0, ge=5, le=600)
    parked_leg_seconds: int = Field(default=300, ge=30, le=86_400)
    longest_conversation_seconds: int = Field(default=14_400, ge=60, le=86_400)
    longest_message_seconds: int = Field(default=60, ge=1, le=600)
    machine_detection: Name = "amd"
    drain_seconds: float = Field(default=10.0, ge=0, le=86_400)


class Settings(_Section):
    """Everything the daemon is told."""

    node: Name = "dialer"
    state_dir: Path | None = None
    switch: tuple[SwitchSettings, ...] = Field(min_length=1)
    gateway: tuple[GatewaySettings, ...] = Field(min_length=1)
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    door: DoorSettings = DoorSettings()
    log: LogSettings = LogSettings()
    calls: CallSettings = CallSettings()

    @model_validator(mode="after")
    def _names_agree(self) -> Settings:
        switches = [switch.name for switch in self.switch]
        gateways = [gateway.name for gateway in self.gateway]
        mistakes = [
            f"{kind} {name!r} is there twice; each needs a name of its own"
            for kind, names in (("switch", switches), ("gateway", gateways))
            for name in sorted({name for name in names if names.count(name) > 1})
        ]
        mistakes += [
            f"gateway {gateway.name!r} is on the switch {gateway.switch!r}, which is not configured; "
            f"there is {', '.join(switches)}"
            for gateway in self.gateway
            if gateway.switch not in switches
        ]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    @property
    def state_directory(self) -> Path:
        """Where the daemon keeps files of its own: beside a SQLite database unless `state_dir` says otherwise."""
        if self.state_dir is not None:
            return self.state_dir
        path = self.database.url.removeprefix("sqlite:///")
        if path == self.database.url:
            return Path(os.environ.get("STATE_DIRECTORY", "/var/lib/dialer"))
        return Path(path).parent

    def trunks(self) -> dict[str, Trunk]:
        """All gateways as campaigns see them, by name."""
        return {one.name: one.trunk() for one in self.gateway}

    def gateway_named(self, name: str) -> GatewaySettings | None:
        return next((gateway for gateway in self.gateway if gateway.name == name), None)


# Settings that a running daemon takes over; everything else is built into it at its start.
_TAKEN_OVER: Final = frozenset({"gateway", "calls", "log"})
_BUILT_IN: Final = frozenset({("calls", "agent_lease_seconds"), ("calls", "slot_lease_seconds")})


def check_reloadable(running: Settings, new: Settings) -> None:
    """Raises ConfigurationError naming every setting of `new` that a daemon with `running` cannot take over."""
    before, after = running.model_dump(), new.model_dump()
    fixed = [name for name in after if name not in _TAKEN_OVER and before[name] != after[name]]
    fixed += [f"{name}.{key}" for name, key in sorted(_BUILT_IN) if before[name][key] != after[name][key]]
    if fixed:
        raise ConfigurationError(
            f"{', '.join(fixed)}: cannot be changed while the daemon runs, so nothing was; restart it "
            "(conversations go on)"
        )


def load_settings(path: Path) -> Settings:
    """Reads the configuration file `path`.

    Raises ConfigurationError naming the file and every wrong key with its value and what would be right.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    return parse_settings(text, str(path))


def door_in(path: Path) -> Path:
    """Where the daemon's door is, whatever else is wrong in the file `path`: somebody may just be editing it."""
    try:
        return load_settings(path).door.path
    except ConfigurationError:
        try:
            told = read_toml(path.read_text(encoding="utf-8")).get("door")
        except (OSError, ValueError):
            told = None
        named = told.get("path") if isinstance(told, dict) else None
        return Path(named) if isinstance(named, str) else DoorSettings().path


def parse_settings(text: str, source: str) -> Settings:
    """As load_settings, for text that came from `source`."""
    try:
        data = read_toml(text)
    except ValueError as error:
        raise ConfigurationError(f"{source}: not valid TOML: {error}") from error
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(describe_mistakes(error, source)) from error


def describe_mistakes(error: ValidationError, source: str) -> str:
    """Every mistake of a refused file, one a line: where, what was there, what would be right."""
    lines: list[str] = []
    places = [mistake["loc"] for mistake in error.errors()]
    for mistake in error.errors():
        depth = len(mistake["loc"])
        if mistake["type"] == "too_short" and any(
            len(place) > depth and place[:depth] == mistake["loc"] for place in places
        ):
            continue  # pydantic counts only what it could read; the wrong ones are told by themselves
        where = (
            ".".join(str(part + 1) if isinstance(part, int) else shown_key(part) for part in mistake["loc"])
            or "the file"
        )
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            there_are, _ = settings_at(Settings, mistake["loc"])
            message = f"there is no such key; {instead_of(str(mistake['loc'][-1]), there_are)}"
        elif mistake["type"] == "missing":
            message = "is missing"
        elif "password" not in where and isinstance(mistake["input"], str | int | float):
            # A whole table is not shown: a password may be in it.
            shown = mistake["input"]
            if isinstance(shown, str) and (where.endswith("url") or "@" in shown):  # a URL may be in the wrong place
                shown = without_password(shown)
            message = f"{message} (it is {shown!r})"
        lines += [f"{source}: {where}: {one}" for one in message.splitlines()]
    return "\n".join(lines)
