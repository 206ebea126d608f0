"""Occupancy and abandoned calls of pacing policies on a simulated campaign floor.

`python -m bench.pacing` prints a line of JSON for each policy, scenario and number of agents, and draws them on
request. The floor is simulated here, without a switch, and every policy gets the same days.
"""
