"""A simulated FreeSWITCH that speaks the real event-socket protocol, for tests, demonstrations and benches.

It shares no code with the daemon's client, and is itself held against recordings of a real switch.
"""

from dialer.simulator.channel import Channel
from dialer.simulator.listener import Listener
from dialer.simulator.process import run_simulator
from dialer.simulator.scenario import Faults, Gateway, Outcome, Phones, Scenario, Script, load_scenario
from dialer.simulator.statistics import Statistics
from dialer.simulator.switch import SimulatedSwitch

__all__ = [
    "Channel",
    "Faults",
    "Gateway",
    "Listener",
    "Outcome",
    "Phones",
    "Scenario",
    "Script",
    "SimulatedSwitch",
    "Statistics",
    "load_scenario",
    "run_simulator",
]
