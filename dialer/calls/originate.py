"""How a customer and an agent's phone are called: the originate commands, as values. Pure."""

from __future__ import annotations

import math
from typing import Final

from campaigns.campaign import Campaign
from dialer.calls.message import Message, broadcast_message
from dialer.esl.commands import App, GatewayEndpoint, Originate, Transfer, UserEndpoint, scheduled_hangup_on_answer
from dialer.esl.subscription import ANSWERED_BY
from dialer.settings import CallSettings, GatewaySettings

# Past every deadline of the daemon's own: only a dead daemon lets a waiting customer reach this.
DEAD_MAN_MARGIN_SECONDS: Final = 8
DEAD_MAN_CAUSE: Final = "NO_USER_RESPONSE"
# Of a message that was played to its end, and the time for keys after it.
MESSAGE_OVER_CAUSE: Final = "NORMAL_CLEARING"
# Who wants to hear it more often than that has not found the end of the call.
MAX_REPEATS: Final = 3


def customer_call(
    uuid: str,
    number: str,
    gateway: GatewaySettings,
    campaign: Campaign,
    calls: CallSettings,
    node: str,
    *,
    pooled: str | None = None,
    listens: bool = False,
) -> Originate:
    """Calls `number` (E.164) and plays it the waiting sound once answered, with `listens` after listening to it.

    `pooled` is the number to be shown, of the trunk's pool; see `shown_number`.

    endless_playback never ends by itself, so a hang-up is scheduled at the answer; it is taken back when the call is
    bridged. Raises InputRefusedError if anything in it breaks the grammar of commands.
    """
    patience_seconds = campaign.connect_seconds + calls.bridge_seconds
    if campaign.phones == "on_demand":
        patience_seconds += campaign.agent_ring_seconds
    sound = App("endless_playback", campaign.waiting_sound)
    target = (*(_listening(calls) if listens else ()), sound)
    seconds = math.ceil(patience_seconds)
    return _call_to_a_person(uuid, number, gateway, campaign, node, target, seconds, pooled)


def _listening(calls: CallSettings) -> tuple[App, ...]:
    """Listens to who has answered, and tells us of the verdict.

    CUSTOM events that the `event` application sends carry all variables of the channel (switch_channel.c,
    `switch_channel_event_set_extended_data`), the verdict's among them.
    """
    return App(calls.machine_detection), App("event", f"Event-Name=CUSTOM,Event-Subclass={ANSWERED_BY}")


def message_call(
    uuid: str,
    number: str,
    gateway: GatewaySettings,
    campaign: Campaign,
    calls: CallSettings,
    node: str,
    *,
    pooled: str | None = None,
) -> Originate:
    """Calls `number` (E.164) and plays it the campaign's message once answered.

    It ends by itself, repeats among it, whatever became of us. Raises InputRefusedError as `customer_call` does.
    """
    longest_seconds = (1 + MAX_REPEATS) * (calls.longest_message_seconds + campaign.message_key_seconds)
    target = _playing(broadcast_message(campaign))
    return _call_to_a_person(uuid, number, gateway, campaign, node, target, longest_seconds, pooled)


def play(uuid: str, message: Message) -> Transfer:
    """Plays `message` from the start; the call ends by itself after it, whatever becomes of us."""
    return Transfer(uuid, _playing(message))


def _playing(message: Message) -> tuple[App, ...]:
    """The message, and then a while in which keys are taken.

    Park tells of the message's end by CHANNEL_PARK. Its timeout is for once, and so set anew each time. A sound that
    was played before must not be taken for the message.
    """
    return (
        App("set", f"park_timeout={message.key_seconds}:{MESSAGE_OVER_CAUSE}"),
        App("set", f"playback_terminators={message.opt_out or 'none'}"),  # left out, the star would end the message
        App("set", "playback_samples=0"),
        App("playback", message.sound),
        App("park"),
    )


def _call_to_a_person(
    uuid: str,
    number: str,
    gateway: GatewaySettings,
    campaign: Campaign,
    node: str,
    target: tuple[App, ...],
    longest_seconds: int,
    pooled: str | None,
) -> Originate:
    """Calls `number` and sends it into `target`, for `longest_seconds` and a margin after the answer at most."""
    return Originate(
        uuid,
        GatewayEndpoint(gateway.sofia_name, gateway.dialed(number)),
        target,
        {
            "dialer_attempt": uuid,
            "dialer_node": node,
            "ignore_early_media": campaign.ignore_early_media,
            "originate_timeout": str(campaign.ring_seconds),
            "hangup_after_bridge": "false",
            "origination_caller_id_number": shown_number(pooled, campaign, gateway.caller_id),
            **_progress_timeout(gateway),
            **scheduled_hangup_on_answer(longest_seconds + DEAD_MAN_MARGIN_SECONDS, DEAD_MAN_CAUSE),
        },
    )


def _progress_timeout(gateway: GatewaySettings) -> dict[str, str]:
    """Gives a leg up with PROGRESS_TIMEOUT that nothing has been heard of (switch_ivr_originate.c)."""
    seconds = gateway.progress_seconds
    return {} if seconds is None else {"leg_progress_timeout": str(seconds)}


def shown_number(pooled: str | None, campaign: Campaign, own: str) -> str:
    """The number that a person sees: one of the trunk's pool, the campaign's, or the trunk's `own`, in this order.

    None is chosen from a pool for a campaign that has a number itself.
    """
    return pooled or campaign.caller_id or own


def agent_call(
    uuid: str, extension: str, domain: str, campaign: Campaign, calls: CallSettings, node: str, *, nailed_up: bool
) -> Originate:
    """Rings an agent's phone and parks it.

    A nailed-up leg comes back to park after each bridge; one for a single call ends with it. Never with
    `park_timeout`, which hangs a nailed-up leg up after its first bridge. The hang-up scheduled at the answer ends a
    leg whose daemon died; a living daemon keeps putting it off.
    """
    variables = {
        "dialer_agent": extension,
        "dialer_node": node,
        "ignore_early_media": "true",
        "originate_timeout": str(campaign.agent_ring_seconds),
        "hangup_after_bridge": "false" if nailed_up else "true",
        **scheduled_hangup_on_answer(calls.parked_leg_seconds, DEAD_MAN_CAUSE),
    }
    if nailed_up:
        variables["park_after_bridge"] = "true"
    if campaign.caller_id:
        variables["origination_caller_id_number"] = campaign.caller_id
    if campaign.auto_answer:
        variables["sip_auto_answer"] = "true"
    return Originate(uuid, UserEndpoint(extension, domain), (App("park"),), variables)
