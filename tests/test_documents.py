"""The samples an operator starts from are true."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from dialer.settings import (
    CallerIdSettings,
    CallSettings,
    GatewaySettings,
    RedisSettings,
    SwitchSettings,
    load_settings,
)
from dialer.simulator.scenario import Gateway, Scenario, load_scenario

ROOT = Path(__file__).parents[1]


def test_the_sample_configuration_is_good_and_shows_every_default() -> None:
    settings = load_settings(ROOT / "config" / "dialer.toml")
    assert settings.calls == CallSettings()
    assert settings.redis == RedisSettings()
    switch = settings.switch[0]
    assert switch == SwitchSettings(name="fs1", password_file=switch.password_file)
    gateway = settings.gateway[0]
    needed = {
        key: getattr(gateway, key) for key in ("name", "switch", "freeswitch_gateway", "caller_id", "concurrency")
    }
    assert gateway == GatewaySettings(**needed)
    text = (ROOT / "config" / "dialer.toml").read_text()
    sections = (CallSettings, RedisSettings, SwitchSettings, GatewaySettings, CallerIdSettings, type(settings.door))
    for section in sections:
        for key in section.model_fields:
            shown = (f"\n{key} = ", f"\n# {key} = ", f".{key}]]\n")
            assert any(one in text for one in shown), f"{section.__name__}.{key} is not shown"


def test_the_sample_scenario_is_good_and_shows_the_defaults() -> None:
    told = load_scenario(ROOT / "config" / "scenario.toml")
    carrier, default = told.gateways["carrier_a"], Gateway()
    own = {"mix": default.mix, "scripts": default.scripts}
    assert carrier.model_copy(update=own) == default
    assert carrier.mix != default.mix
    plain = {"gateways": Scenario().gateways, "faults": Scenario().faults}
    assert told.model_copy(update=plain) == Scenario()


@pytest.mark.parametrize("path", sorted((ROOT / "freeswitch").glob("*.xml")), ids=lambda path: path.name)
def test_samples_for_freeswitch_are_xml(path: Path) -> None:
    ElementTree.parse(path)


def test_the_unit_runs_what_there_is() -> None:
    unit = (ROOT / "systemd" / "dialer.service").read_text()
    assert "RestartPreventExitStatus=78" in unit
    assert "dialer run --config /etc/dialer/dialer.toml" in unit
