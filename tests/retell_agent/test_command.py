"""``bridge retell-agent`` as a user runs it, with the real retell-sdk, against a stand-in of Retell's REST API."""

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result
from retell_rest import KEY, RetellRest, serving

from bridge.cli import main
from bridge.retell_agent import api as retell_agent_api
from bridge.retell_agent.difference import Change, described, differences
from bridge.retell_agent.file import EXAMPLE

FILE = """
[agent]
agent_name = "Reception"
voice_id = "11labs-Adrian"
language = ["en-US", "es-ES"]
responsiveness = 0.9
"""
WITH_LLM = f"""{FILE}
[llm]
start_speaker = "agent"
general_prompt = "You answer the phone."
[[llm.general_tools]]
type = "end_call"
name = "end_call"
"""
WITH_SOCKET = f"""{FILE}
[response_engine]
llm_websocket_url = "wss://llm.example.com/retell"
"""
AGENT = {
    "agent_name": "Reception",
    "voice_id": "11labs-Adrian",
    "language": ["en-US", "es-ES"],
    "responsiveness": 0.9,
}
LLM = {
    "start_speaker": "agent",
    "general_prompt": "You answer the phone.",
    "general_tools": [{"type": "end_call", "name": "end_call"}],
}
SOCKET = {"type": "custom-llm", "llm_websocket_url": "wss://llm.example.com/retell"}


