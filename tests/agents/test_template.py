"""Placeholders: which there are, what is filled in, and what stays as it is."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agents import template

VALUES = {"from": "+1555", "form.CallerName": "Zoë", "session.id": "s-1", "env.KEY": "secret"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("call of {from}", "call of +1555"),
        ("{form.CallerName}/{session.id}", "Zoë/s-1"),
        ("{form.CallerName!}", "Zoë"),
        ("{value.missing}|{param.missing}|{form.missing}", "||"),
        ("{unknown} {session.other}", "{unknown} {session.other}"),
        ("{{from}}", "{{from}}"),
        ('{"a":{"from":{from}}}', '{"a":{"from":+1555}}'),
        ("{} {1} {a b} { from }", "{} {1} {a b} { from }"),
    ],
)
def test_text_is_filled(text, filled):
    assert template.fill(text, VALUES) == filled


@given(st.text(max_size=40))
def test_value_is_never_filled_again(value):
    for hostile in (value, f"{{env.KEY}}{value}", f"{value}{{from}}"):
        values = {**VALUES, "from": hostile}
        assert template.fill("<{from}>", values) == f"<{hostile}>"
        assert orjson.loads(template.fill_json('{"a":"{from}","b":{from}}', values.get)) == {
            "a": hostile,
            "b": hostile,
        }


def test_missing_values_of_a_call_are_empty_in_json():
    filled = template.fill_json('{"a":"{value.x}","b":{value.x},"c":"{session.x}"}', {}.get)
    assert orjson.loads(filled) == {"a": "", "b": "", "c": "{session.x}"}


@pytest.mark.parametrize("text", ["a\r\nX: 1", "\x00", "é", "a b"])
def test_what_others_choose_cannot_leave_its_place_in_a_url_or_a_header(text):
    for value in (template.in_url({"from": text})["from"], template.in_header({"from": text})["from"]):
        assert value.isascii()
        assert value.isprintable()
        assert " " not in value
    assert template.in_url({"from": "a/b?c#d&e"})["from"] == "a%2Fb%3Fc%23d%26e"


def test_names_are_found_with_what_they_need():
    texts = ["{env.KEY}{file.PROMPT}", "{value.tier!} {form.From} {call_sid} {{to}}"]
    names = {"env.KEY", "file.PROMPT", "value.tier", "form.From", "call_sid"}
    assert template.names_in(texts) == names
    assert template.required_in(texts) == {"value.tier"}
    assert template.of_call(names) == {"value.tier", "form.From"}
    assert template.variables_in(texts) == {"key", "prompt"}


def test_placeholder_that_means_nothing_is_named_with_the_known_ones():
    (problem,) = template.unknown_names(["{evn.KEY} {from} {session.id}"], {"from", "session."})
    assert problem == (
        "unknown placeholder {evn.KEY}; available: {from}, {env.NAME}, {file.NAME}, {form.NAME}, {param.NAME}, "
        "{session.NAME}, {value.NAME}"
    )
    (problem,) = template.unknown_names(["{form}"], {"from"})
    assert problem.startswith("unknown placeholder {form}; available: {from}, {env.NAME}")


def test_values_of_the_process_are_read_and_what_is_wrong_is_named(tmp_path):
    (tmp_path / "prompt").write_text("Be kind.\n")
    (tmp_path / "bytes").write_bytes(b"\xff")
    variables = {
        "key": "k",
        "prompt": str(tmp_path / "prompt"),
        "bad": str(tmp_path / "bytes"),
        "no": "/nowhere",
    }
    names = {"env.KEY", "env.key", "file.PROMPT", "file.BAD", "file.NO", "env.NONE", "from", "form.X"}
    values, problems = template.process_values(variables, names)
    assert values == {"env.KEY": "k", "env.key": "k", "file.PROMPT": "Be kind."}
    assert problems == [
        ("none", "is missing"),
        ("bad", "must name a file of UTF-8 text"),
        ("no", "must name a file: No such file or directory"),
    ]
