"""The configuration file: every mistake at once, and no secret in what is said about it."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from campaigns.trunk import CallerId, Trunk
from dialer.errors import ConfigurationError
from dialer.settings import (
    GatewaySettings,
    Settings,
    SwitchSettings,
    load_settings,
    parse_settings,
    without_password,
)

SWITCH = '[[switch]]\nname = "a"\n'
GATEWAY = '[[gateway]]\nname = "trunk"\nswitch = "a"\ncaller_id = "4930123"\nconcurrency = 30\n'
SECRET = "s3cret/pass"


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        parse_settings(text, "dialer.toml")
    lines = str(refused.value).splitlines()
    assert all(line.startswith("dialer.toml: ") for line in lines)
    return [line.removeprefix("dialer.toml: ") for line in lines]


def test_the_least_that_is_needed() -> None:
    settings = parse_settings(SWITCH + GATEWAY, "dialer.toml")
    assert [switch.name for switch in settings.switch] == ["a"]
    trunk = settings.gateway_named("trunk")
    assert trunk is not None
    assert trunk.sofia_name == "trunk"
    assert settings.gateway_named("other") is None
    named = parse_settings(SWITCH + GATEWAY + 'freeswitch_gateway = "sofia_trunk"\n', "dialer.toml")
    assert named.gateway[0].sofia_name == "sofia_trunk"


def test_every_mistake_is_told_at_once() -> None:
    told = mistakes("""
        node = "no blanks"
        [[switch]]
        name = "a"
        port = 70000
        heartbeat_seconds = 0
        [[switch]]
        prot = 8021
        [[gateway]]
        name = "trunk"
        switch = "a"
        caller_id = "Sales"
        concurrency = "many"
        number_prefix = "0;9"
        calls_per_second = nan
        [redis]
        timeout = 3
        [door]
        mode = "rw"
        [log]
        level = "loud"
        [datbase]
    """)
    where = [line.partition(": ")[0] for line in told]
    assert sorted(where) == sorted(
        [
            "node",
            "switch.1.port",
            "switch.1.heartbeat_seconds",
            "switch.2.name",
            "switch.2.prot",
            "gateway.1.caller_id",
            "gateway.1.concurrency",
            "gateway.1.number_prefix",
            "gateway.1.calls_per_second",
            "redis.timeout",
            "door.mode",
            "log.level",
            "datbase",
        ]
    )
    said = dict(line.split(": ", 1) for line in told)
    assert said["switch.1.port"] == "Input should be less than or equal to 65535 (it is 70000)"
    assert said["switch.2.name"] == "is missing"
    assert said["switch.2.prot"] == "there is no such key; did you mean port?"
    assert said["datbase"] == "there is no such key; did you mean database?"
    assert said["gateway.1.concurrency"].endswith("(it is 'many')")
    assert said["gateway.1.calls_per_second"].endswith("(it is nan)")
    assert said["log.level"] == "Input should be 'debug', 'info', 'warning' or 'error' (it is 'loud')"


def test_every_name_that_does_not_agree_is_told_at_once() -> None:
    other = GATEWAY.replace('"trunk"', '"other"')
    told = mistakes(
        SWITCH
        + SWITCH
        + GATEWAY
        + GATEWAY
        + other.replace('"a"', '"b"')
        + other.replace('"other"', '"x"').replace('"a"', '"c"')
    )
    assert told == [
        "the file: switch 'a' is there twice; each needs a name of its own",
        "the file: gateway 'trunk' is there twice; each needs a name of its own",
        "the file: gateway 'other' is on the switch 'b', which is not configured; there is a, a",
        "the file: gateway 'x' is on the switch 'c', which is not configured; there is a, a",
    ]


@pytest.mark.parametrize("text", ["", SWITCH, GATEWAY])
def test_a_dialer_without_switch_or_trunk(text: str) -> None:
    assert {line.partition(": ")[0] for line in mistakes(text)} <= {"switch", "gateway"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("node = ", "not valid TOML: Invalid value (at end of document)"),
        ("node = " + "[" * 3_000, "not valid TOML: it is nested deeper than 16"),
        ("node = " + "[" * 40 + "]" * 40, "not valid TOML: it is nested deeper than 16"),
        ("a." * 1_000 + "a = 1", "not valid TOML: it is nested deeper than 16"),
        ("node = " + "1" * 5_000, "not valid TOML: Exceeds the limit"),
        ("node = 0x" + "f" * 5_000, "not valid TOML: it has a number of more than 64 bits"),
        (
            "\n" + "a." * 16_000 + "a = 1",
            "not valid TOML: it has a line of 32005 characters, more than 8192 (at line 2)",
        ),
        ("a = 1\n" * 50_000, "not valid TOML: it has 300000 characters, more than 262144"),
        ('"a\\nb" = 1\n' + SWITCH + GATEWAY, r"'a\nb': there is no such key; there are node, state_dir, switch, "),
        ('node = "a"\nnode = "b"\n', "not valid TOML: Cannot overwrite a value (at line 2, column 11)"),
        (
            f'[database]\nurl = "mysql://u:{SECRET}@db/x"\n' + SWITCH + GATEWAY,
            "postgresql:// is needed (it is 'mysql://…@db/x')",
        ),
    ],
)
def test_what_is_no_configuration(text: str, says: str) -> None:
    (told,) = mistakes(text)
    assert says in told
    assert SECRET not in told


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigurationError, match=rf"^{re.escape(str(path))}: cannot be read: .*{why}"):
            load_settings(path)
    latin = tmp_path / "latin.toml"
    latin.write_bytes('node = "Köln"'.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"latin\.toml: cannot be read: .*utf-8"):
        load_settings(latin)


def test_a_file_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "dialer.toml"
    path.write_text(SWITCH + GATEWAY)
    assert isinstance(load_settings(path), Settings)


# Passwords


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "::1", "localhost"])
def test_the_default_password_is_good_enough_on_loopback(host: str) -> None:
    assert SwitchSettings(name="a", host=host).secret() == "ClueCon"


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "switch.example", "127.example.com", "localhost.example.com", "::12", "0.0.0.0", ""]
)
@pytest.mark.parametrize("given", [None, "ClueCon"])
def test_and_refused_elsewhere(host: str, given: str | None) -> None:
    with pytest.raises(ConfigurationError, match="switch 'a': the default event-socket password is refused"):
        SwitchSettings(name="a", host=host, password=given).secret()
    assert SwitchSettings(name="a", host=host, password=SECRET).secret() == SECRET


def test_a_password_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    settings = SwitchSettings(name="a", password_file=file)
    with pytest.raises(ConfigurationError, match=r"switch 'a': password_file .*: .*No such file"):
        settings.secret()
    file.write_text(f"{SECRET}\n")
    assert settings.secret() == SECRET
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="utf-8"):
        settings.secret()
    file.write_text("ClueCon\n")
    with pytest.raises(ConfigurationError, match="default event-socket password"):
        SwitchSettings(name="a", host="192.0.2.1", password_file=file).secret()


def test_a_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SwitchSettings(name="a", password_env="DIALER_TEST_PASSWORD")
    monkeypatch.delenv("DIALER_TEST_PASSWORD", raising=False)
    with pytest.raises(ConfigurationError, match="the environment variable DIALER_TEST_PASSWORD is not set"):
        settings.secret()
    monkeypatch.setenv("DIALER_TEST_PASSWORD", SECRET)
    assert settings.secret() == SECRET


@pytest.mark.parametrize("password", ["", "two\nlines", "nul\0"])
def test_a_password_that_cannot_be_sent(password: str) -> None:
    with pytest.raises(ConfigurationError, match="empty or has control characters") as refused:
        SwitchSettings(name="a", password=password).secret()
    assert password == "" or password not in str(refused.value)


def test_no_secret_in_what_is_shown() -> None:
    settings = parse_settings(
        SWITCH
        + f'password = "{SECRET}"\n'
        + GATEWAY
        + f'[redis]\nurl = "redis://:{SECRET}@redis/0"\n[database]\nurl = "postgresql://u:{SECRET}@db/x"\n',
        "dialer.toml",
    )
    assert settings.switch[0].secret() == SECRET
    for shown in (
        repr(settings),
        str(settings),
        repr(settings.switch[0]),
        repr(settings.redis),
        repr(settings.database),
    ):
        assert SECRET not in shown


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            SWITCH + f'password = "{SECRET}"\npassword_env = "X"\n' + GATEWAY,
            "switch.1: give one of password, password_env",
        ),
        (f'[switch]\nname = "a"\npassword = "{SECRET}"\n' + GATEWAY, "switch: "),  # [switch] for [[switch]]
        (f'switch = [["{SECRET}"]]\n' + GATEWAY, "switch.1: "),
        (SWITCH + f'password = ["{SECRET}"]\n' + GATEWAY, "switch.1.password: "),
        (SWITCH + GATEWAY + f'[[database]]\nurl = "postgresql://u:{SECRET}@db/x"\n', "database: "),
        (f'database = "postgresql://u:{SECRET}@db/x"\n' + SWITCH + GATEWAY, "database: "),
        (SWITCH + GATEWAY + f'[redis]\nurl = ["redis://:{SECRET}@h"]\n', "redis.url: "),
    ],
)
def test_no_secret_in_what_is_refused(text: str, where: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_settings(text, "dialer.toml")
    cause: BaseException | None = refused.value
    assert str(cause).startswith(f"dialer.toml: {where}")
    while cause is not None:  # a traceback may be printed somewhere
        assert SECRET not in str(cause)
        cause = cause.__cause__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:pass@host:6379/0", "redis://…@host:6379/0"),
        ("redis://user:p@ss@host/0", "redis://…@host/0"),
        ("redis://host/0?password=pass", "redis://host/0"),
        ("user:pass@host", "…@host"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_url_as_it_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown


# Numbers


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("caller_id", ["+4930123", "0", "1" * 20], ["", "+", "++49", "49 30", "49;30", "49\\n30", "1" * 21]),
        ("number_prefix", ["", "0", "+", "*31#", "9" * 16], ["0 ", "0,", "a", "9" * 17]),
    ],
)
def test_numbers(key: str, good: list[str], bad: list[str]) -> None:
    def trunk(value: str) -> str:
        lines = [line for line in GATEWAY.splitlines() if not line.startswith(key)]
        return SWITCH + "\n".join([*lines, f'{key} = "{value}"'])

    for value in good:
        assert getattr(parse_settings(trunk(value), "dialer.toml").gateway[0], key) == value
    for value in bad:
        (told,) = mistakes(trunk(value))
        assert told.startswith(f"gateway.1.{key}: String should match pattern"), value


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("calls", "bridge_seconds", "inf"),
        ("calls", "drain_seconds", "-1"),
        ("calls", "agent_lease_seconds", "4.9"),
        ("calls", "parked_leg_seconds", "29.5"),
        ("redis", "timeout_seconds", "'soon'"),
        ("redis", "prefix", '"a b"'),
        ("door", "mode", '"0999"'),
        ("log", "format", '"xml"'),
    ],
)
def test_values_out_of_bounds(section: str, key: str, value: Any) -> None:
    told = mistakes(f"{SWITCH}{GATEWAY}[{section}]\n{key} = {value}\n")
    assert [line.partition(": ")[0] for line in told] == [f"{section}.{key}"]


@pytest.mark.parametrize(
    ("lines", "environment", "expected"),
    [
        ("", None, "/var/lib/dialer"),
        ('[database]\nurl = "sqlite:////srv/x/dialer.db"', None, "/srv/x"),
        ('[database]\nurl = "sqlite:////srv/x/dialer.db"', "/srv/state", "/srv/x"),
        ('[database]\nurl = "postgresql://db/x"', None, "/var/lib/dialer"),
        ('[database]\nurl = "postgresql://db/x"', "/srv/state", "/srv/state"),
        ('state_dir = "/srv/mine"\n[database]\nurl = "postgresql://db/x"', "/srv/state", "/srv/mine"),
    ],
)
def test_where_the_daemon_keeps_files_of_its_own(
    lines: str, environment: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    if environment is not None:
        monkeypatch.setenv("STATE_DIRECTORY", environment)
    tables = '[[switch]]\nname = "fs"\n[[gateway]]\nname = "g"\nswitch = "fs"\ncaller_id = "1"\nconcurrency = 1\n'
    assert parse_settings(f"{lines}\n{tables}", "test").state_directory == Path(expected)


def gateway(lines: str) -> GatewaySettings:
    return parse_settings(f"{SWITCH}{GATEWAY}{lines}\n", "dialer.toml").gateway[0]


@pytest.mark.parametrize(
    ("lines", "number", "dialed"),
    [
        ("", "+493012345678", "493012345678"),
        ('number_prefix = "00"', "+493012345678", "00493012345678"),
        ('number_strip = "+49"\nnumber_prefix = "0"', "+493012345678", "03012345678"),
        ('number_strip = "1"', "+12125550100", "2125550100"),
        ('number_prefix = "+"', "+12125550100", "+12125550100"),
    ],
)
def test_a_number_as_a_trunk_wants_it(lines: str, number: str, dialed: str) -> None:
    assert gateway(lines).dialed(number) == dialed


def test_what_campaigns_know_of_a_trunk() -> None:
    lines = """
        number_strip = "1"
        blind_areas = ["+1900", "US-AK", "PR"]
        most_per_callee_a_day = 1
        timezone = "America/New_York"
        [[gateway.caller_ids]]
        number = "+12125550100"
        areas = ["+1212"]
        most_per_day = 100
        rest_days = ["sun"]
        [[gateway.caller_ids]]
        number = "+12025550100"
    """
    assert gateway(lines).trunk() == Trunk(
        "trunk",
        "a",
        blind=("+1900", "US-AK", "PR"),
        caller_ids=(CallerId("+12125550100", ("+1212",), 100, ("sun",)), CallerId("+12025550100")),
        most_per_callee_a_day=1,
        within="+1",
        zone="America/New_York",
    )
    assert gateway("").trunk() == Trunk("trunk", "a")


@pytest.mark.parametrize(
    ("number", "seen_in_berlin", "seen_elsewhere"),
    [("4930123", "+49301", "4930123"), ("+49301", "+49301", "+49301")],  # the trunk's own is in the pool too
)
def test_a_pool_of_local_numbers_leaves_the_rest_of_the_world_to_the_trunks_own(
    number: str, seen_in_berlin: str, seen_elsewhere: str
) -> None:
    pool = '[[gateway.caller_ids]]\nnumber = "+49301"\nareas = ["+4930"]\nmost_per_day = 1\n'
    text = SWITCH + GATEWAY.replace("4930123", number) + pool
    trunk = parse_settings(text, "dialer.toml").gateway[0].trunk()

    def shown(to: str) -> str | None:
        return trunk.caller_id(to, used_today={}, last_today=None, today=date(2026, 3, 4))

    assert (shown("+493012345678"), shown("+33123456789")) == (seen_in_berlin, seen_elsewhere)


@pytest.mark.parametrize(
    ("lines", "where", "says"),
    [
        ('fail_over_on = ["5xx", "SOMETHING"]', "gateway.1.fail_over_on.2", "should be a SIP status such as 503"),
        ('never_retry_on = ["200"]', "gateway.1.never_retry_on.1", "should be a SIP status such as 503"),
        ('blind_areas = ["4490"]', "gateway.1.blind_areas.1", "pattern"),
        ('timezone = "Berlin"', "gateway.1.timezone", "should be a zone of the tz database"),
        ("park_seconds = 60\npark_seconds_most = 30", "gateway.1", "should be at least park_seconds, 60"),
        (
            '[[gateway.caller_ids]]\nnumber = "1"\n[[gateway.caller_ids]]\nnumber = "1"',
            "gateway.1",
            "caller_ids should have each number once, and 1 is there twice",
        ),
        (
            '[[gateway.caller_ids]]\nnumber = "1"\nrest_days = ["sunday"]',
            "gateway.1.caller_ids.1.rest_days.1",
            "'sun'",
        ),
    ],
)
def test_a_trunk_that_cannot_be(lines: str, where: str, says: str) -> None:
    (mistake,) = mistakes(f"{SWITCH}{GATEWAY}{lines}\n")
    assert mistake.startswith(f"{where}: ")
    assert says in mistake


def test_a_sip_status_may_be_a_number() -> None:
    assert gateway("fail_over_on = [503, 404]").fail_over_on == ("503", "404")
