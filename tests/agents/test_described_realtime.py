"""Tables of the agents file in OpenAI's Realtime protocol: the agent they make, and the problems of bad ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.agents.agent import Agent, CallInfo, Control, Reply, Resources, SessionError, StreamInfo
from bridge.agents.directory import DirectoryError, open_directory
from bridge.agents.openai_realtime import RESPOND, RealtimeDialogue
from bridge.agents.toml_file import Problem

EXAMPLES = Path(__file__).parents[2] / "examples" / "agents"
OF_PROTOCOL = [path for path in sorted(EXAMPLES.glob("*.toml")) if "openai-realtime" in path.read_text()]
CALL = CallInfo("CA1", "+1 5", "+2", {"form.CallerName": 'A "b"'})
LEAST = """
[mine]
protocol = "openai-realtime"
url = "wss://voice.example/v1/realtime"
"""
FULL = """
[mine]
protocol = "openai-realtime"
url = "wss://{env.HOST}/v1/realtime?caller={from}"
headers = { Authorization = "Bearer {env.KEY}", X-Caller = "{form.CallerName}" }
instructions = "Call {form.CallerName!}. {file.PROMPT}"
greets = false
tools = false
keys = true
session_limit_s = 1800

[mine.session]
model = "{env.MODEL}"
user = "{form.CallerName}"
audio = { output = { voice = "v", format = { type = "audio/pcm" } } }
"""


def agent_of(folder: Path, content: str, resources: Resources | None = None, **variables: str) -> Agent:
    path = folder / "agents.toml"
    path.write_text(content)
    directory = open_directory(["mine"], "", str(path), variables)
    return directory.describe(resources or Resources(None, 1.0))["mine"]


def problems(folder: Path, content: str, **variables: str) -> list[Problem]:
    with pytest.raises(DirectoryError) as caught:
        agent_of(folder, content, **variables)
    return caught.value.problems


def dialogue_of(agent: Agent) -> RealtimeDialogue:
    dialogue = agent.dialogue(StreamInfo(CALL, "AC", "MZ", {}, True), lambda: 1)
    assert isinstance(dialogue, RealtimeDialogue)
    return dialogue


def session_of(agent: Agent) -> dict[str, Any]:
    [update] = dialogue_of(agent).opening()
    return orjson.loads(update)["session"]


def test_least_table_greets_and_hangs_up(tmp_path):
    agent = agent_of(tmp_path, LEAST)
    session = session_of(agent)
    assert [tool["name"] for tool in session.pop("tools")] == ["hang_up"]
    pcmu = {"format": {"type": "audio/pcmu"}}
    assert session == {
        "type": "realtime",
        "output_modalities": ["audio"],
        "audio": {"input": pcmu, "output": pcmu},
    }
    ready = dialogue_of(agent).read(b'{"type":"session.updated","session":{}}')
    assert list(ready) == [Control.READY, Reply(RESPOND)]
    assert agent.endpoint({}, CALL).headers == {}


def test_transfer_is_offered_where_it_is_allowed(tmp_path):
    agent = agent_of(tmp_path, LEAST, Resources(None, 1.0, may_transfer=True))
    assert [tool["name"] for tool in session_of(agent)["tools"]] == ["hang_up", "transfer_call"]


def test_texts_take_values_each_escaped_for_its_place(tmp_path):
    (tmp_path / "prompt").write_text("Be brief.\n")
    variables = {"host": "h", "key": "k", "model": "m", "prompt": str(tmp_path / "prompt")}
    agent = agent_of(tmp_path, FULL, **variables)
    endpoint = agent.endpoint({}, CALL)
    assert endpoint.url == "wss://h/v1/realtime?caller=%2B1%205"
    assert endpoint.headers == {"Authorization": "Bearer k", "X-Caller": 'A%20"b"'}
    session = session_of(agent)
    assert session["instructions"] == 'Call A "b". Be brief.'
    assert (session["model"], session["user"]) == ("m", 'A "b"')
    assert session["audio"]["output"] == {"voice": "v", "format": {"type": "audio/pcmu"}}
    assert "tools" not in session
    dialogue = dialogue_of(agent)
    assert dialogue.session_limit_s == 1800
    assert len(list(dialogue.on_dtmf("1"))) == 2
    assert list(dialogue.read(b'{"type":"session.updated","session":{}}')) == [Control.READY]
    assert (agent.names, agent.required) == ({"form.CallerName"}, {"form.CallerName"})


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ('url = "https://x"', "mine.url: must begin with wss:// or ws://"),
        ('protocol = "openai-realtim"', "mine.protocol: must be 'openai-realtime'"),
        ('voice = "x"', "mine.voice: unknown key; known: disabled, greets, headers, "),
        ("greets = 1", "mine.greets: must be true or false"),
        ('session = "x"', "mine.session: must be a table: { ... }"),
        ('instructions = "Hello {name}"', "mine.instructions: unknown placeholder {name}"),
        ('instructions = "Hello {session.id}"', "mine.instructions: unknown placeholder {session.id}"),
        ('headers = { A = "{envi.KEY}" }', "mine.headers.A: unknown placeholder {envi.KEY}"),
        ('session = { voice = "{voice}" }', "mine.session: unknown placeholder {voice}"),
        ("session_limit_s = 5", "mine.session_limit_s: must be at least 60"),
    ],
)
def test_table_that_is_wrong_is_a_problem_with_its_place(tmp_path, line, text):
    content = "\n".join(kept for kept in LEAST.splitlines() if kept.split()[:1] != line.split()[:1]) + "\n"
    (setting, problem), *_ = problems(tmp_path, content + line)
    assert setting == "bridge_agents_file"
    assert text in problem


def test_problems_of_a_table_are_reported_together(tmp_path):
    content = LEAST + 'greets = 1\ninstructions = "{name}"\nkey = true\nheaders = { A = "{a}" }\n'
    found = [text.split(": ")[2] for _, text in problems(tmp_path, content)]
    assert sorted(found) == ["mine.greets", "mine.headers.A", "mine.instructions", "mine.key"]


@pytest.mark.parametrize("variables", [{"host": "h x", "key": "k"}, {"host": "h", "key": "k\nX-Other: 1"}])
def test_variable_that_no_url_or_header_takes_makes_the_agent_unavailable(tmp_path, variables):
    (tmp_path / "prompt").write_text("Be brief.")
    agent = agent_of(tmp_path, FULL, model="m", prompt=str(tmp_path / "prompt"), **variables)
    with pytest.raises(SessionError, match="a value for the "):
        agent.endpoint({}, CALL)


def test_variable_that_is_missing_is_a_problem(tmp_path):
    names = [name for name, _ in problems(tmp_path, FULL, host="h", key="k")]
    assert names == ["model", "prompt"]


@pytest.mark.parametrize("path", OF_PROTOCOL, ids=lambda path: path.stem)
def test_example_names_its_variables_and_speaks_the_dialect(path):
    directory = open_directory(["echo"], "", str(path), {})
    variables = dict.fromkeys(directory.placeholder_variables, "x")
    text = path.read_text()
    assert all(name.upper() in text.partition("\n\n")[0] for name in variables)
    [name] = [line.strip("[]") for line in text.splitlines() if line.startswith("[") and "." not in line]
    agent = open_directory([name], "", str(path), variables).describe(Resources(None, 1.0))[name]
    assert session_of(agent)["audio"]["output"]["format"] == {"type": "audio/pcmu"}