@pytest.fixture(autouse=True)
def nobody_s_environment(monkeypatch, tmp_path):
    """Hide the variables and the .env file of the person who runs the tests."""
    for name in list(os.environ):
        if name.startswith("RETELL_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def rest(clean_loop) -> AsyncIterator[RetellRest]:
    async with serving() as rest:
        yield rest


def write(name: str, text: str) -> None:
    Path(name).write_text(text, "utf-8")


async def run(rest: RetellRest, text: str, *options: str, **environment: str) -> Result:
    """Run the command in a thread, since retell-sdk blocks, and the stand-in is on this loop."""
    write("agent.toml", text)
    env = {"RETELL_API_KEY": KEY, "RETELL_API_URL": rest.url, **environment}
    done = await asyncio.to_thread(
        CliRunner().invoke,
        main,
        ["retell-agent", "agent.toml", *options],
        env={k: v for k, v in env.items() if v},
    )
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert KEY not in done.output
    return done


def with_agent(rest: RetellRest, **changed: Any) -> tuple[str, str]:
    """Add an agent as in the file, with some values changed."""
    llm_id = rest.add_llm(**{**LLM, **changed.pop("llm", {})})
    engine = {"type": "retell-llm", "llm_id": llm_id, "version": 0}
    return rest.add_agent(**{**AGENT, "response_engine": engine, **changed}), llm_id


# A new agent


async def test_new_agent_is_made_with_its_llm_first(rest):
    done = await run(rest, WITH_LLM)
    assert done.exit_code == 0, done.output
    assert rest.writes == ["POST /create-retell-llm", "POST /create-agent"]
    assert rest.body("POST /create-retell-llm") == LLM
    engine = {"type": "retell-llm", "llm_id": "llm_0"}
    assert rest.body("POST /create-agent") == {**AGENT, "response_engine": engine}
    assert done.stdout.splitlines() == [
        "a new agent:",
        '  agent.agent_name: (not set) -> "Reception"',
        '  agent.voice_id: (not set) -> "11labs-Adrian"',
        '  agent.language: (not set) -> ["en-US", "es-ES"]',
        "  agent.responsiveness: (not set) -> 0.9",
        "  agent.response_engine: (not set) -> retell-llm (a new one)",
        '  llm.start_speaker: (not set) -> "agent"',
        '  llm.general_prompt: (not set) -> "You answer the phone."',
        "  llm.general_tools: +end_call",
        "made the Retell LLM llm_0",
        "made the agent agent_0",
        "version 0 is a draft; --publish, or Retell's dashboard, publishes it",
        "the bridge uses this agent with:",
        "  RETELL_AGENT_ID=agent_0",
    ]


async def test_new_agent_with_a_socket_needs_no_llm_of_retell(rest):
    done = await run(rest, WITH_SOCKET)
    assert done.exit_code == 0, done.output
    assert rest.writes == ["POST /create-agent"]
    assert rest.body("POST /create-agent") == {**AGENT, "response_engine": SOCKET}


async def test_example_makes_an_agent(rest):
    done = await run(rest, EXAMPLE.read_text("utf-8"))
    assert done.exit_code == 0, done.output
    assert rest.writes == ["POST /create-retell-llm", "POST /create-agent"]


async def test_new_agent_is_published_if_asked(rest):
    done = await run(rest, WITH_SOCKET, "--publish")
    assert done.exit_code == 0, done.output
    assert rest.writes == ["POST /create-agent", "POST /publish-agent-version/agent_0"]
    assert rest.agents["agent_0"][0]["is_published"]
    assert "published version 0" in done.stdout


async def test_new_agent_without_voice_and_engine_is_not_sent(rest):
    done = await run(rest, '[agent]\nagent_name = "Reception"\n')
    assert done.exit_code == 2
    assert "agent.voice_id: is missing" in done.stderr and "response_engine: is missing" in done.stderr
    assert rest.writes == []


async def test_what_is_taken_away_is_not_sent_for_a_new_agent(rest):
    done = await run(rest, WITH_SOCKET.replace("[response", "ambient_sound = false\n[response"))
    assert done.exit_code == 0, done.output
    assert "ambient_sound" not in rest.body("POST /create-agent")


# An agent that exists


async def test_nothing_is_sent_if_nothing_differs(rest):
    assert (await run(rest, WITH_LLM)).exit_code == 0
    rest.requests.clear()
    done = await run(rest, WITH_LLM)
    assert done.exit_code == 0
    assert rest.requests == [
        "POST /v2/list-agents?limit=1000",
        "GET /get-agent/agent_0",
        "GET /get-retell-llm/llm_0",
    ]
    assert done.stdout.splitlines() == [
        'the agent agent_0 "Reception", found by its name, version 0, a draft:',
        "nothing differs",
        "nothing was sent",
        "the bridge uses this agent with:",
        "  RETELL_AGENT_ID=agent_0",
    ]


async def test_only_what_differs_is_sent_to_a_draft(rest):
    agent_id, llm_id = with_agent(rest, responsiveness=1, volume=1.5, llm={"general_prompt": "Old."})
    done = await run(rest, WITH_LLM)
    assert done.exit_code == 0, done.output
    assert rest.writes == [
        f"PATCH /update-retell-llm/{llm_id}?version=0",
        f"PATCH /update-agent/{agent_id}?version=0",
    ]
    assert rest.body(rest.writes[0]) == {"general_prompt": "You answer the phone."}
    assert rest.body(rest.writes[1]) == {"responsiveness": 0.9}
    assert "  agent.responsiveness: 1 -> 0.9\n" in done.stdout
    assert '  llm.general_prompt: "Old." -> "You answer the phone."\n' in done.stdout
    assert rest.agents[agent_id][0]["volume"] == 1.5


async def test_agent_is_left_alone_if_only_its_llm_differs(rest):
    _, llm_id = with_agent(rest, llm={"start_speaker": "user"})
    done = await run(rest, WITH_LLM)
    assert done.exit_code == 0, done.output
    assert rest.writes == [f"PATCH /update-retell-llm/{llm_id}?version=0"]


async def test_published_agent_gets_a_draft_first_and_stays_as_it_is(rest):
    agent_id, llm_id = with_agent(rest, responsiveness=1, llm={"general_prompt": "Old."})
    rest.publish(agent_id)
    done = await run(rest, WITH_LLM)
    assert done.exit_code == 0, done.output
    assert rest.writes == [
        f"POST /create-agent-version/{agent_id}",
        f"PATCH /update-retell-llm/{llm_id}?version=1",
        f"PATCH /update-agent/{agent_id}?version=1",
    ]
    assert [version["responsiveness"] for version in rest.agents[agent_id]] == [1, 0.9]
    assert [version["general_prompt"] for version in rest.llms[llm_id]] == ["Old.", "You answer the phone."]
    assert "version 0, published:" in done.stdout
    assert "version 1 is a draft; --publish" in done.stdout


async def test_published_llm_of_a_draft_gets_a_draft_too(rest):
    agent_id, llm_id = with_agent(rest, llm={"general_prompt": "Old."})
    rest.llms[llm_id][0]["is_published"] = True
    done = await run(rest, WITH_LLM)
    assert done.exit_code == 0, done.output
    assert rest.writes == [
        f"POST /create-agent-version/{agent_id}",
        f"PATCH /update-retell-llm/{llm_id}?version=1",
    ]


async def test_draft_is_published_if_asked_though_nothing_differs(rest):
    agent_id, _ = with_agent(rest)
    assert (await run(rest, WITH_LLM, "--publish")).exit_code == 0
    assert rest.writes == [f"POST /publish-agent-version/{agent_id}"]
    assert (await run(rest, WITH_LLM, "--publish")).exit_code == 0
    assert len(rest.writes) == 1


async def test_false_is_sent_as_null(rest):
    agent_id, _ = with_agent(rest, ambient_sound="call-center")
    text = FILE + "ambient_sound = false\nwebhook_url = false\n"
    done = await run(rest, text)
    assert done.exit_code == 0, done.output
    assert rest.body(f"PATCH /update-agent/{agent_id}?version=0") == {"ambient_sound": None}
    assert '  agent.ambient_sound: "call-center" -> (not set)\n' in done.stdout


async def test_file_without_an_engine_leaves_the_one_that_is_there(rest):
    agent_id, llm_id = with_agent(rest, responsiveness=1)
    assert (await run(rest, FILE)).exit_code == 0
    assert rest.agents[agent_id][0]["response_engine"]["llm_id"] == llm_id
    assert not any("retell-llm" in line for line in rest.requests)


async def test_agent_changes_from_a_socket_to_an_llm_and_back(rest):
    agent_id = rest.add_agent(**AGENT, response_engine=SOCKET)
    done = await run(rest, WITH_LLM)
    assert done.exit_code == 0, done.output
    assert rest.writes == ["POST /create-retell-llm", f"PATCH /update-agent/{agent_id}?version=0"]
    assert rest.body(rest.writes[1]) == {"response_engine": {"type": "retell-llm", "llm_id": "llm_0"}}
    assert "custom-llm wss://llm.example.com/retell -> retell-llm (a new one)" in done.stdout
    assert (await run(rest, WITH_SOCKET)).exit_code == 0
    assert rest.agents[agent_id][0]["response_engine"] == SOCKET


# Dry runs


@pytest.mark.parametrize("text", [WITH_LLM, WITH_SOCKET])
async def test_dry_run_only_reads(rest, text):
    done = await run(rest, text, "--dry-run", "--publish")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith("\nnothing was sent\n")
    agent_id, _ = with_agent(rest, responsiveness=1, llm={"general_prompt": "Old."})
    rest.publish(agent_id)
    done = await run(rest, text, "--dry-run", "--publish")
    assert done.exit_code == 0, done.output
    assert "agent.responsiveness: 1 -> 0.9" in done.stdout
    assert "nothing was sent" in done.stdout
    assert rest.requests
    assert rest.writes == []


# The choice of the agent


async def test_agent_of_the_option_beats_that_of_the_environment_and_the_name(rest):
    first, second, third = (with_agent(rest, responsiveness=1)[0] for _ in range(3))
    assert (await run(rest, FILE, "--agent-id", second, RETELL_AGENT_ID=third)).exit_code == 0
    done = await run(rest, FILE, RETELL_AGENT_ID=third)
    assert done.exit_code == 0
    assert "found by RETELL_AGENT_ID" in done.stdout
    assert [rest.agents[agent_id][0]["responsiveness"] for agent_id in (first, second, third)] == [
        1,
        0.9,
        0.9,
    ]
    assert not any("list-agents" in line for line in rest.requests)


async def test_settings_are_read_from_the_env_file_too(rest):
    agent_id, _ = with_agent(rest, agent_name="Other")
    write(".env", f"RETELL_API_KEY={KEY}\nRETELL_AGENT_ID={agent_id}\nRETELL_API_URL=http://127.0.0.1:1\n")
    done = await run(rest, FILE, RETELL_API_KEY="")
    assert done.exit_code == 0, done.output
    assert rest.agents[agent_id][0]["agent_name"] == "Reception"


async def test_name_is_compared_whole_and_on_every_page(rest):
    for name in ("Reception 2", "reception", "Receptionist", "Reception"):
        rest.add_agent(agent_name=name, response_engine=SOCKET)
    rest.page_agents = 2
    done = await run(rest, FILE, "--dry-run")
    assert done.exit_code == 0, done.output
    assert 'the agent agent_3 "Reception"' in done.stdout
    assert rest.requests[:2] == [
        "POST /v2/list-agents?limit=1000",
        "POST /v2/list-agents?limit=1000&pagination_key=2",
    ]


async def test_two_agents_of_the_name_are_a_question(rest):
    with_agent(rest)
    with_agent(rest)
    done = await run(rest, FILE)
    assert done.exit_code == 2
    assert "2 agents have it: say which with --agent-id (agent_0, agent_1)" in done.stderr
    assert rest.writes == []


async def test_agent_that_does_not_exist_is_reported_with_what_named_it(rest):
    done = await run(rest, FILE, RETELL_AGENT_ID="agent_7")
    assert done.exit_code == 1
    assert done.stderr == (
        "reading the agent 'agent_7' of RETELL_AGENT_ID: Retell answered 404: Item not found; correct "
        "RETELL_AGENT_ID, or leave it out to go by agent_name\n"
    )


# Failed requests


async def test_wrong_key_is_reported_once_and_never_shown(rest):
    done = await run(rest, FILE, RETELL_API_KEY="key_wrong_canary")
    assert done.exit_code == 1
    assert done.stderr == (
        "looking for the agent: Retell answered 401: Invalid API Key; check RETELL_API_KEY; Retell's dashboard has it\n"
    )
    assert "canary" not in done.output
    assert len(rest.requests) == 1


async def test_refused_agent_is_reported_with_the_llm_that_is_left(rest):
    rest.fail("POST /create-agent", 422, f"voice\nnot found for {KEY}")
    done = await run(rest, WITH_LLM)
    assert done.exit_code == 1
    assert done.stderr == (
        "making the agent: Retell answered 422: voice not found for ***; change the file accordingly\n"
    )
    assert "the Retell LLM llm_0 is left without an agent" in done.stdout


@pytest.mark.parametrize(("line", "status"), [("POST /create-retell-llm", 500), ("POST /create-agent", 429)])
async def test_making_is_tried_once(rest, line, status):
    rest.fail(line, status, "not now", **{"retry-after-ms": "1"})
    done = await run(rest, WITH_LLM)
    assert done.exit_code == 1
    assert rest.requests.count(line) == 1
    assert f"Retell answered {status}: not now; try again" in done.stderr


async def test_reading_and_changing_are_tried_twice(rest):
    agent_id, _ = with_agent(rest, responsiveness=1)
    lines = ("POST /v2/list-agents", f"GET /get-agent/{agent_id}", f"PATCH /update-agent/{agent_id}")
    for line in lines:
        rest.fail(line, 500, "not now", **{"retry-after-ms": "1"})
    done = await run(rest, FILE)
    assert done.exit_code == 0, done.output
    assert [sum(request.startswith(line) for request in rest.requests) for line in lines] == [2, 2, 2]
    rest.fail("GET /get-agent", 500, "not now", **{"retry-after-ms": "1"})
    rest.fail("GET /get-agent", 500, "never", **{"retry-after-ms": "1"})
    done = await run(rest, FILE)
    assert done.exit_code == 1
    assert "Retell answered 500: never; try again later" in done.stderr


async def test_agent_is_not_made_again_after_a_time_out(rest, monkeypatch):
    monkeypatch.setattr(retell_agent_api, "TIMEOUT_S", 1.0)
    rest.hold("POST /create-agent")
    done = await run(rest, WITH_SOCKET)
    assert done.exit_code == 1
    assert rest.writes == ["POST /create-agent"]
    assert done.stderr == (
        "making the agent: no answer within 1 s; it may have been made all the same: run this again with "
        "--dry-run, which finds it by its name\n"
    )


async def test_reading_has_a_time_out(rest, monkeypatch):
    monkeypatch.setattr(retell_agent_api, "TIMEOUT_S", 0.5)
    rest.hold("POST /v2/list-agents")
    rest.hold("POST /v2/list-agents")
    began = time.monotonic()
    done = await run(rest, WITH_SOCKET)
    assert done.exit_code == 1
    # Twice the time-out and the pause between; retell-sdk's own would be two minutes.
    assert time.monotonic() - began < 4.5
    assert done.stderr == "looking for the agent: no answer within 0.5 s; try again\n"
    assert len(rest.requests) == 2


async def test_api_that_is_not_there_is_reported(rest):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = await run(rest, FILE, RETELL_API_URL=url)
    assert done.exit_code == 1
    assert (
        done.stderr
        == f"looking for the agent: {url} cannot be reached; check RETELL_API_URL and the network\n"
    )


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"text": "hello"}, "the answer has no items; check RETELL_API_URL"),
        ({"text": "{", "content_type": "application/json"}, "the answer is not from Retell"),
        ({"text": "[]", "content_type": "application/json"}, "the answer has no items; check RETELL_API_URL"),
        ({"text": "{}", "content_type": "application/json"}, "the answer has no items; check RETELL_API_URL"),
    ],
)
async def test_answer_that_is_not_from_retell_is_reported(rest, answer, words):
    rest.instead["POST /v2/list-agents"] = [lambda: web.Response(**answer)]
    done = await run(rest, FILE)
    assert done.exit_code == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("module", ["retell", "httpx"])
