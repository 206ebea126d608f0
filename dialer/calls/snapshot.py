"""What a switch really has at a moment: one look at its channels and bridges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import msgspec

from dialer.errors import UnavailableError
from dialer.esl.commands import Exists, Show
from dialer.esl.link import CommandRefusedError
from dialer.esl.switch import Switch

LOOK_SECONDS = 10.0


class Row(msgspec.Struct, frozen=True):
    """One channel, as `show channels as json` lists it."""

    uuid: str
    direction: str = ""
    created_epoch: str = ""
    name: str = ""
    cid_num: str = ""
    dest: str = ""
    presence_id: str = ""
    callstate: str = ""
    application: str = ""


class _Call(msgspec.Struct, frozen=True):
    uuid: str
    b_uuid: str = ""


class _Rows(msgspec.Struct, frozen=True):
    row_count: int = 0
    rows: list[Row] = []


class _Calls(msgspec.Struct, frozen=True):
    row_count: int = 0
    rows: list[_Call] = []


@attrs.frozen
class Snapshot:
    """Channels by uuid, and for each bridged one its other leg."""

    channels: Mapping[str, Row]
    bridged_with: Mapping[str, str]


async def exists(switch: Switch, uuid: str) -> bool:
    """Whether `switch` has the channel `uuid`. Raises UnavailableError and OutcomeUnknownError as the link does."""
    try:
        return (await switch.run_command(Exists(uuid), within_seconds=LOOK_SECONDS)).strip() == "true"
    except CommandRefusedError as error:
        raise UnavailableError(f"the switch {switch.name!r} does not say which calls it has: {error}") from error


async def show(switch: Switch, what: str) -> bytes:
    """The JSON of `show WHAT as json`. Raises UnavailableError and OutcomeUnknownError as the link does."""
    try:
        return (await switch.run_command(Show(what), within_seconds=LOOK_SECONDS)).encode()
    except CommandRefusedError as error:
        raise UnavailableError(f"the switch {switch.name!r} does not show its {what}: {error.reply}") from error


def _decode(text: bytes, kind: type[Any], what: str) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnavailableError(f"the switch's list of {what} cannot be read: {error}") from error


async def take_snapshot(switch: Switch) -> Snapshot:
    """Looks at `switch`. Raises UnavailableError or OutcomeUnknownError if it cannot be looked at."""
    channels: _Rows = _decode(await show(switch, "channels"), _Rows, "channels")
    calls: _Calls = _decode(await show(switch, "calls"), _Calls, "calls")
    bridged: dict[str, str] = {}
    for call in calls.rows:
        if call.b_uuid:
            bridged[call.uuid] = call.b_uuid
            bridged[call.b_uuid] = call.uuid
    return Snapshot({row.uuid: row for row in channels.rows}, bridged)
