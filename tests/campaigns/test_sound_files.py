"""The files that campaigns play: which they are, and what was in them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from campaigns import audit
from campaigns.database import Database
from campaigns.sound_files import note_sound_files, read_sound_files, sound_files

from .conftest import CAMPAIGN, NOON

FILES = {"message": "/m.wav", "abandoned_message": "/a.wav@@8000", "waiting_sound": "tone_stream://%(1000,0,440)"}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("progressive", {"abandoned_message": "/a.wav"}), ("broadcast", {"message": "/m.wav"})],
)
def test_the_files_are_those_that_its_calls_play(mode: str, expected: dict[str, str]) -> None:
    assert sound_files(CAMPAIGN.model_copy(update={**FILES, "mode": mode})) == expected


async def test_what_people_hear_is_written_down_whenever_it_changes(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "sorry.wav"
    campaign = CAMPAIGN.model_copy(update={"abandoned_message": str(file), "waiting_sound": "/nowhere/wait.wav"})
    noted: list[bool] = []
    for content in (None, b"one", b"one", b"another", None):
        if content is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(content)
        files, unread = read_sound_files(campaign)
        assert unread["waiting_sound"] == "/nowhere/wait.wav: No such file or directory"
        assert ("abandoned_message" in unread) is (content is None)
        noted.append(await database.write(lambda s, files=files: note_sound_files(s, "spring", files, "ann", NOON)))  # type: ignore[misc]
    assert noted == [False, True, False, True, True]
    first, second, third = await database.read(
        lambda session: audit.notes(session, kind="campaign", subject="spring")
    )
    assert (first.who, first.action) == ("ann", "sounds")
    assert hashlib.sha256(b"one").hexdigest() in (first.after or "")
    assert '"size": 7' in (second.after or "")
    assert third.after == "{}"
