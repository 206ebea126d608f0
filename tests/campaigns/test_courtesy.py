from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import os
from campaigns.courtesy import _session_niceness, giving_way

def now():
    return os.getpriority(os.PRIO_PROCESS, 0), _session_niceness()

first = now()
with giving_way(7):
    inside = now()
    with giving_way(3):
        assert now() == inside
print(first, inside, now())
"""


def test_a_process_and_its_session_give_way_for_as_long_as_the_work_takes() -> None:
    """In a process of its own, in a session of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, start_new_session=True
    )
    own = os.getpriority(os.PRIO_PROCESS, 0)
    sessions = os.path.exists("/proc/self/autogroup")
    inside = (max(own, 7), 7 if sessions else 0)
    after = own if os.geteuid() == 0 else inside[0]  # only root may take it back
    assert done.stdout == f"{(own, 0)} {inside} {(after, 0)}\n"
