"""Commands to FreeSWITCH as values; the only place where text becomes a command.

Everything that reaches the switch passes one strict grammar, and is refused before it is bytes. FreeSWITCH splits a
command three times, each time dropping quotes and backslashes: at blanks, then `{…}` at commas, then at `=`
(switch_utils.c `separate_string_blank_delim`, switch_event.c `switch_event_create_brackets`). A comma in a variable
survives none of it, so it is not allowed there. In an inline dialplan a comma inside an argument is written `\\,`;
that survives the first split and is undone by the last (mod_dptools.c `inline_dialplan_hunt`). The form
`&app(argument)` ends at the first closing parenthesis (mod_commands.c `originate_function`), which cuts every
tone_stream short, so a target with an argument is always written inline.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import attrs

from dialer.errors import InputRefusedError

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)  # gateways, extensions, domains, applications
_NUMBER: Final = re.compile(r"\+?[0-9*#]{1,32}", re.ASCII)
_CAUSE: Final = re.compile(r"[A-Z][A-Z0-9_]{1,48}", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
# Left out of values: , { } [ ] < > ' " \ ^ | $ ` and everything that is no printable ASCII.
_VALUE: Final = re.compile(r"[A-Za-z0-9_.:;/@+*#%()!&?~=-]+( [A-Za-z0-9_.:;/@+*#%()!&?~=-]+)*", re.ASCII)
# A sound or an argument of an application: a value without blanks, with commas.
_ARGUMENT: Final = re.compile(r"[A-Za-z0-9_.:;/@+*#%()!&?~=,-]+", re.ASCII)
_FILE: Final = re.compile(r"/[A-Za-z0-9_.:;/@+*#%()!&?~=,-]+", re.ASCII)  # of a sound, which may be any argument
_PATH: Final = re.compile(r"/[A-Za-z0-9_./@+=-]{1,1000}", re.ASCII)
MAX_TEXT_CHARACTERS: Final = 1_000


# attrs' own validator types are narrower than what it calls
Validator = Callable[[Any, Any, str], None]


def _matches(pattern: re.Pattern[str], what: str, right: str) -> Validator:
    def check(_instance: object, _attribute: object, value: str) -> None:
        if not isinstance(value, str) or len(value) > MAX_TEXT_CHARACTERS or not pattern.fullmatch(value):
            raise InputRefusedError(f"{what} {str(value)[:80]!a} cannot be sent to FreeSWITCH: {right}")

    return check


is_uuid = _matches(_UUID, "the call id", "a UUID in lower case is needed")
is_name = _matches(_NAME, "the name", "letters, digits, '_', '.' and '-' are allowed, at most 64")
is_number = _matches(_NUMBER, "the number", "digits, '*' and '#' are allowed, a '+' in front, at most 32")
is_cause = _matches(_CAUSE, "the hang-up cause", "a name such as NORMAL_CLEARING is needed")
is_variable = _matches(_VARIABLE, "the variable name", "letters, digits, '_' and '-' are allowed, at most 64")
is_value = _matches(
    _VALUE,
    "the value",
    "letters, digits, single blanks and _.:;/@+*#%()!&?~=- are allowed; no comma, quote or bracket",
)
is_argument = _matches(
    _ARGUMENT,
    "the sound or argument",
    "letters, digits and _.:;/@+*#%()!&?~=,- are allowed; no blank, quote or bracket",
)
is_file = _matches(_FILE, "the file", "an absolute path without blanks, quotes and brackets is needed")
is_path = _matches(_PATH, "the file", "an absolute path of letters, digits and _./@+=- is needed")


def _or_empty(check: Validator) -> Validator:
    def check_unless_empty(instance: object, attribute: object, value: str) -> None:
        if value != "":
            check(instance, attribute, value)

    return check_unless_empty


class Command(Protocol):
    """What can be sent with `bgapi` or `api`: one line that passed the grammar."""

    def line(self) -> str:
        """The command as FreeSWITCH reads it, without a line end."""
        ...


@attrs.frozen
class GatewayEndpoint:
    """A number behind a trunk."""

    gateway: str = attrs.field(validator=is_name)
    number: str = attrs.field(validator=is_number)

    def text(self) -> str:
        return f"sofia/gateway/{self.gateway}/{self.number}"


@attrs.frozen
class UserEndpoint:
    """A registered phone."""

    extension: str = attrs.field(validator=is_name)
    domain: str = attrs.field(validator=is_name)

    def text(self) -> str:
        return f"user/{self.extension}@{self.domain}"


@attrs.frozen
class App:
    """One dialplan application with its argument; none when empty."""

    name: str = attrs.field(validator=is_name)
    argument: str = attrs.field(default="", validator=_or_empty(is_argument))

    def text(self) -> str:
        escaped = self.argument.replace(",", "\\,")
        return f"{self.name}:{escaped}" if escaped else self.name


def inline(apps: tuple[App, ...]) -> str:
    """The applications as an inline dialplan, quoted for the first split."""
    return "'" + ",".join(app.text() for app in apps) + "' inline"


def _check_variables(instance: object, attribute: object, value: Mapping[str, str]) -> None:
    for name, text in value.items():
        is_variable(instance, attribute, name)
        is_value(instance, attribute, text)
        if ":_:" in text:  # FreeSWITCH splits an enterprise originate there, brackets or not
            raise InputRefusedError(
                f"the value {text[:80]!a} cannot be sent to FreeSWITCH: ':_:' splits a call in two"
            )


@attrs.frozen
class Originate:
    """Makes a call and, once it is up, sends it into `target`. The channel's uuid is ours."""

    uuid: str = attrs.field(validator=is_uuid)
    endpoint: GatewayEndpoint | UserEndpoint
    target: tuple[App, ...] = attrs.field(validator=attrs.validators.min_len(1))
    variables: Mapping[str, str] = attrs.field(factory=dict, validator=_check_variables)

    def line(self) -> str:
        variables = {"origination_uuid": self.uuid, **self.variables}
        pairs = ",".join(
            f"{name}='{value}'" if " " in value else f"{name}={value}" for name, value in variables.items()
        )
        return f"originate {{{pairs}}}{self.endpoint.text()} {inline(self.target)}"


