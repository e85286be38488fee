"""The page of tables: it has every key with its type and default, and what `bridge agents check` prints."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from click.testing import CliRunner
from pages import DOCS, blocks_of, tables_of
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from bridge.agents import described, described_dial
from bridge.agents.described_realtime import RealtimeTable
from bridge.agents.places import Match, read_paths
from bridge.agents.places import Path as Place
from bridge.agents.table_request import SessionRequest
from bridge.cli import main

PAGE = DOCS / "agents" / "file.md"

MODELS: dict[str, type[BaseModel]] = {
    "The socket": described.Description,
    "Audio": described.Description,
    "Messages of the agent": described.Description,
    "Messages to the agent": described.Description,
    "`from_agent`": described.FromAgent,
    "`transfer`": described.TransferRequest,
    "`transcript`": described.Transcript,
    "`answers`": described.Exchange,
    "`session`": SessionRequest,
    "A service with OpenAI's protocol": RealtimeTable,
    "An agent that Twilio reaches by itself": described_dial.Dial,
    "`twiml_from`": described_dial.TwimlRequest,
}


WORDS = {
    str: "text",
    bool: "`true` or `false`",
    int: "whole number",
    float: "number",
    Match: "match",
    dict[str, str]: "table of texts",
    dict[str, Any]: "table",
}


def rows_of_keys() -> Iterator[tuple[type[BaseModel], list[str]]]:
    for heading, rows in tables_of(PAGE).items():
        if heading in MODELS:
            # The table of the kinds of `dial` has three columns.
            yield from ((MODELS[heading], row) for row in rows if len(row) == 4 and row[0].startswith("`"))


def fields_of(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def test_tables_of_keys_have_every_key_once():
    for model in set(MODELS.values()):
        keys = [row[0].strip("`") for of, row in rows_of_keys() if of is model]
        assert sorted(keys) == sorted(fields_of(model)), model


def test_tables_of_keys_have_the_types_and_defaults_of_the_models():
    for model, (key, kind, default, _) in rows_of_keys():
        field = fields_of(model)[key.strip("`")]
        assert re.sub(r"\[(.*)\]\(.*\)", r"\1", kind) == words_of(field.annotation, field.metadata), (
            model,
            key,
        )
        assert default == default_of(field), (model, key)


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.default:
        case bool() as value:
            return f"`{str(value).lower()}`"
        case None | "" | [] | {}:
            return "–"
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{field.default}`"


def words_of(kind: Any, validators: Sequence[Any] = ()) -> str:
    """The type of a key in words, from its annotation."""
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        return words_of(arguments[0], arguments[1:])
    if get_origin(kind) in (Union, types.UnionType):
        kinds = [each for each in arguments if each is not types.NoneType]
        is_one = len(kinds) == 1
        return words_of(kinds[0], validators) if is_one else '`true`, `false`, `"to_agent"` or `"from_agent"`'
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if get_origin(kind) is list:
        return {"match": "matches"}.get(word := words_of(arguments[0]), f"{word}s")
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "table"
    if kind is Place:
        is_one = all(getattr(validator, "func", None) is not read_paths for validator in validators)
        return "place" if is_one else "places"
    return WORDS.get(kind) or ("matches by kind" if get_origin(kind) is dict else "values at places")


def test_check_prints_what_the_page_shows(tmp_path):
    [table] = [block for block in blocks_of(PAGE, "toml") if block.startswith("[acme]")]
    [sample] = blocks_of(PAGE, "jsonl")
    (tmp_path / "agents.toml").write_text(table)
    (tmp_path / "sample.jsonl").write_text(sample)
    arguments = ["agents", "check", str(tmp_path / "agents.toml"), "--sample", str(tmp_path / "sample.jsonl")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1
    assert done.output in blocks_of(PAGE, "text")
