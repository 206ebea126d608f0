"""What a FreeSWITCH says on its event socket, written by hand: nothing of the program's own encoding is used."""

from __future__ import annotations

import json

AUTH_REQUEST = b"Content-Type: auth/request\n\n"
LOGGED_IN = b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"
WRONG_PASSWORD = b"Content-Type: command/reply\nReply-Text: -ERR invalid\n\n"
SUBSCRIBED = b"Content-Type: command/reply\nReply-Text: +OK event listener enabled json\n\n"
LET_IN = AUTH_REQUEST + LOGGED_IN + SUBSCRIBED
CORE = "8fc0c52f-8e1d-4a9b-9b1a-b97615cfcd86"


def reply(text: str) -> bytes:
    return f"Content-Type: command/reply\nReply-Text: {text}\n\n".encode()


def accepted(job_uuid: str) -> bytes:
    return (f"Content-Type: command/reply\nReply-Text: +OK Job-UUID: {job_uuid}\nJob-UUID: {job_uuid}\n\n").encode()


def event(name: str, **headers: str) -> bytes:
    """An event; `Unique_ID="…"` becomes the header Unique-ID."""
    fields = {"Event-Name": name, "Core-UUID": CORE}
    fields |= {key if key == "_body" else key.replace("_", "-"): value for key, value in headers.items()}
    body = json.dumps(fields).encode()
    return b"Content-Length: %d\nContent-Type: text/event-json\n\n" % len(body) + body


def numbered(sequence: int) -> bytes:
    return event("HEARTBEAT", Event_Sequence=str(sequence))


def job(job_uuid: str, result: str) -> bytes:
    return event("BACKGROUND_JOB", Job_UUID=job_uuid, _body=result)


def disconnect(text: str = "Disconnected, goodbye.\nSee you at ClueCon! http://www.cluecon.com/\n") -> bytes:
    return f"Content-Type: text/disconnect-notice\nContent-Length: {len(text)}\n\n{text}".encode()


def rude_rejection() -> bytes:
    text = "Access Denied, go away.\n"
    return f"Content-Type: text/rude-rejection\nContent-Length: {len(text)}\n\n{text}".encode()
