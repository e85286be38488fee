"""
Agents, the kinds of trouble that they can be in, and what their services do then.

A case is what a service does and says, by its stand-in, with what the bridge makes of it: the words in its log, and
the kind of the failure. `agent_trouble_cases` is the table of them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from live import FACTOR

from bridge.agents.succession import FailureKind
from bridge.standins.agent.faults import HttpAnswer

RETELL = ("retell", "retell-web", "retell-twilio")
# Agents of ``examples/agents`` with messages about errors, and those without.
WITH_ERRORS = ("assemblyai", "cartesia")
WITHOUT_ERRORS = ("vapi", "ultravox")
# Agents with a request before their socket.
REST = (*RETELL, "elevenlabs", *WITHOUT_ERRORS)
# OpenAI's Realtime protocol, as an agent of its own and by a settings file.
REALTIME = ("openai", "xai")
# Agents that a settings file describes, with audio in JSON and with binary audio.
TABLES = ("json", "binary")
AGENTS = (*REST, "deepgram", *REALTIME, "openai-live", *TABLES, *WITH_ERRORS)
# Agents with a request that Twilio dials.
DIALLED = ("retell-sip",)
TROUBLES = (
    "quota",
    "bad key",
    "server error",
    "rate limit",
    "error then ordinary close",
    "error and silence",
    "refused settings",
    "wrong format",
    "session limit",
    "reset in mid-sentence",
    "over-long message",
    "never ready",
)
# The agents of ``examples/agents`` among them.
EXAMPLES = (*WITHOUT_ERRORS, *WITH_ERRORS)
WITH_TRANSCRIPTS = tuple(agent for agent in AGENTS if agent not in ("retell", "retell-twilio"))
# The longest message that the bridge takes in these calls.
MESSAGE_BYTES = 65536
# Without audio for this long after an error, an agent is lost.
TROUBLE_S = 0.3 * FACTOR


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    One trouble of some agents.

    Attributes:
        agents: Those that it is about.
        log: Words of the warning, the service's own where it says any.
        kind: What the leg reports to the call; None if no session is opened, so that there is no leg.
        act: What the service does in the middle of a sentence; None: the trouble is there from the start.
        rest, upgrade: The service's answers to the request for a session and to the upgrade.
        options: Arguments of the stand-in.
        prepare: Called with the session before it begins.
        settings: Settings of the bridge for this case.
    """

    trouble: str
    agents: tuple[str, ...]
    log: str
    kind: FailureKind | None
    act: Callable[[Any], Awaitable[None]] | None = None
    rest: HttpAnswer | None = None
    upgrade: HttpAnswer | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Any], None] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)


def at_api(trouble: str, status: int, log: str = "", **headers: str) -> Case:
    answer, agents = HttpAnswer(status=status, headers=headers), (*REST, *DIALLED)
    return Case(trouble=trouble, agents=agents, log=log or f"status {status}", kind=None, rest=answer)


def at_socket(trouble: str, agents: tuple[str, ...], status: int, kind: FailureKind) -> Case:
    answer = HttpAnswer(status=status)
    return Case(trouble=trouble, agents=agents, log=f"upgrade refused: {status}", kind=kind, upgrade=answer)


def talking(
    trouble: str, agents: tuple[str, ...], log: str, kind: FailureKind, act: Callable[[Any], Awaitable[None]]
) -> Case:
    return Case(trouble=trouble, agents=agents, log=log, kind=kind, act=act)


def starting(trouble: str, agents: tuple[str, ...], log: str, kind: FailureKind, **options: Any) -> Case:
    return Case(trouble=trouble, agents=agents, log=log, kind=kind, **options)


def with_format(name: str, value: Any) -> Callable[[Any], None]:
    return lambda session: setattr(session, name, value)


# What services do in the middle of a sentence


async def send_too_much(session: Any) -> None:
    text = json.dumps(dict.fromkeys(("type", "event", "kind"), "x") | {"long": MESSAGE_BYTES * "x"})
    await session.send_raw(text)


async def reset(session: Any) -> None:
    session.abort()


async def retell_sends_opus(session: Any) -> None:
    await session.send_audio(b"opus", audio_encoding="opus", sample_rate=48000)


async def deepgrams_error_alone(session: Any) -> None:
    await session.send_json({"type": "Error", "code": "FAILED_TO_THINK", "description": "No LLM answered."})


async def assemblyais_error_and_close(session: Any) -> None:
    await session.send_error("hm", "Hm.")
    await session.close(1000)


async def cartesias_error_and_close(session: Any) -> None:
    await session.send_error("hm", "Hm.", fatal=False)
    await session.close(1000)


async def elevenlabs_error_alone(session: Any) -> None:
    event = {"code": 1011, "message": "The LLM failed.", "error_type": "llm_error"}
    await session.send_json({"type": "error", "error_event": event})


async def elevenlabs_error_and_close(session: Any) -> None:
    await elevenlabs_error_alone(session)
    await session.close(1000)


def realtime_fails(*problems: dict[str, Any]) -> Callable[[Any], Awaitable[None]]:
    """The response that the model is about to make fails, and so do the ones that the bridge asks for."""

    async def act(session: Any) -> None:
        await session.end_turn()
        first, *others = problems
        session.failures.extend(others)
        await session.fail_response(**first)

    return act


async def realtime_error_and_close(session: Any) -> None:
    await session.send_error("internal_error", "Something broke.")
    await session.close(1000)


async def lives_error_and_close(session: Any) -> None:
    await session.send_error("internal_error", "server_error")
    await session.close(1000)


def says(
    name: str, code: str, message: str, close_code: int | None = None
) -> Callable[[Any], Awaitable[None]]:
    """A report of an agent that a table describes."""

    async def act(session: Any) -> None:
        await session.send_report(name, code, message)
        if close_code is not None:
            await session.close(close_code)

    return act
