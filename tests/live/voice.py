"""Somebody who speaks: RTP straight to a channel of the switch, which takes it from whoever sends."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from typing import Final

import trio

from .laboratory import Laboratory
from .machinery import HOST

FRAME_SECONDS: Final = 0.02
SAMPLES: Final = 160  # of 8 kHz


def _mu_law(sample: int) -> int:
    """One byte of G.711 mu-law."""
    sign, sample = (0x80, -sample) if sample < 0 else (0, sample)
    sample = min(sample, 32_635) + 0x84
    exponent = max(0, sample.bit_length() - 8)
    return ~(sign | exponent << 4 | (sample >> (exponent + 3)) & 0x0F) & 0xFF


SPEECH: Final = bytes(_mu_law(round(8_000 * math.sin(2 * math.pi * 400 * n / 8_000))) for n in range(SAMPLES))
SILENCE: Final = b"\xff" * SAMPLES


def sounds(*lengths_seconds: float) -> list[bytes]:
    """Frames of silence and speech in turn, beginning with silence."""
    frames: list[bytes] = []
    for index, seconds in enumerate(lengths_seconds):
        frames += [SPEECH if index % 2 else SILENCE] * round(seconds / FRAME_SECONDS)
    return frames


async def speak(laboratory: Laboratory, uuid: str, frames: Iterable[bytes]) -> None:
    """Says `frames` into the channel `uuid`, which must have been answered."""
    port = int(await laboratory.api(f"uuid_getvar {uuid} local_media_port"))
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sender:
        at = trio.current_time()
        for index, frame in enumerate(frames):
            header = struct.pack("!BBHII", 0x80, 0, index & 0xFFFF, index * SAMPLES, 77)
            await sender.sendto(header + frame, (HOST, port))
            at += FRAME_SECONDS
            await trio.sleep_until(at)