async def test_without_the_sdk_it_says_what_to_install(rest, monkeypatch, module):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "bridge.retell_agent.api")
    done = await run(rest, FILE)
    assert done.exit_code == 1
    assert done.stderr == "retell-sdk is not installed: pip install 'voice-bridge[retell]'\n"
    assert rest.requests == []


# Faults found before the first request


async def test_file_and_settings_are_reported_together_and_nothing_is_sent(rest):
    done = await run(rest, "[agent]\nvolume = 3\n", RETELL_API_KEY="", RETELL_API_URL="api.retellai.com")
    assert done.exit_code == 2
    lines = done.stderr.splitlines()
    assert lines[0] == "nothing was sent; this is missing or wrong:"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "  - RETELL_API_URL",
        "  - RETELL_API_KEY",
        "  - agent.volume",
    ]
    assert rest.requests == []


async def test_file_that_names_no_agent_needs_the_option(rest):
    done = await run(rest, "[agent]\nvolume = 1\n")
    assert done.exit_code == 2
    assert "agent.agent_name: is missing: it or --agent-id" in done.stderr
    agent_id, _ = with_agent(rest)
    assert (await run(rest, "[agent]\nvolume = 1\n", "--agent-id", agent_id)).exit_code == 0


async def test_key_that_no_header_can_carry_is_reported_without_it(rest):
    done = await run(rest, FILE, RETELL_API_KEY="canary\x7f")
    assert done.exit_code == 2
    assert "RETELL_API_KEY: has characters that no key has" in done.stderr
    assert "canary" not in done.output


