"""OpenAI's agent: its settings, the session that they make, and a default model that OpenAI keeps."""

from __future__ import annotations

import inspect
import re
import typing
from typing import Any

import orjson
import pytest
from openai.types.realtime import RealtimeSessionCreateRequest

from bridge.agents.agent import CallInfo, Resources, StreamInfo
from bridge.agents.directory import DirectoryError, open_directory
from bridge.agents.vendors.openai import AGENT, OpenAiSettings

CALL = CallInfo("CA", "+14155550123", "+14155550100", {"form.CallerName": "Ada {env.KEY}"})


def session_of(resources: Resources | None = None, **settings: str) -> dict[str, Any]:
    """The session object that a call's dialogue sends."""
    agent = AGENT.describe(
        OpenAiSettings(openai_api_key="key", **settings), resources or Resources(None, 1.0)
    )
    dialogue = agent.dialogue(StreamInfo(CALL, "AC", "MZ", {}, True), lambda: 1)
    [update] = dialogue.opening()
    return orjson.loads(update)["session"]


def test_default_model_is_one_that_openai_does_not_call_deprecated():
    """The SDK's types list the models, and name the deprecated ones in the text behind the field."""
    source = inspect.getsource(RealtimeSessionCreateRequest)
    [field] = re.findall(r'\n    model: .*?""".*?"""', source, re.DOTALL)
    deprecated = set(re.findall(r'"([\w.-]+)"', field.partition("Deprecated values:")[2]))
    assert "gpt-realtime" in deprecated
    default = OpenAiSettings.model_fields["openai_realtime_model"].default
    kinds = typing.get_args(RealtimeSessionCreateRequest.model_fields["model"].annotation)
    assert default in {name for kind in kinds for name in typing.get_args(kind)}
    assert default not in deprecated


def test_agent_greets_and_hangs_up_unless_it_is_told_otherwise():
    settings = OpenAiSettings(openai_api_key="key")
    assert settings.openai_realtime_greets
    assert [tool["name"] for tool in session_of()["tools"]] == ["hang_up"]
    transfers = Resources(None, 1.0, may_transfer=True)
    assert [tool["name"] for tool in session_of(transfers)["tools"]] == ["hang_up", "transfer_call"]
    assert "tools" not in session_of(transfers, openai_realtime_tools="0")


def test_instructions_take_values_of_the_call_and_of_the_process_once():
    text = "Call {form.CallerName!} at {from}. {file.PROMPT}"
    resources = Resources(None, 1.0, values={"file.PROMPT": "Be {from}."})
    assert session_of(resources, openai_realtime_instructions=text)["instructions"] == (
        "Call Ada {env.KEY} at +14155550123. Be {from}."
    )
    agent = AGENT.describe(OpenAiSettings(openai_api_key="key", openai_realtime_instructions=text), resources)
    assert agent.names == agent.required == {"form.CallerName"}


def test_session_file_is_merged_into_the_session(tmp_path):
    path = tmp_path / "session.json"
    path.write_text('{"speed": 1.1, "audio": {"output": {"format": {"type": "audio/pcm", "rate": 24000}}}}')
    session = session_of(openai_realtime_session_file=str(path), openai_realtime_voice="marin")
    assert session["speed"] == 1.1
    assert session["audio"]["output"] == {"format": {"type": "audio/pcmu"}, "voice": "marin"}


def test_session_file_takes_values_of_the_call(tmp_path):
    path = tmp_path / "session.json"
    path.write_text(
        '{"prompt": {"id": "p1", "variables": {"caller": "{from}", "name": "{form.CallerName!}"}}}'
    )
    prompt = session_of(openai_realtime_session_file=str(path))["prompt"]
    assert prompt["variables"]["caller"] == "+14155550123"
    settings = {"openai_api_key": "key", "openai_realtime_session_file": str(path)}
    agent = AGENT.describe(OpenAiSettings.model_validate(settings), Resources(None, 8))
    assert agent.required == {"form.CallerName"}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "must be a JSON file: No such file or directory"),
        ("{", "is not JSON: "),
        ("[]", "must hold a JSON object"),
    ],
)
def test_session_file_that_is_wrong_is_a_problem(tmp_path, content, problem):
    path = tmp_path / "canary.json"
    if content is not None:
        path.write_text(content)
    variables = {"openai_api_key": "key", "openai_realtime_session_file": str(path)}
    with pytest.raises(DirectoryError) as caught:
        open_directory(["openai"], "", "", variables)
    [(setting, text)] = caught.value.problems
    assert setting == "openai_realtime_session_file"
    assert text.startswith(f"OPENAI_REALTIME_SESSION_FILE: {problem}")
    assert "canary" not in text


def test_instructions_with_an_unknown_placeholder_are_a_problem():
    variables = {"openai_api_key": "key", "openai_realtime_instructions": "Hello {name}"}
    with pytest.raises(DirectoryError, match=r"unknown placeholder \{name\}"):
        open_directory(["openai"], "", "", variables)
