"""Who changed what, when, and what it was before and after: for questions that are asked months later.

A change and its note are one transaction. What the daemon does by itself is on CDRs and in the log, not here.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from sqlmodel import Session, col, select

from campaigns.tables import AuditRow

MAX_WHO_CHARACTERS: Final = 64
UNKNOWN: Final = "unknown"


def this_person() -> str:
    """Who runs this program: the login name, and behind sudo the one it was asked from."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):  # no such user in the machine's book: a container, mostly
        name = f"uid {os.getuid()}"
    return name[:MAX_WHO_CHARACTERS] or UNKNOWN


Kind = Literal["agent", "campaign", "dialer", "lead", "list", "suppression"]  # what can be changed


def note(
    session: Session,
    *,
    who: str,
    action: str,
    kind: Kind,
    subject: str,
    now: datetime,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Write down that `who` did `action` to the `kind` called `subject`.

    Of `before` and `after` only what differs is kept, when both are given; neither may hold a secret.
    """
    if before is not None and after is not None:
        changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
        before = {key: value for key, value in before.items() if key in changed}
        after = {key: value for key, value in after.items() if key in changed}
    session.add(
        AuditRow(
            at=now,
            who=who[:MAX_WHO_CHARACTERS],
            action=action,
            kind=kind,
            subject=subject,
            before=_text(before),
            after=_text(after),
        )
    )
    session.flush()


def _text(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, default=str, ensure_ascii=False, sort_keys=True)


def notes(
    session: Session,
    *,
    kind: Kind | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    limit: int = 100,
) -> Sequence[AuditRow]:
    """The last `limit` changes, the oldest of them first; of a kind, of one subject, from a moment on."""
    query = select(AuditRow).order_by(col(AuditRow.id).desc()).limit(limit)
    if kind is not None:
        query = query.where(AuditRow.kind == kind)
    if subject is not None:
        query = query.where(AuditRow.subject == subject)
    if since is not None:
        query = query.where(AuditRow.at >= since)
    return list(reversed(session.exec(query).all()))
