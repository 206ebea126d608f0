"""The recorded conversations of a real FreeSWITCH, as bytes."""

from __future__ import annotations

from pathlib import Path

from dialer.esl.framing import FrameReader
from dialer.esl.messages import Message, read_message

RECORDINGS = Path(__file__).parents[1] / "recordings"
NAMES = sorted(path.stem for path in RECORDINGS.glob("*.esl"))


def recording(name: str) -> bytes:
    return (RECORDINGS / f"{name}.esl").read_bytes()


def messages(*chunks: bytes) -> list[Message]:
    """What the parser makes of `chunks`, fed one after the other."""
    reader = FrameReader()
    found: list[Message] = []
    for chunk in chunks:
        reader.receive_data(chunk)
        while (frame := reader.next_frame()) is not None:
            found.append(read_message(frame))
    return found