def test_example_is_printed_and_a_file_is_needed_otherwise():
    done = CliRunner().invoke(main, ["retell-agent", "--example"])
    assert done.exit_code == 0
    assert done.stdout == EXAMPLE.read_text("utf-8")
    for arguments in ([], ["missing.toml"], ["."]):
        assert CliRunner().invoke(main, ["retell-agent", *arguments]).exit_code == 2


def test_help_does_not_need_the_sdk(monkeypatch):
    monkeypatch.setitem(sys.modules, "retell", None)
    assert "--dry-run" in CliRunner().invoke(main, ["retell-agent", "--help"]).stdout


# The difference


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (1, 1.0),
        (0.8, 0.8000000000001),
        (None, None),
        ([], []),
        ({"temperature": 0}, {"type": "cascading", "temperature": 0}),
        ([{"type": "end_call", "name": "a"}], [{"type": "end_call", "name": "a", "tool_id": "1"}]),
    ],
)
def test_what_is_so_already_is_no_difference(wanted, there):
    assert differences("agent", {"key": wanted}, {"key": there, "other": 1}) == []


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        (1, 0.99),
        (True, 1),
        (0, False),
        ("", None),
        (None, "x"),
        ([], None),
        (["a"], ["a", "b"]),
        (["a", "b"], ["b", "a"]),
        ({"temperature": 0}, {"type": "cascading"}),
        ({"temperature": 0}, None),
        ([{"name": "a"}], [{"name": "b"}]),
        ("en-US", ["en-US"]),
    ],
)
def test_what_is_not_so_is_a_difference(wanted, there):
    assert differences("agent", {"key": wanted}, {"key": there}) == [Change("agent", "key", there, wanted)]