@attrs.frozen
class Bridge:
    """Connects two answered calls. The customer first: if it dies on the way, the agent's leg lives."""

    customer: str = attrs.field(validator=is_uuid)
    agent_leg: str = attrs.field(validator=is_uuid)

    def line(self) -> str:
        return f"uuid_bridge {self.customer} {self.agent_leg}"


@attrs.frozen
class Kill:
    """Hangs a call up."""

    uuid: str = attrs.field(validator=is_uuid)
    cause: str = attrs.field(default="NORMAL_CLEARING", validator=is_cause)

    def line(self) -> str:
        return f"uuid_kill {self.uuid} {self.cause}"


@attrs.frozen
class Park:
    """Parks a call; brings a CHANNEL_PARK even for a leg that had left park silently."""

    uuid: str = attrs.field(validator=is_uuid)

    def line(self) -> str:
        return f"uuid_park {self.uuid}"


@attrs.frozen
class Transfer:
    """Takes a call out of what it does and sends it through `target`."""

    uuid: str = attrs.field(validator=is_uuid)
    target: tuple[App, ...] = attrs.field(validator=attrs.validators.min_len(1))

    def line(self) -> str:
        return f"uuid_transfer {self.uuid} {inline(self.target)}"


@attrs.frozen
class SetVariable:
    """Sets a channel variable, or clears it when `value` is empty."""

    uuid: str = attrs.field(validator=is_uuid)
    name: str = attrs.field(validator=is_variable)
    value: str = attrs.field(default="", validator=_or_empty(is_value))

    def line(self) -> str:
        return f"uuid_setvar {self.uuid} {self.name} {self.value}".rstrip()


