from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from campaigns import courtesy

PROGRAM = """
import os
from campaigns.courtesy import _SESSION, _session_niceness, giving_way

def now():
    return os.getpriority(os.PRIO_PROCESS, 0), _session_niceness()

first = now()
with giving_way(7):
    inside = now()
    with giving_way(3):
        assert now() == inside
print(first, inside, now(), bool(_SESSION.read_text()) if _SESSION.exists() else False)
"""


def test_a_process_and_its_session_give_way_for_as_long_as_the_work_takes() -> None:
    """In a process of its own, in a session of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, start_new_session=True
    )
    own = os.getpriority(os.PRIO_PROCESS, 0)
    sessions = done.stdout.endswith("True\n")  # where Linux tells them apart
    inside = (max(own, 7), 7 if sessions else 0)
    after = own if os.geteuid() == 0 else inside[0]  # only root may take it back
    assert done.stdout == f"{(own, 0)} {inside} {(after, 0)} {sessions}\n"


def test_who_tells_a_session_too_soon_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel answers all but root within a tenth of a second."""
    answers: list[OSError | None] = [BlockingIOError(), BlockingIOError(), None]
    told: list[str] = []

    def write(_path: Path, text: str, **_options: str) -> int:
        if (answer := answers.pop(0)) is not None:
            raise answer
        told.append(text)
        return len(text)

    monkeypatch.setattr(Path, "write_text", write)
    monkeypatch.setattr(courtesy, "_AGAIN_SECONDS", 0.0)
    courtesy._tell_session(0)
    assert told == ["0"]
    answers.append(FileNotFoundError())  # where there are no such sessions it is not asked for long
    courtesy._tell_session(5)
    assert not answers
