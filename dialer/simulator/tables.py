"""The tables an operator asks for: channels, calls, registrations, status, gateways."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from dialer.simulator.channel import Channel
from dialer.simulator.headers import HOSTNAME, local_text
from dialer.simulator.machine import uptime_text

if TYPE_CHECKING:
    from dialer.simulator.machine import Machine

Row = dict[str, str]


def channel_row(channel: Channel) -> Row:
    """A row of `show channels`, with the columns and the order of the real one."""
    media = channel.is_answered or channel.progressed_media > 0
    flipped = channel.executing and channel.direction == "outbound"
    codec = ("PCMU", "8000", "64000") if media else ("", "", "")
    partner = channel.partner
    cid_number = channel.number if flipped else channel.caller_id
    callee_number = channel.caller_id if flipped else channel.number
    application, argument = channel.application, channel.argument
    sent_name = sent_number = ""
    if partner is not None:
        application, argument = "uuid_bridge", partner.uuid
        if channel.first_of_bridge:
            callee_number = sent_name = sent_number = partner.caller_id
        else:
            sent_name, sent_number = "Outbound Call", partner.number
            cid_number = partner.number
    return {
        "uuid": channel.uuid,
        "direction": channel.direction,
        "created": channel.created_text,
        "created_epoch": str(channel.created // 1_000_000),
        "name": channel.name,
        "state": f"CS_{channel.running.name}",
        "cid_name": "Outbound Call" if flipped else "",
        "cid_num": cid_number,
        "ip_addr": "",
        "dest": channel.destination,
        "application": application,
        "application_data": argument,
        "dialplan": "",
        "context": "default",
        "read_codec": codec[0],
        "read_rate": codec[1],
        "read_bit_rate": codec[2],
        "write_codec": codec[0],
        "write_rate": codec[1],
        "write_bit_rate": codec[2],
        "secure": "",
        "hostname": HOSTNAME,
        "presence_id": channel.presence_id,
        "presence_data": "",
        "accountcode": "",
        "callstate": channel.call_state.value,
        "callee_name": "" if flipped else "Outbound Call",
        "callee_num": callee_number,
        "callee_direction": "RECV" if flipped and partner is None else "SEND",
        "call_uuid": channel.call_uuid,
        "sent_callee_name": sent_name,
        "sent_callee_num": sent_number,
        "initial_cid_name": "",
        "initial_cid_num": channel.caller_id,
        "initial_ip_addr": "",
        "initial_dest": channel.number,
        "initial_dialplan": "",
        "initial_context": "default",
    }


_CALL = """
    uuid direction created created_epoch name state cid_name cid_num ip_addr dest presence_id presence_data
    accountcode callstate callee_name callee_num callee_direction call_uuid hostname sent_callee_name sent_callee_num