@attrs.frozen
class GetVariable:
    """Asks for a channel variable; "_undef_" when it is not set."""

    uuid: str = attrs.field(validator=is_uuid)
    name: str = attrs.field(validator=is_variable)

    def line(self) -> str:
        return f"uuid_getvar {self.uuid} {self.name}"


@attrs.frozen
class ScheduleHangup:
    """Hangs a call up after `seconds`, whatever became of us by then."""

    uuid: str = attrs.field(validator=is_uuid)
    seconds: int = attrs.field(validator=attrs.validators.ge(1))
    cause: str = attrs.field(default="NORMAL_CLEARING", validator=is_cause)

    def line(self) -> str:
        return f"sched_hangup +{self.seconds} {self.uuid} {self.cause}"


@attrs.frozen
class Unschedule:
    """Takes back every hang-up that was scheduled for a call."""

    uuid: str = attrs.field(validator=is_uuid)

    def line(self) -> str:
        return f"sched_del {self.uuid}"


@attrs.frozen
class Record:
    """Starts recording a call into a file on the switch."""

    uuid: str = attrs.field(validator=is_uuid)
    path: str = attrs.field(validator=is_path)

    def line(self) -> str:
        return f"uuid_record {self.uuid} start {self.path}"


@attrs.frozen
class Exists:
    """Asks whether a channel is there: "true" or "false"."""

    uuid: str = attrs.field(validator=is_uuid)

    def line(self) -> str:
        return f"uuid_exists {self.uuid}"


@attrs.frozen
class Show:
    """Lists channels or registrations as JSON. With none, FreeSWITCH sends a row_count of 0 and no rows."""

    what: str = attrs.field(validator=attrs.validators.in_(("channels", "registrations", "calls")))

    def line(self) -> str:
        return f"show {self.what} as json"


@attrs.frozen
class ShowApplication:
    """Asks for an application of the dialplan: a line "NAME,..." if there is one. JSON is not to be had of it."""

    name: str = attrs.field(validator=is_name)

    def line(self) -> str:
        return f"show application {self.name}"


@attrs.frozen
class FileExists:
    """Asks whether the switch's machine has a file: "true" or "false"; folders count as files."""

    path: str = attrs.field(validator=is_file)

    def line(self) -> str:
        return f"file_exists {self.path}"


@attrs.frozen
class GatewayStatus:
    """Asks for a gateway's state; "Invalid Gateway!" when the switch has none of that name."""

    gateway: str = attrs.field(validator=is_name)

    def line(self) -> str:
        return f"sofia xmlstatus gateway {self.gateway}"


def scheduled_hangup_on_answer(seconds: int, cause: str) -> dict[str, str]:
    """The variables that hang a call up `seconds` after its answer unless Unschedule comes first."""
    return {"execute_on_answer": f"sched_hangup +{seconds} {cause}"}


def bgapi(command: Command, job_uuid: str) -> bytes:
    """`command` as bytes to be run in the background under our own `job_uuid`.

    Raises InputRefusedError for a control character that got through; the last gate before the wire.
    """
    line = command.line()
    if not line.isascii() or not line.isprintable():
        raise InputRefusedError(f"the command {line[:80]!a} cannot be sent to FreeSWITCH: it is not printable ASCII")
    if not _UUID.fullmatch(job_uuid):
        raise InputRefusedError(f"the job id {job_uuid[:80]!a} cannot be sent to FreeSWITCH: a UUID is needed")
    return f"bgapi {line}\nJob-UUID: {job_uuid}\n\n".encode("ascii")


def auth(password: str) -> bytes:
    """The login. Raises InputRefusedError for a password with a line end or other control character in it."""
    if not password or not password.isprintable():
        raise InputRefusedError("the event socket's password has characters in it that cannot be sent")
    return f"auth {password}\n\n".encode()
