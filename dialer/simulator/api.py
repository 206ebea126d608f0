"""The commands that `api` and `bgapi` run, with the answers of the real ones to the letter.

Each is a function of the machine and the text after the command's name, and returns its answer; `originate` is the
one that may answer later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dialer.simulator import tables
from dialer.simulator.channel import Channel
from dialer.simulator.dialstring import inline_program, separate

if TYPE_CHECKING:
    from dialer.simulator.machine import Machine

Reply = Callable[[str], None]
NO_CHANNEL = "-ERR No such channel!\n"
OK = "+OK\n"
VERSION = "1.11.3-dev+git~20260821T141014Z~cc93a683ca~64bit"
DTMF_PAUSE = 0.1  # between the digits of one command


def execute(machine: Machine, command: str, arguments: str, reply: Reply) -> None:
    """Run one command; `reply` gets its answer, for `originate` perhaps later."""
    if command == "originate":
        machine.originator.start(arguments, reply)
        return
    run = COMMANDS.get(command)
    reply(f"-ERR {command} Command not found!\n" if run is None else run(machine, arguments))


def _uuid_bridge(machine: Machine, arguments: str) -> str:
    words = arguments.split()
    if len(words) != 2:
        return "-USAGE: <uuid> <other_uuid>\n"
    first, second = (machine.find(uuid) for uuid in words)
    if first is None or second is None or first is second:
        return "-ERR Invalid uuid\n"
    machine.bridges.ask(first, second)
    return f"+OK {second.uuid}\n"


def _uuid_kill(machine: Machine, arguments: str) -> str:
    uuid, _, cause = arguments.partition(" ")
    if not uuid:
        return "-USAGE: <uuid> [cause]\n"
    channel = machine.find(uuid)
    if channel is None:
        return NO_CHANNEL
    machine.hang_up(channel, cause.strip() or "NORMAL_CLEARING")
    return OK


def _uuid_park(machine: Machine, arguments: str) -> str:
    channel = machine.find(arguments.strip())
    if channel is None:
        return NO_CHANNEL
    channel.timers.append(machine.timers.after(machine.lag(), _park, machine, channel))
    return OK


def _park(machine: Machine, channel: Channel) -> None:
    machine.bridges.leave(channel)
    machine.bridges.left_before_it_came(channel)
    machine.applications.park(channel)


def _uuid_transfer(machine: Machine, arguments: str) -> str:
    words = separate(arguments, " ")
    whom = words.pop(1) if len(words) > 1 and words[1] in {"-bleg", "-both"} else ""
    if len(words) < 2:
        return "-USAGE: <uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]\n"
    channel = machine.find(words[0])
    if channel is None:
        return NO_CHANNEL
    told = words[1]
    if len(words) > 2 and words[2].lower() == "inline":
        program = inline_program(told)
    else:
        program = [("hangup", "NO_ROUTE_DESTINATION")]  # there is no XML dialplan here
    legs = [channel] if whom != "-bleg" else []
    if whom and channel.partner is not None and not channel.partner.hung_up:
        legs.append(channel.partner)
    if not legs:
        return "-ERR\n"
    for leg in legs:
        machine.applications.transfer(leg, program, told)
    return OK


def _uuid_setvar(machine: Machine, arguments: str) -> str:
    uuid, _, rest = arguments.partition(" ")
    name, _, value = rest.partition(" ")
    channel = machine.find(uuid)
    if channel is None:
        return NO_CHANNEL
    if not name:
        return "-ERR No variable specified\n"
    channel.set(name, value)
    return OK


def _uuid_getvar(machine: Machine, arguments: str) -> str:
    uuid, _, name = arguments.partition(" ")
    channel = machine.find(uuid)
    if channel is None:
        return NO_CHANNEL
    if not name:
        return "-ERR No variable name specified!\n"
    value = channel.get(name)
    return "_undef_" if value is None else value


def _uuid_record(machine: Machine, arguments: str) -> str:
    words = arguments.split()
    if len(words) < 2:
        return "-USAGE: <uuid> [start|stop|mask|unmask|pause|resume] <path> [<limit>]\n"
    channel = machine.find(words[0])
    if channel is None:
        return "-ERR Cannot locate session!\n"
    path = words[2] if len(words) > 2 else ""
    match words[1]:
        case "start" if path:
            machine.applications.record(channel, path)
        case "stop" if path == "all":
            machine.applications.stop_recordings(channel)
        case "stop":
            if not machine.applications.stop_recording(channel, path):
                return "-ERR Cannot stop record session!\n"
        case "mask" | "unmask" | "pause" | "resume":
            pass
        case _:
            return "-USAGE: <uuid> [start|stop|mask|unmask|pause|resume] <path> [<limit>]\n"
    return "+OK Success\n"


def _uuid_exists(machine: Machine, arguments: str) -> str:
    return "true" if arguments.strip() in machine.channels else "false"


def _file_exists(machine: Machine, arguments: str) -> str:
    return "true" if arguments and arguments not in machine.scenario.missing_sounds else "false"


def _uuid_recv_dtmf(machine: Machine, arguments: str) -> str:
    uuid, _, digits = arguments.partition(" ")
    channel = machine.find(uuid)
    if channel is None:
        return "-ERR Cannot locate session!\n"
    keys, _, duration = digits.partition("@")
    samples = int(duration) * 8 if duration.isdecimal() else 16000
    for index, digit in enumerate(keys):
        press = machine.timers.after(index * DTMF_PAUSE, _press, machine, channel, digit, samples)
        channel.timers.append(press)
    return f"+OK {uuid} received DTMF {digits}.\n"


def _press(machine: Machine, channel: Channel, digit: str, samples: int) -> None:
    machine.applications.press(channel, digit, duration=samples, source="APP")


def _uuid_dump(machine: Machine, arguments: str) -> str:
    uuid, _, format_ = arguments.partition(" ")
    channel = machine.channels.get(uuid)
    if channel is None:
        return NO_CHANNEL
    machine.sequence += 1
    event = machine.event("CHANNEL_DATA", channel)
    if format_.strip() == "json":
        return "{" + b"".join(block.json for block in event.blocks)[:-1].decode() + "}"
    return b"".join(block.plain for block in event.blocks).decode() + "\n"


def _uuid_broadcast(machine: Machine, arguments: str) -> str:
    words = arguments.split()
    if len(words) < 2:
        return "-USAGE: <uuid> <path> [aleg|bleg|holdb|both]\n"
    return "-ERR invalid uuid\n" if machine.find(words[0]) is None else "+OK Message sent\n"


def _sched_hangup(machine: Machine, arguments: str) -> str:
    words = arguments.split()
    if len(words) < 2:
        return "-USAGE: [+]<time> <uuid> [<cause>]\n"
    channel = machine.find(words[1])
    if channel is None:
        return NO_CHANNEL
    machine.applications.schedule_hang_up(channel, " ".join([words[0], *words[2:]]))
    return OK


def _sched_del(machine: Machine, arguments: str) -> str:
    channel = machine.find(arguments.strip())
    deleted = [timer for timer in channel.scheduled if timer.pending] if channel is not None else []
    for timer in deleted:
        timer.cancel()
    return f"+OK Deleted: {len(deleted)}\n"


def _create_uuid(machine: Machine, arguments: str) -> str:
    return machine.new_uuid()


def _fsctl(machine: Machine, arguments: str) -> str:
    if arguments.split()[:1] == ["shutdown"]:
        machine.shut_down()
    return OK


def _hupall(machine: Machine, arguments: str) -> str:
    words = arguments.split()
    cause = words[0] if words else "MANAGER_REQUEST"
    if len(words) >= 3:
        for channel in [leg for leg in machine.channels.values() if leg.get(words[1]) == words[2]]:
            machine.hang_up(channel, cause)
        return f"+OK hangup all channels matching [{words[1]}]=[{words[2]}] with cause: {cause}\n"
    machine.hang_up_all(cause)
    return f"+OK hangup all channels with cause {cause}\n"


def _global_getvar(machine: Machine, arguments: str) -> str:
    known = {"domain": machine.scenario.domain, "hostname": "simulated", "local_ip_v4": "127.0.0.1"}
    if not arguments.strip():
        return "".join(f"{name}={value}\n" for name, value in known.items())
    return known.get(arguments.strip(), "")


def _version(machine: Machine, arguments: str) -> str:
    if arguments.strip() == "short":
        return "1.11.3-dev\n"
    return f"FreeSWITCH Version {VERSION} (git cc93a68 2026-08-21 14:10:14Z 64bit)\n"


def _reloadxml(machine: Machine, arguments: str) -> str:
    return "+OK [Success]\n"


COMMANDS: dict[str, Callable[[Machine, str], str]] = {
    "uuid_bridge": _uuid_bridge,
    "uuid_kill": _uuid_kill,
    "uuid_park": _uuid_park,
    "uuid_transfer": _uuid_transfer,
    "uuid_setvar": _uuid_setvar,
    "uuid_getvar": _uuid_getvar,
    "uuid_record": _uuid_record,
    "uuid_exists": _uuid_exists,
    "file_exists": _file_exists,
    "uuid_recv_dtmf": _uuid_recv_dtmf,
    "uuid_dump": _uuid_dump,
    "uuid_broadcast": _uuid_broadcast,
    "sched_hangup": _sched_hangup,
    "sched_del": _sched_del,
    "create_uuid": _create_uuid,
    "fsctl": _fsctl,
    "hupall": _hupall,
    "global_getvar": _global_getvar,
    "version": _version,
    "reloadxml": _reloadxml,
    "status": lambda machine, arguments: tables.status(machine),
    "show": tables.show,
    "sofia": tables.sofia,
}