"""
_CALL_COLUMNS = tuple(_CALL.split())
_OTHER_COLUMNS = tuple(column for column in _CALL_COLUMNS if column not in {"call_uuid", "hostname"})


def call_rows(machine: Machine) -> list[Row]:
    """`show calls`: a bridged pair is one row."""
    rows = []
    for channel in machine.channels.values():
        if channel.partner is not None and not channel.first_of_bridge:
            continue
        own = channel_row(channel)
        other = channel_row(channel.partner) if channel.partner is not None else {}
        row = {column: own[column] for column in _CALL_COLUMNS}
        row |= {f"b_{column}": other.get(column, "") for column in _OTHER_COLUMNS}
        row["call_created_epoch"] = str(channel.bridged_at // 1_000_000) if channel.partner is not None else ""
        rows.append(row)
    return rows


def registration_rows(machine: Machine) -> list[Row]:
    domain = machine.scenario.domain
    return [
        {
            "reg_user": registration.extension,
            "realm": domain,
            "token": registration.call_id,
            "url": f"sofia/internal/sip:{registration.extension}@{domain}:7000",
            "expires": str(registration.until),
            "network_ip": "127.0.0.1",
            "network_port": "7001",
            "network_proto": "udp",
            "hostname": HOSTNAME,
            "metadata": "",
        }
        for registration in machine.registrar.registrations.values()
    ]


def show(machine: Machine, arguments: str) -> str:
    """`show channels|calls|bridged_calls|registrations [count] [as json]`."""
    words = arguments.split()
    what = words[0] if words else ""
    as_json = words[-2:] == ["as", "json"]
    match what:
        case "channels":
            rows = [channel_row(channel) for channel in machine.channels.values()]
        case "calls" | "bridged_calls":
            rows = [row for row in call_rows(machine) if what == "calls" or row["b_uuid"]]
        case "registrations":
            rows = registration_rows(machine)
        case "application":
            return _show_application(machine, words[1:])
        case _:
            return "-USAGE: channels|calls|bridged_calls|registrations [count] [as json]\n"
    if "count" in words:
        return json.dumps({"row_count": len(rows)}, separators=(",", ":")) if as_json else f"\n{len(rows)} total.\n"
    if as_json:
        answer: dict[str, object] = {"row_count": len(rows)}
        if rows:
            answer["rows"] = rows
        return json.dumps(answer, separators=(",", ":"), ensure_ascii=False)
    if not rows:
        return "\n0 total.\n"
    lines = [",".join(rows[0])] + [",".join(row.values()) for row in rows]
    return "\n".join(lines) + f"\n\n{len(rows)} total.\n"


def _show_application(machine: Machine, names: list[str]) -> str:
    known = {"park": "park,Park,,mod_dptools"}
    if machine.scenario.tells_machines:
        known["amd"] = "amd,Voice activity detection (blocking),,mod_amd"
    found = [known[name] for name in names if name in known]
    if not found:
        return "\n0 total.\n"
    return "\n".join(["name,description,syntax,ikey", *found]) + f"\n\n{len(found)} total.\n"


def status(machine: Machine) -> str:
    up = uptime_text((machine.stamp() - machine.started) // 1000)
    peak = machine.tally.peak_channels
    return (
        f"UP {up}\n"
        "FreeSWITCH (Version 1.11.3-dev git cc93a68 2026-08-21 14:10:14Z 64bit) is ready\n"
        f"{machine.sessions} session(s) since startup\n"
        f"{len(machine.channels)} session(s) - peak {peak}, last 5min {peak} \n"
        "0 session(s) per Sec out of max 500, peak 2, last 5min 2 \n"
        f"{machine.scenario.max_sessions} session(s) max\n"
        "min idle cpu 0.00/57.93\n"
        "Current Stack Size/Max 240K/8192K\n"
    )


def sofia(machine: Machine, arguments: str) -> str:
    """`sofia status|xmlstatus gateway NAME`, `sofia xmlstatus profile internal reg`."""
    match arguments.split():
        case ["status", "gateway", name] if name in machine.scenario.gateways:
            return _gateway_text(machine, name)
        case ["xmlstatus", "gateway", name] if name in machine.scenario.gateways:
            return _gateway_xml(machine, name)
        case [_, "gateway", _]:
            return "Invalid Gateway!\n"
        case ["xmlstatus", "profile", "internal", "reg"]:
            return _registrations_xml(machine)
        case _:
            return "-USAGE: sofia status|xmlstatus gateway <name>\n"


def _gateway_text(machine: Machine, name: str) -> str:
    line = "=" * 97
    address = machine.scenario.gateways[name].address
    state = "DOWN" if name in machine.population.gateways_down else "UP"
    uptime = (machine.stamp() - machine.started) // 1_000_000
    rows = [
        ("Name    ", name),
        ("Profile ", "external"),
        ("Scheme  ", "Digest"),
        ("Realm   ", address),
        ("Username", "FreeSWITCH"),
        ("Password", "no"),
        ("From    ", f"<sip:FreeSWITCH@{address}>"),
        ("Contact ", f"<sip:gw+{name}@127.0.0.1:5080;transport=udp;gw={name}>"),
        ("Exten   ", "FreeSWITCH"),
        ("To      ", f"sip:FreeSWITCH@{address}"),
        ("Proxy   ", f"sip:{address}"),
        ("Context ", "public"),
        ("Expires ", "3600"),
        ("Freq    ", "3600"),
        ("Ping    ", "0"),
        ("PingFreq", "0"),
        ("PingTime", "0.00"),
        ("PingState", "0/0/0"),
        ("State   ", "NOREG"),
        ("Status  ", state),
        ("Uptime  ", f"{uptime}s"),
        ("CallsIN ", "0"),
        ("CallsOUT", "0"),
        ("FailedCallsIN", "0"),
        ("FailedCallsOUT", "0"),
    ]
    return "\n".join([line, *(f"{label}\t{value}" for label, value in rows), line]) + "\n"


def _gateway_xml(machine: Machine, name: str) -> str:
    address = machine.scenario.gateways[name].address
    state = "DOWN" if name in machine.population.gateways_down else "UP"
    rows = [
        ("name", name),
        ("profile", "external"),
        ("scheme", "Digest"),
        ("realm", address),
        ("username", "FreeSWITCH"),
        ("password", "no"),
        ("from", f"<sip:FreeSWITCH@{address}>"),
        ("contact", f"<sip:gw+{name}@127.0.0.1:5080;transport=udp;gw={name}>"),
        ("exten", "FreeSWITCH"),
        ("to", f"sip:FreeSWITCH@{address}"),
        ("proxy", f"sip:{address}"),
        ("context", "public"),
        *((key, "3600") for key in ("expires", "freq")),
        *((key, "0") for key in ("ping", "pingfreq", "pingmin", "pingcount", "pingmax")),
        ("pingtime", "0.00"),
        ("pinging", "0"),
        ("state", "NOREG"),
        ("status", state),
        ("uptime-usec", str(machine.stamp() - machine.started)),
        ("calls-in", "0"),
        ("calls-out", str(machine.population.load[name])),
        ("failed-calls-in", "0"),
        ("failed-calls-out", "0"),
    ]
    lines = [f"    <{tag}>{escape(value)}</{tag}>" for tag, value in rows]
    head = '<?xml version="1.0" encoding="ISO-8859-1"?>\n  <gateway>\n'
    return head + "\n".join(lines) + "\n  </gateway>\n"


def _registrations_xml(machine: Machine) -> str:
    domain = machine.scenario.domain
    now = machine.stamp() // 1_000_000
    lines = ['<?xml version="1.0" encoding="ISO-8859-1"?>', "<profile>", "  <registrations>"]
    for registration in machine.registrar.registrations.values():
        left = registration.until - now
        status_ = f"Registered(UDP)(unknown) exp({local_text(registration.until * 1_000_000)}) expsecs({left})"
        rows = [
            ("call-id", registration.call_id),
            ("user", f"{registration.extension}@{domain}"),
            ("contact", registration.contact(domain)),
            ("agent", "simulated-softphone"),
            ("status", status_),
            ("ping-status", "Reachable"),
            ("ping-time", "0.00"),
            ("host", HOSTNAME),
            ("network-ip", "127.0.0.1"),
            ("network-port", "7001"),
            ("sip-auth-user", registration.extension),
            ("sip-auth-realm", domain),
            ("mwi-account", f"{registration.extension}@{domain}"),
        ]
        lines.append("    <registration>")
        lines += [f"        <{tag}>{escape(value, {chr(34): '&quot;'})}</{tag}>" for tag, value in rows]
        lines.append("    </registration>")
    return "\n".join([*lines, "  </registrations>", "</profile>"]) + "\n"
