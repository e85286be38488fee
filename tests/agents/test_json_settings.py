"""Settings that are JSON with placeholders: what is refused at start, and what a call makes of them."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from bridge.agents.agent import CallInfo, Resources
from bridge.agents.json_settings import JsonFile, JsonObject, filled
from bridge.agents.setting_types import template_texts


class Settings(BaseModel):
    variables: JsonObject = ""
    agent_file: JsonFile = ""


def problem(**given: str) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(given)
    [error] = caught.value.errors()
    return error["msg"].removeprefix("Value error, ")


def test_file_is_read_and_its_placeholders_are_found(tmp_path):
    path = tmp_path / "agent.json"
    path.write_text('{"prompt":"Of {from}, {env.SHOP}."}', encoding="utf-8")
    settings = Settings.model_validate({"variables": '{"a": {form.X}}', "agent_file": str(path)})
    assert template_texts(settings) == ['{"a": {form.X}}', '{"prompt":"Of {from}, {env.SHOP}."}']


@pytest.mark.parametrize("hostile", ["{env.KEY}", '"}, "b": {"', "\\", "Zoë\n", "{from}"])
def test_value_of_a_call_adds_exactly_its_characters(hostile):
    call = CallInfo("CA1", "+1", "+2", {"form.CallerName": hostile})
    resources = Resources(None, 8, {"env.KEY": "secret"})
    template = '{"name": "<{form.CallerName}>", "bare": {form.CallerName}, "{form.CallerName}": 1}'
    assert filled(template, resources, call) == {"name": f"<{hostile}>", "bare": hostile, hostile: 1}


def test_empty_setting_is_an_empty_object():
    assert filled("", Resources(None, 8), CallInfo("CA1", "+1", "+2")) == {}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a": ', "is not JSON: unexpected end of data: line 1 column 7 (char 6)"),
        ("[1]", "must hold a JSON object"),
        ('"{from}"', "must hold a JSON object"),
        ('{"a":' * 253 + "1" + "}" * 253, "cannot be written as JSON: Recursion limit reached"),
    ],
)
def test_what_is_no_object_is_refused(text, shown):
    assert problem(variables=text) == shown


def test_unknown_placeholder_is_refused_with_the_known_ones():
    assert problem(variables='{"a": "{caller}"}').startswith(
        "unknown placeholder {caller}; available: {call_sid}"
    )


def test_what_is_no_file_is_refused_without_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    missing = "must be a JSON file: No such file or directory"
    assert problem(agent_file="secret") == f"{missing}; a relative path begins at {tmp_path}"
    assert problem(agent_file=str(tmp_path / "secret")) == missing
    (tmp_path / "bytes").write_bytes(b"\xff")
    assert problem(agent_file=str(tmp_path / "bytes")) == "must be a file of UTF-8 text"
