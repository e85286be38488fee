"""The pages of agents: the table of what each can do is that of the code, and their examples can be read."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
from pages import DOCS, blocks_of, tables_of

from bridge.agents.agent import Agent, CallInfo, Control, Dialogue, Reply, Resources, StreamInfo, Transfer
from bridge.agents.described import Description
from bridge.agents.described_realtime import RealtimeTable
from bridge.agents.directory import BUILT_IN, load_built_in
from bridge.agents.routing import read_routes
from bridge.agents.succession import Memory, Said, Speaker
from bridge.agents.tables import read_table
from bridge.agents.toml_file import Problem, TomlFile

OVERVIEW = DOCS / "agents.md"
PAGES = [OVERVIEW, *sorted((DOCS / "agents").glob("*.md"))]
RESOURCES = Resources(None, 1.0, may_transfer=True)
CALL = CallInfo("CA" + 32 * "0", "+15551234567", "+14155550100")


# What each agent can do


def call_of(name: str, arguments: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": name, "name": name, "arguments": arguments}


TRANSFER = ("transfer_call", '{"to_number":"+4930123456"}')
HANG_UP = ("hang_up", "{}")
DONE = "response.output_item.done"
REALTIME = [
    *({"type": DONE, "item": call_of(*asked)} for asked in (HANG_UP, TRANSFER)),
    {"type": "response.output_audio_transcript.done", "transcript": "Hi."},
    {"type": "conversation.item.input_audio_transcription.completed", "transcript": "Hi."},
]
FRAGMENT = {"delta": "Hi.", "start_ms": 0, "end_ms": 100}
# Messages of each service by which it hangs up, transfers, and says what was said.
MESSAGES: dict[str, list[dict[str, Any]]] = {
    "openai": REALTIME,
    "a table of OpenAI's protocol": REALTIME,
    "openai-live": [
        {"type": "session.started", "session": {"expires_at": 2**40}},
        *(
            {"type": "response.event", "event": {"type": DONE, "item": call_of(*asked)}}
            for asked in (HANG_UP, TRANSFER)
        ),
        {"type": "session.input_transcript.delta", **FRAGMENT},
        {"type": "session.output_transcript.delta", **FRAGMENT},
    ],
    "elevenlabs": [
        *(
            {
                "type": "client_tool_call",
                "client_tool_call": {"tool_name": name, "tool_call_id": name, "parameters": json.loads(text)},
            }
            for name, text in (HANG_UP, TRANSFER)
        ),
        {"type": "agent_response", "agent_response_event": {"agent_response": "Hi."}},
        {"type": "user_transcript", "user_transcription_event": {"user_transcript": "Hi."}},
        {
            "type": "conversation_initiation_metadata",
            "conversation_initiation_metadata_event": {"agent_output_audio_format": "pcm_16000"},
        },
    ],
    "deepgram": [
        *(
            {
                "type": "FunctionCallRequest",
                "functions": [{"id": name, "name": name, "arguments": text, "client_side": True}],
            }
            for name, text in (HANG_UP, TRANSFER)
        ),
        *({"type": "ConversationText", "role": role, "content": "Hi."} for role in ("user", "assistant")),
    ],
    "retell": [{"type": "audio", "data": "AAAA", "audio_encoding": "s16le", "sample_rate": 8000}],
    "retell-web": [
        {
            "event_type": "update",
            "turntaking": "agent_turn",
            "transcript": [{"role": role, "content": "Hi."} for role in ("user", "agent", "user")],
        }
    ],
    "retell-twilio": [],
}
SETTINGS = {
    "openai_api_key": "k",
    "openai_realtime_keys": "1",
    "openai_live_keys": "1",
    "elevenlabs_agent_id": "a",
    "elevenlabs_keys": "user_message",
    "deepgram_api_key": "k",
    "deepgram_keys": "1",
    "retell_api_key": "k",
    "retell_agent_id": "a",
    "retell_web_encoding": "s16le",
}
MEMORY = Memory((Said(Speaker.CALLER, "the marked words"), Said(Speaker.AGENT, "Hm.")), is_awaited=False)


@pytest.fixture
def agents(tmp_path) -> dict[str, Agent]:
    """The agents with a dialogue, by their names in the table; each with its keys on."""
    (tmp_path / "agent.json").write_text("{}")
    settings = SETTINGS | {"deepgram_agent_file": str(tmp_path / "agent.json")}
    modules = {name: load_built_in(name) for name in BUILT_IN}
    found = {
        name: module.describe(module.settings(**settings), RESOURCES) for name, module in modules.items()
    }
    table = RealtimeTable(protocol="openai-realtime", url="wss://h", keys=True)
    found["a table of OpenAI's protocol"] = table.describe(RESOURCES)
    return {name: agent for name, agent in found.items() if agent.dialogue is not None}


def read(dialogue: Dialogue, message: dict[str, Any]) -> list[Any]:
    return list(dialogue.read(json.dumps(message).encode()))


def cells_of(name: str, agent: Agent) -> dict[str, str]:
    """The row of an agent, from what its dialogue does."""
    stream = StreamInfo(CALL, "AC", "MZ", {}, True, MEMORY)
    dialogue = agent.dialogue(stream, lambda: 1)
    first = [
        *dialogue.opening(),
        *(one.message for one in read(dialogue, {"type": "Welcome"}) if is_reply(one)),
    ]
    events = [event for message in MESSAGES[name] for event in read(dialogue, message)]
    formats = {
        dialogue.from_agent_format.encoding,
        *(e.format.encoding for e in events if hasattr(e, "format")),
    }
    speakers = {event.speaker for event in events if isinstance(event, Said) and event.text}
    limit_s, fill_ms = dialogue.session_limit_s, dialogue.silence_fill_ms
    is_keyed = bool(list(dialogue.on_dtmf("1")))

    def yes(is_so: bool) -> str:
        return "yes" if is_so else "no"

    limit = "not known" if limit_s is None else f"{limit_s / 60:g} min"
    return {
        "audio": "binary" if dialogue.is_binary else "JSON",
        "PCM": yes("pcm16" in formats),
        "keys": ("together" if dialogue.gathers_keys else "one by one") if is_keyed else "no",
        "hang-up": yes(Control.HANG_UP in events),
        "transfer": yes(any(isinstance(event, Transfer) for event in events)),
        "transcript": {0: "no", 1: "one", 2: "both"}[len(speakers)],
        "memory": yes(any(b"the marked words" in message for message in first)),
        "truncate": yes(dialogue.tracks_heard),
        # GPT-Live's is in a message.
        "session limit": "the service says it" if limit_s is not None and limit_s > 86400 else limit,
        "hears of it": yes(bool(list(dialogue.on_limit_near(60.0)))),
        "silence fill": f"{fill_ms} ms" if fill_ms else "no",
    }


def is_reply(event: object) -> bool:
    return isinstance(event, Reply)


def test_table_of_what_each_agent_can_do_is_that_of_the_code(agents):
    head, *rows = tables_of(OVERVIEW)["What each agent can do"]
    written = {row[0].strip("`"): dict(zip(head, row, strict=True)) for row in rows}
    tables = written.pop("a table")
    assert written.keys() == agents.keys()
    for name, agent in agents.items():
        row = written[name]
        row["PCM"] = "yes" if "PCM" in row["audio"] else "no"
        row["audio"] = "binary" if "binary" in row["audio"] else "JSON"
        if name == "a table of OpenAI's protocol":
            assert row["session limit"] == "`session_limit_s`"
            row["session limit"] = "not known"
        assert {key: row[key] for key in row if key != "agent"} == cells_of(name, agent), name
    keys = set(re.findall(r"`(\w+)`", " ".join(tables.values())))
    assert keys <= Description.model_fields.keys()


def test_every_built_in_agent_and_every_example_has_its_place():
    overview, examples = OVERVIEW.read_text(), (DOCS / "agents" / "examples.md").read_text()
    assert [name for name in BUILT_IN if f"`{name}`" not in overview] == []
    files = (DOCS.parent / "examples" / "agents").glob("*.toml")
    assert [file.name for file in files if f"`{file.name}`" not in examples] == []


# Examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_of_a_page_can_be_read(page, tmp_path):
    for block in blocks_of(page, "toml"):
        content = tomllib.loads(block)
        if "route" in content:
            (tmp_path / "routes.toml").write_text(block)
            problems: list[Problem] = []
            assert read_routes(TomlFile("bridge_routes_file", str(tmp_path / "routes.toml"), problems))
            assert problems == []
        elif "project" not in content:
            tables = {name: table for name, table in content.items() if name not in BUILT_IN}
            assert [problem for table in tables.values() for problem in read_table(table)[1]] == []
    for block in blocks_of(page, "json"):
        json.loads(block)


def test_settings_that_the_pages_name_exist():
    settings = (DOCS / "settings.md").read_text()
    own = r"\b(?:BRIDGE|OPENAI_REALTIME|OPENAI_LIVE|ELEVENLABS|DEEPGRAM|RETELL)_[A-Z_]+[A-Z]\b"
    for page in PAGES:
        named = set(re.findall(own, page.read_text()))
        assert [name for name in sorted(named) if f"`{name}`" not in settings] == [], page


def test_lines_of_the_log_that_the_pages_name_exist():
    sources = "\n".join(path.read_text() for path in (DOCS.parent / "bridge").rglob("*.py"))
    for page in PAGES:
        named = re.findall(
            r"`((?:dialled agent|messages of the agent|agent|call) [a-z][^`]*)`", page.read_text()
        )
        assert [line for line in named if f'"{line}"' not in sources] == [], page
