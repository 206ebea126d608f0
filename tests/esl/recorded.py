"""The recorded conversations of a real FreeSWITCH, as bytes."""

from __future__ import annotations

import re
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


def frames(data: bytes) -> list[bytes]:
    """`data` cut into its frames, with a cutter of its own."""
    cut: list[bytes] = []
    while data:
        head = data[: data.index(b"\n\n") + 2]
        length = re.search(rb"^Content-Length: (\d+)$", head, re.MULTILINE)
        end = len(head) + (int(length[1]) if length else 0)
        cut.append(data[:end])
        data = data[end:].lstrip(b"\n")
    return cut


def sent(name: str) -> list[str]:
    """The first line of each command that was sent to the switch, `auth` the first of them."""
    text = (RECORDINGS / f"{name}.sent").read_text()
    return re.findall(r"^\d+\.\d+ (.*)$", text, re.MULTILINE)
