"""``bridge agents check``: the problems of an agents file, and what an agent's messages would be read as."""

from __future__ import annotations

import binascii
import sys
import tomllib
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.agents.agent import (
    Audio,
    CallInfo,
    Control,
    Event,
    Failed,
    Ignored,
    Reply,
    StreamInfo,
    Transfer,
    Troubled,
    Turn,
    Warned,
)
from bridge.agents.described import Description
from bridge.agents.described_dialogue import DescribedDialogue
from bridge.agents.described_problems import read_model
from bridge.agents.directory import BUILT_IN
from bridge.agents.json_dialogue import shape_of, worded
from bridge.agents.succession import Said
from bridge.agents.tables import OfModule, Table, is_of_module, read_table
from bridge.agents.template import variables_in
from bridge.agents.turns import HeardTurn

FINE, NOT_UNDERSTOOD, WRONG = 0, 1, 2
# A call as a sample has it.
CALL = CallInfo("CA" + 32 * "0", "+15551234567", "+14155550100")
STREAM_SID = "MZ" + 32 * "0"
HEARD_MS = 1000
CONTROLS = {
    Control.READY: "ready: audio flows from now on",
    Control.INTERRUPT: "interrupt: unplayed audio is discarded",
    Control.ENDED: "ended: the last words play, then the call goes on without this agent",
    Control.HANG_UP: "hang_up: the last words play, then the phone call ends",
    Control.SPEECH_ENDED: "speech_ended",
}


def check(file: Path, *, agent: str | None = None, sample: Path | None = None) -> int:
    """
    Print the problems of each table, and what messages mean to one of them.

    Args:
        file: The agents file.
        agent: The table that is checked; without one, all are.
        sample: A file with a message of the agent on each line.

    Returns:
        0 if all is well, 1 if messages of the sample are not understood, 2 if a file is wrong.
    """
    try:
        tables = tomllib.loads(file.read_text("utf-8"))
        lines = sample.read_text("utf-8").splitlines() if sample is not None else []
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return _fail(f"cannot be read: {error}")
    if agent is not None and agent not in tables:
        return _fail(f"no agent {agent} in {file}; it has {', '.join(tables) or 'none'}")
    if not tables:
        return _fail(f"{file} has no table: each agent is one, [NAME]")
    wanted = tables if agent is None else {agent: tables[agent]}
    described = [_check(name, table) for name, table in wanted.items()]
    agents = [one for one in described if one is not None]
    if len(agents) < len(described):
        return WRONG
    if sample is None:
        return FINE
    if len(agents) != 1:
        return _fail(f"{file} has {len(agents)} agents: say with --agent which one sends the messages")
    if not isinstance(agents[0], Description):
        return _fail("only a table that describes its messages has some to try")
    return _read(agents[0], lines)


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def _fail(line: str) -> int:
    print(line, file=sys.stderr)  # noqa: T201
    return WRONG


def _check(name: str, table: Any) -> Table | OfModule | None:
    described: Table | OfModule | None
    if name in BUILT_IN and is_of_module(table):
        described, problems = read_model(OfModule, table)
    elif name in BUILT_IN:
        described, problems = read_table(table)
        problems = [((), "is the name of a built-in agent; use another"), *problems]
    else:
        described, problems = read_table(table)
    if described is None or problems:
        _say(f"{name}: wrong")
        for place, text in problems:
            _say(f"  {'.'.join(map(str, (name, *place)))}: {text}")
        return None
    if isinstance(described, OfModule):
        _say(f"{name}: fine; a built-in agent that is {'disabled' if described.disabled else 'in use'}")
        return described
    variables = sorted(variables_in(described.texts))
    _say(f"{name}: fine" + (f"; needs {', '.join(map(str.upper, variables))}" if variables else ""))
    if isinstance(described, Description) and described.from_agent is not None and described.finder is None:
        _say(f"  audio is read in Python, which costs more: {_why_slow(described)}")
    return described


def _why_slow(described: Description) -> str:
    if key := described.ambiguous_key:
        return f"from_agent.equal does not tell it apart from {key}"
    return "its path or those of its conditions have more than two keys, items of lists, or alternatives"


def _read(described: Description, lines: Iterable[str]) -> int:
    names = described.session.names if described.session is not None else ()
    session = {name.removeprefix("session."): f"<{name}>" for name in names}
    dialogue = DescribedDialogue(described, StreamInfo(CALL, "AC", STREAM_SID, session, True))
    for message in dialogue.opening():
        _say(f"first: sends {_shown(message)}")
    is_understood = True
    # What the caller would have heard of the present turn, if an interrupt came.
    heard = [HeardTurn("", HEARD_MS, is_all=False)]
    for n, line in enumerate(lines, 1):
        if not line.strip():
            continue
        message = line.encode()
        meanings: list[str] = []
        for event in dialogue.read(message):
            if isinstance(event, Turn):
                heard = [HeardTurn(event.name, HEARD_MS, is_all=False)]
            meanings += _meanings(event, dialogue, heard)
        if any(words.startswith("not understood") for words in meanings):
            is_understood = False
        _say(f"{n}: {'; '.join(meanings) or 'nothing to the call'}   ({shape_of(message)})")
    return FINE if is_understood else NOT_UNDERSTOOD


def _meanings(event: Event, dialogue: DescribedDialogue, heard: Sequence[HeardTurn]) -> list[str]:
    match event:
        case Control.INTERRUPT:
            sent = [f"sends {_shown(message)}" for message in dialogue.on_interrupt(heard)]
            return [CONTROLS[event], *sent]
        case Turn():
            return ["a new turn begins"]
        case Control():
            return [CONTROLS[event]] if event in CONTROLS else []
        case Audio():
            return [_audio(event)]
        case Reply(message):
            return [f"sends {_shown(message)}"]
        case Transfer(to_number, refusal, acceptance):
            answers = {"if allowed": acceptance, "if refused": refusal}
            sent = [f"{when} sends {_shown(m)}" for when, messages in answers.items() for m in messages]
            return [f"transfer to {worded(to_number)}", *sent]
        case Failed(detail, kind):
            return [f"the agent is lost ({kind.value}): {detail}"]
        case Troubled(detail, kind):
            return [f"the agent is lost ({kind.value}) if no audio follows: {detail}"]
        case Warned(detail):
            return [f"logged: {detail}"]
        case Said(speaker, text):
            return [f"{speaker.value} says: {worded(text)}"]
        case Ignored("unknown_type"):
            return ["not understood"]
        case Ignored("unknown_audio"):
            return ["not understood: audio whose absent_or_equal does not fit"]
        case Ignored("void_audio"):
            return ["audio of an interrupted turn: discarded"]
    return [str(event)]


def _audio(audio: Audio) -> str:
    try:
        length = len(b64decode(audio.payload, validate=True))
    except binascii.Error:
        return "not understood: audio that is no base64 text"
    form = audio.format
    per_ms: Mapping[str, int] = {"pcm16": form.sample_rate_hz // 500}
    length_ms = length / per_ms.get(form.encoding, form.sample_rate_hz // 1000)
    return f"{length_ms:g} ms of audio, {form.encoding} at {form.sample_rate_hz} Hz"


def _shown(message: bytes) -> str:
    return message.decode()
