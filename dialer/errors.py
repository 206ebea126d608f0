"""The few errors of the project, typed by what the caller should do about them.

Each carries one whole sentence made where the facts are known: the thing, its value, and what would be right.
"""

from __future__ import annotations


class DialerError(Exception):
    """Something this program expected could go wrong; its text is fit for the person who can mend it."""


class ConfigurationError(DialerError):
    """A file, key or password is wrong: stop, and let a person change it (exit code 78)."""


class InputRefusedError(DialerError):
    """What a person or a list gave cannot be used: tell them, nothing has been changed."""


class UnavailableError(DialerError):
    """Something outside is away for now: what was asked did not happen, try again later."""


class OutcomeUnknownError(DialerError):
    """A deadline passed or a link broke after the request went out: it may have happened or not."""
