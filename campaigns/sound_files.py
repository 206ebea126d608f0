"""The files among a campaign's sounds, and what they were when the campaign was added.

A sound is a file when it is an absolute path; streams and tones, and names that a switch completes, are not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import attrs
from sqlmodel import Session, col, select

from campaigns import audit
from campaigns.campaign import Campaign
from campaigns.tables import AuditRow

SOUNDS = "sounds"  # the action in the audit log


def sound_files(campaign: Campaign) -> Mapping[str, str]:
    """The path of each setting of `campaign` that names a file which its calls may play."""
    if campaign.mode == "broadcast":
        sounds = {"message": campaign.message or ""}
    else:
        sounds = {"abandoned_message": campaign.abandoned_message, "waiting_sound": campaign.waiting_sound}
    return {setting: _path(sound) for setting, sound in sounds.items() if sound.startswith("/")}


def _path(sound: str) -> str:
    """Without the sample to begin at, which may follow: /a.wav@@8000 (mod_dptools.c, `playback_function`)."""
    return sound.partition("@@")[0]


@attrs.frozen
class SoundFile:
    """A file as it was: which words people have heard is asked long after."""

    path: str
    size: int  # in bytes
    sha256: str


def read_sound_files(campaign: Campaign) -> tuple[list[SoundFile], dict[str, str]]:
    """What is in the files that `campaign` plays, as far as this machine has them; and why not, by setting."""
    files: list[SoundFile] = []
    unread: dict[str, str] = {}
    for setting, path in sound_files(campaign).items():
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            unread[setting] = f"{path}: {error.strerror or error}"
        else:
            files.append(SoundFile(path, len(content), hashlib.sha256(content).hexdigest()))
    return files, unread


def note_sound_files(session: Session, campaign: str, files: Sequence[SoundFile], who: str, now: datetime) -> bool:
    """Writes down in the audit log what `campaign` plays from now on; False if that is what it played before."""
    value = {one.path: {"size": one.size, "sha256": one.sha256} for one in files}
    before = session.exec(
        select(AuditRow.after)
        .where(AuditRow.kind == "campaign", AuditRow.subject == campaign, AuditRow.action == SOUNDS)
        .order_by(col(AuditRow.id).desc())
        .limit(1)
    ).first()
    if value == (json.loads(before) if before else {}):
        return False
    audit.note(session, who=who, action=SOUNDS, kind="campaign", subject=campaign, now=now, after=value)
    return True
