"""A real FreeSWITCH with a SIP carrier and SIP phones around it, for one test.

    async with Laboratory() as laboratory:
        carrier = await laboratory.carrier("carrier_a")
        phones = await laboratory.phones(4)

Everything lives in a temporary directory and on loopback, on ports found free when it starts, with passwords made for
the run; several laboratories can run at once. FreeSWITCH's configuration is `freeswitch/*.xml`, the carrier's and
the phones' behaviour `sipp/*.xml`, with the words between at-signs filled in here.

What is started is stopped by its own process id when the laboratory is left, however it is left; should this process
itself be killed, the kernel takes its children along (`PR_SET_PDEATHSIG`). That signal comes when the *thread* that
started a child ends, so children are started in the main thread and not by trio, which would use a worker thread.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import re
import secrets
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import attrs
import trio

from .event_socket import EventSocket, SocketError
from .machinery import (
    HOST,
    RTP_SPAN,
    LaboratoryError,
    Milliseconds,
    filled,
    find_binary,
    free_media_port,
    free_ports,
    is_free,
    pause,
    reserved_rtp_ports,
    spawn,
    tail,
    wait_exit,
    wait_until,
)

HERE = Path(__file__).parent
START_LIMIT = 30.0  # seconds; FreeSWITCH takes 2 on an idle machine
STOP_LIMIT = 10.0


class Outcome(enum.Enum):
    """What becomes of a call, chosen by the fourth digit from the end of the number (see `sipp/carrier.xml`)."""

    TALKS = 0  # rings, answers, talks for `talk`, hangs up
    HOLDS = 1  # rings, answers, stays until the switch hangs up
    BUSY = 2
    REJECTED = 3
    NO_ANSWER = 4  # rings for ever
    UNALLOCATED = 5
    UNAVAILABLE = 6
    EARLY_MEDIA = 7  # 183 with SDP, after `early` answers, talks, hangs up
    GONE = 8  # answers, and hangs up after `gone`
    SLOW = 9  # rings for `slow_ring`, answers, stays

    def number(self, index: int = 0, prefix: str = "1202555") -> str:
        """The index-th of the thousand numbers with this outcome; no leading plus."""
        return f"{prefix}{self.value}{index:03d}"


class Laboratory:
    def __init__(
        self, *, heartbeat: int = 20, log_level: str = "notice", extensions: Iterable[int] = range(1000, 1100),
        gateways: Sequence[str] = ("carrier_a", "carrier_b"), ping: int = 0,
    ) -> None:  # fmt: skip
        """
        :param heartbeat: Seconds between HEARTBEAT events.
        :param log_level: Of FreeSWITCH's log; "debug" shows SIP states and costs a third of the CPU.
        :param ping: Seconds between the OPTIONS that each gateway is sent, at least 5; 0 for none.
        """
        self.heartbeat = heartbeat
        self.log_level = log_level
        self.extensions = list(extensions)
        self.gateways = list(gateways)
        self.ping = ping
        self.domain = HOST
        self.password = secrets.token_hex(8)
        self.extension_password = secrets.token_hex(8)
        self.esl_port = self.internal_port = self.external_port = 0
        self.carrier_ports: dict[str, int] = {}
        self.directory = Path()
        self._freeswitch: subprocess.Popen[bytes] | None = None
        self._sipps: list[SipProcess] = []
        self._exits = contextlib.ExitStack()

    def __repr__(self) -> str:
        state = "running" if self._freeswitch is not None else "stopped"
        return f"<Laboratory {state} esl={self.esl_port} in {self.directory} with {self._sipps}>"

    @property
    def recordings(self) -> Path:
        """A directory FreeSWITCH can record to."""
        return self.directory / "recordings"

    @property
    def freeswitch_pid(self) -> int:
        """Of the running switch, for a test that stops it (SIGSTOP) or kills it."""
        if self._freeswitch is None:
            raise LaboratoryError("FreeSWITCH is not running")
        return self._freeswitch.pid

    async def __aenter__(self) -> Self:
        try:
            self._prepare()
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        with trio.CancelScope(shield=True):
            try:
                await self.stop()
            finally:
                for process in self._sipps:
                    process.kill()
                self._exits.close()

    def _prepare(self) -> None:
        """Ports, directory and configuration; they stay the same when the switch is stopped and started again."""
        rtp_first = self._exits.enter_context(reserved_rtp_ports())
        self.esl_port, self.internal_port, self.external_port, *carriers = free_ports(3 + len(self.gateways))
        self.carrier_ports = dict(zip(self.gateways, carriers, strict=True))
        self.directory = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="laboratory-")))
        for name in ("conf", "log", "db", "run", "recordings"):
            (self.directory / name).mkdir()
        gateways = [
            filled(HERE / "freeswitch/gateway.xml", name=name, port=port, ping=self.ping)
            for name, port in self.carrier_ports.items()
        ]
        users = [
            filled(HERE / "freeswitch/user.xml", extension=extension, password=self.extension_password)
            for extension in self.extensions
        ]
        config = filled(
            HERE / "freeswitch/freeswitch.xml",
            log_level=self.log_level, heartbeat=self.heartbeat, rtp_first=rtp_first,
            rtp_last=rtp_first + RTP_SPAN - 4, esl_port=self.esl_port, password=self.password,
            internal_port=self.internal_port, external_port=self.external_port, gateways="".join(gateways),
            domain=self.domain, users="".join(users),
        )  # fmt: skip
        (self.directory / "conf/freeswitch.xml").write_text(config)

    # -- the switch

    async def start(self) -> None:
        """Starts FreeSWITCH and waits until it is ready and both profiles run."""
        binary = find_binary("freeswitch")
        if binary is None:
            raise LaboratoryError("no `freeswitch` on the PATH, nor named by DIALER_FREESWITCH")
        directories = [("-conf", "conf"), ("-log", "log"), ("-db", "db"), ("-run", "run")]
        arguments = [word for option, name in directories for word in (option, str(self.directory / name))]
        # -nosql would leave `show channels` empty for ever.
        self._freeswitch = spawn(
            [binary, "-nf", "-nc", "-nonat", "-nocal", *arguments], output=self.directory / "log/console.log"
        )
        with trio.move_on_after(START_LIMIT):
            while not await self._is_ready():
                if self._freeswitch.poll() is not None:
                    break
                await trio.sleep(0.05)
            else:
                return
        raise LaboratoryError(f"FreeSWITCH did not start:\n{self.log_tail()}")

    async def _is_ready(self) -> bool:
        try:
            if "is ready" not in await self.api("status"):
                return False
            profiles = await self.api("sofia status")
        except (OSError, SocketError):
            return False
        return len(re.findall(r"^\s*(?:internal|external)\s+profile\s.*RUNNING", profiles, re.MULTILINE)) == 2

    async def stop(self) -> None:
        """Stops FreeSWITCH as an operator would, at once: SHUTDOWN event, channels hung up. May be started again."""
        process = self._freeswitch
        if process is None:
            return
        with trio.move_on_after(STOP_LIMIT):
            with contextlib.suppress(OSError, SocketError):
                await self.api("fsctl shutdown now")
            await wait_exit(process)
        self.kill()

    def kill(self) -> None:
        """The switch dies without a word (SIGKILL)."""
        process, self._freeswitch = self._freeswitch, None
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self) -> None:
        """The switch stands still with its sockets open, as on a machine that hangs; `thaw` ends it."""
        os.kill(self.freeswitch_pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.freeswitch_pid, signal.SIGCONT)

    # -- asking it

    async def api(self, command: str) -> str:
        async with await EventSocket.open(self.esl_port, self.password) as connection:
            return await connection.api(command)

    @contextlib.asynccontextmanager
    async def listen(self, *events: str) -> AsyncIterator[EventSocket]:
        """A subscribed connection; `CUSTOM` and its subclasses come last."""
        async with await EventSocket.open(self.esl_port, self.password) as connection:
            await connection.subscribe(*events)
            yield connection

    async def channels(self) -> list[dict[str, Any]]:
        return rows(await self.api("show channels as json"))

    async def registrations(self) -> list[dict[str, Any]]:
        return rows(await self.api("show registrations as json"))

    async def hang_up_all(self) -> None:
        """Every channel, and waits until they are gone."""
        await self.api("hupall")
        with trio.fail_after(STOP_LIMIT):
            await wait_until(self._is_quiet)

    async def _is_quiet(self) -> bool:
        return not await self.channels()

    def log_tail(self, lines: int = 40) -> str:
        """The end of what FreeSWITCH and the SIPps wrote."""
        logs = sorted(self.directory.glob("log/*.log"))
        tails = [f"--- {log.name}\n" + "\n".join(tail(log, lines)) for log in logs if log.stat().st_size]
        return "\n".join(tails)

    # -- those around it

    async def carrier(
        self, gateway: str = "carrier_a", *, ring: Milliseconds = (200, 600), talk: Milliseconds = 1000,
        early: Milliseconds = 1000, gone: Milliseconds = 100, slow_ring: Milliseconds = 5000,
        always: Outcome | None = None,
    ) -> Carrier:  # fmt: skip
        """The far end of one gateway, until it is stopped or the laboratory is left. See `Outcome`.

        :param always: What becomes of every call, whatever the number.
        """
        outcome = always.name.lower() if always is not None else "by_number"
        scenario = filled(
            HERE / "sipp/carrier.xml", outcome=outcome,
            ring=pause(ring), talk=pause(talk), early=pause(early), gone=pause(gone), slow_ring=pause(slow_ring),
        )  # fmt: skip
        carrier = Carrier(self, gateway, scenario, self.carrier_ports[gateway])
        await carrier.start()
        return carrier

    async def phones(
        self, count: int, *, first: int = 1000, ring: Milliseconds = (50, 300), answers: bool = True,
        patience: Milliseconds | None = None, register: bool = True,
    ) -> Phones:  # fmt: skip
        """The phones of `count` extensions from `first` on, registered unless told otherwise.

        :param answers: Whether they ever do; otherwise they ring for ever.
        :param patience: When to hang up after answering; by default never.
        """
        scenario = filled(
            HERE / "sipp/phone.xml",
            ring=pause(ring), patience=pause(patience or 0), after_ringing="answer" if answers else "never",
            after_answering="hold" if patience is None else "tire",
        )  # fmt: skip
        phones = Phones(self, [str(first + index) for index in range(count)], scenario, free_ports(1)[0])
        await phones.start()
        if register:
            await phones.register()
        return phones

    async def dial_out(self, extension: str, number: str, *, talk: int = 1000) -> bool:
        """An agent's phone dials by itself, through the internal profile. Returns when that call has ended.

        :param talk: Milliseconds after the answer at which the phone hangs up, unless the other side did.
        :return: Whether the call was answered.
        """
        scenario = filled(
            HERE / "sipp/dial_out.xml",
            domain=self.domain, extension=extension, password=self.extension_password, number=number, talk=talk,
        )  # fmt: skip
        call = SipProcess(self, f"dial_out_{extension}", scenario)
        return await call.run_to_internal("-m", "1", "-timeout", "90s") == 0

    def adopt(self, process: SipProcess) -> None:
        self._sipps.append(process)


class SipProcess:
    """One SIPp with its scenario; its errors are in the laboratory's log directory."""

    def __init__(self, laboratory: Laboratory, name: str, scenario: str, port: int | None = None) -> None:
        self.laboratory = laboratory
        self.name = name
        self.port = port if port is not None else free_ports(1)[0]
        self._stem = f"{name}-{secrets.token_hex(3)}"
        self._scenario = laboratory.directory / f"conf/{self._stem}.xml"
        self._scenario.write_text(scenario)
        self._process: subprocess.Popen[bytes] | None = None
        self._told = 0
        laboratory.adopt(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} on {self.port}, {'running' if self.is_running else 'stopped'}>"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        binary = find_binary("sipp")
        if binary is None:
            raise LaboratoryError("no `sipp` on the PATH, nor named by DIALER_SIPP")
        (control,) = free_ports(1)
        media = free_media_port({self.port, control})
        logs = self.laboratory.directory / "log"
        # The watchdog ends a SIPp that was not scheduled for a while, which on a busy machine is no fault of its own.
        options = f"-i {HOST} -p {self.port} -bind_local -mi {HOST} -mp {media} -ci {HOST} -cp {control}".split()
        options += ["-nostdin", "-aa", "-watchdog_interval", "0", "-buff_size", "4194304", "-skip_rlimit"]
        return spawn(
            [binary, *arguments, "-sf", str(self._scenario), *options, "-trace_err",
             "-error_file", str(logs / f"{self._stem}.errors.log")],
            output=logs / f"{self._stem}.screen",
        )  # fmt: skip

    async def start(self, *arguments: str) -> None:
        """As a server: waits until its port is bound."""
        self._process = self._spawn(*arguments)
        with trio.move_on_after(START_LIMIT):
            while self.is_running:
                if not is_free(self.port):
                    return
                await trio.sleep(0.01)
        raise LaboratoryError(f"sipp did not start for {self.name}:\n{self.laboratory.log_tail()}")

    async def run_to_internal(self, *arguments: str) -> int:
        """As a client of the internal profile, until it ends by itself. Its exit code is 0 if all calls did well."""
        self._process = self._spawn(f"{HOST}:{self.laboratory.internal_port}", *arguments)
        try:
            return await wait_exit(self._process)
        finally:
            self.kill()

    def kill(self) -> None:
        """At once and without a word on the wire; open calls stay open on the switch."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def hang_up(self, uuid: str) -> None:
        """This side of the call says BYE now."""
        await self._tell(uuid, "HANGUP")

    async def press(self, uuid: str, key: str) -> None:
        """This side of the call presses a key now (SIP INFO)."""
        await self._tell(uuid, "PRESS", f"Key: {key}")

    async def _tell(self, uuid: str, method: str, *headers: str) -> None:
        """SIPp finds the call by its Call-ID, whoever sends the datagram."""
        call_id = await self.laboratory.api(f"uuid_getvar {uuid} sip_call_id")
        if call_id.startswith(("-", "_")):
            raise LaboratoryError(f"no SIP call for {uuid}: {call_id}")
        self._told += 1
        lines = [
            f"{method} sip:{HOST}:{self.port} SIP/2.0",
            f"Via: SIP/2.0/UDP {HOST}:9;branch=z9hG4bK{secrets.token_hex(8)}",
            f"From: <sip:laboratory@{HOST}>;tag=laboratory", f"To: <sip:{HOST}:{self.port}>", f"Call-ID: {call_id}",
            f"CSeq: {self._told} {method}", *headers, "Content-Length: 0", "", "",
        ]  # fmt: skip
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sender:
            await sender.sendto("\r\n".join(lines).encode(), (HOST, self.port))


@attrs.frozen
class Invite:
    """A call as the carrier was asked for it."""

    number: str
    caller_id: str


class Carrier(SipProcess):
    """The far end of a gateway."""

    @property
    def _messages(self) -> Path:
        return self.laboratory.directory / f"log/{self._stem}.messages"

    async def start(self, *arguments: str) -> None:
        trace = ["-trace_msg", "-message_file", str(self._messages), "-message_overwrite", "true"]
        await super().start(*trace, *arguments)

    def invites(self) -> list[Invite]:
        """The calls it was asked for so far, in order; one that was sent again counts once."""
        text = self._messages.read_text(errors="replace") if self._messages.exists() else ""
        found: dict[str, Invite] = {}
        for message in re.findall(r"^INVITE sip:.*?\r?\n\r?\n", text, re.DOTALL | re.MULTILINE):
            parts = [
                re.search(pattern, message, re.MULTILINE)
                for pattern in (r"^Call-ID: *(\S+)", r"^INVITE sip:([^@]*)@", r"^From:.*<sip:([^@]*)@")
            ]
            call_id, number, caller_id = (part[1] if part is not None else "" for part in parts)
            found.setdefault(call_id, Invite(number, caller_id))
        return list(found.values())


class Phones(SipProcess):
    """The phones of some extensions, which answer on one port."""

    def __init__(self, laboratory: Laboratory, extensions: list[str], scenario: str, port: int) -> None:
        super().__init__(laboratory, f"phones_{extensions[0]}", scenario, port)
        self.extensions = extensions

    async def register(self, *extensions: str, expires: int = 3600) -> None:
        """With digest authentication; all of them unless some are named. Again renews."""
        named = extensions or self.extensions
        scenario = filled(
            HERE / "sipp/register.xml", domain=self.laboratory.domain, contact_port=self.port, expires=expires
        )
        client = SipProcess(self.laboratory, f"register_{named[0]}", scenario)
        login = f"password={self.laboratory.extension_password}"
        lines = ["SEQUENTIAL", *(f"{name};[authentication username={name} {login}]" for name in named), ""]
        users = self.laboratory.directory / f"conf/register-{secrets.token_hex(3)}.csv"
        users.write_text("\n".join(lines))
        code = await client.run_to_internal(
            "-inf", str(users), "-m", str(len(named)), "-r", "200", "-timeout", "20s", "-timeout_error"
        )  # fmt: skip
        if code != 0:
            raise LaboratoryError(f"registering {named} failed ({code}):\n{self.laboratory.log_tail()}")
        await self._wait_listed(set(named), listed=expires > 0)

    async def _wait_listed(self, named: set[str], *, listed: bool) -> None:
        """The switch answers 200 up to a second before `show registrations` knows; it can ring the phone at once."""

        async def is_listed() -> bool:
            known = {row["reg_user"] for row in await self.laboratory.registrations()}
            return named <= known if listed else not named & known

        with trio.fail_after(STOP_LIMIT):
            await wait_until(is_listed)

    async def unregister(self, *extensions: str) -> None:
        await self.register(*extensions, expires=0)


def rows(answer: str) -> list[dict[str, Any]]:
    """Of a `show … as json`, which has no "rows" when there are none."""
    found: list[dict[str, Any]] = json.loads(answer).get("rows", [])
    return found
