"""Whether a switch has the files that a campaign plays: nobody is called to hear silence."""

from __future__ import annotations

import math
from typing import Final

import trio

from campaigns.campaign import Campaign
from campaigns.sound_files import sound_files
from dialer.calls.world import World
from dialer.errors import OutcomeUnknownError, UnavailableError
from dialer.esl.commands import FileExists
from dialer.esl.link import CommandRefusedError

# Somebody may take a file away; one that is missing is being put there by somebody.
LOOK_AGAIN_SECONDS: Final = {True: 60.0, False: 5.0}


async def why_mute(campaign: Campaign, switch: str, world: World) -> str:
    """Why calls of `campaign` on `switch` could not hear what they must; empty if they can."""
    for setting, path in sound_files(campaign).items():
        now_seconds = trio.current_time()
        is_there, looked_at = world.files.get((switch, path), (False, -math.inf))
        if now_seconds >= looked_at + LOOK_AGAIN_SECONDS[is_there]:
            try:
                answer = await world.switches[switch].run_command(FileExists(path))
            except (UnavailableError, OutcomeUnknownError, CommandRefusedError) as error:
                return f"the switch {switch!r} was asked for the file {path} and did not say: {error}"
            is_there = answer.strip() == "true"
            world.files[switch, path] = is_there, now_seconds
        if not is_there:
            return f"the switch {switch!r} has no file {path}, which {setting} names"
    return ""
