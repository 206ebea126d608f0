"""What one rule says of calling one number now."""

from __future__ import annotations

from datetime import datetime

import attrs


@attrs.frozen
class Verdict:
    """A rule's word on a number at a moment."""

    rule: str  # a slug, also the metric's label
    allowed: bool
    reason: str  # for a person: part of a sentence
    allowed_at: datetime | None  # now when allowed, or when this rule would allow it; None: never by itself