def test_key_that_is_not_there_at_all_is_a_difference():
    assert differences("agent", {"volume": 1}, {}) == [Change("agent", "volume", None, 1)]


def test_long_texts_show_where_they_begin_to_differ():
    old, new = "a" * 500 + "Monday" + "b" * 500, "a" * 500 + "Tuesday" + "b" * 500
    line = described(Change("llm", "general_prompt", old, new))
    assert "Monday" in line and "Tuesday" in line
    assert line.count("…") == 4
    assert len(line) < 200


def test_long_text_that_is_new_is_shortened():
    line = described(Change("llm", "general_prompt", None, "a" * 5000))
    assert "5002 characters" in line
    assert len(line) < 150


def test_control_characters_of_a_text_do_not_reach_the_terminal():
    assert (
        described(Change("agent", "agent_name", "\x1b[2J\n", "b"))
        == r'agent.agent_name: "\u001b[2J\n" -> "b"'
    )


def test_tools_are_reported_by_name_and_key_only():
    old = [
        {"name": "kept", "url": "https://a"},
        {"name": "changed", "headers": {"Authorization": "canary-1"}, "url": "https://a"},
        {"name": "gone"},
    ]
    new = [
        {"name": "kept", "url": "https://a"},
        {"name": "changed", "headers": {"Authorization": "canary-2"}, "url": "https://a"},
        {"name": "added", "headers": {"Authorization": "canary-3"}},
    ]
    line = described(Change("llm", "general_tools", old, new))
    assert line == "llm.general_tools: +added, -gone, changed (headers)"
    assert described(Change("llm", "general_tools", old, old[::-1])) == "llm.general_tools: another order"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:canary@h.example:8443/a?token=canary", '"https://h.example:8443/a?…"'),
        ("https://h.example?canary", '"https://h.example?…"'),
        ("wss://h.example/a", '"wss://h.example/a"'),
    ],
)
def test_urls_are_reported_without_what_may_be_secret(url, shown):
    assert described(Change("agent", "webhook_url", None, url)) == f"agent.webhook_url: (not set) -> {shown}"
    engine = {"type": "custom-llm", "llm_websocket_url": url}
    assert "canary" not in described(Change("agent", "response_engine", engine, {**engine, "x": 1}))


def test_long_urls_are_compared_without_what_may_be_secret():
    old, new = (f"https://user:canary@h.example/{'a' * 80}/{end}?token=canary" for end in ("old", "new"))
    line = described(Change("agent", "webhook_url", old, new))
    assert "canary" not in line
    assert "old?…" in line and "new?…" in line
