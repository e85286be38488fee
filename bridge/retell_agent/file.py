"""
Reads and checks the file that describes a Retell agent.

A key that is not in the file keeps its value at Retell. ``false`` removes a value, since TOML has no null.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from bridge.retell_agent.models import SECTIONS, File, Table, is_removable, keys, tables_of, tag

ENGINES = {
    "llm_id": "retell-llm",
    "llm_websocket_url": "custom-llm",
    "conversation_flow_id": "conversation-flow",
}
_AUDIO = (
    "does not exist on an agent: it belonged to a request that Retell withdrew; calls are mu-law, 8 kHz, and whoever "
    "opens the session says so"
)
_WRONG_KEYS = {
    "audio_encoding": _AUDIO,
    "audio_websocket_protocol": _AUDIO,
    "sample_rate": _AUDIO,
    "model_temperature": "is out of date at Retell: temperature under [llm.model_config]",
    "model_high_priority": 'is out of date at Retell: tier = "fast" under [llm.model_config.primary]',
    "opt_out_sensitive_data_storage": "is out of date at Retell: data_storage_setting under [agent]",
    "enable_voicemail_detection": "is out of date at Retell: voicemail is set up in its dashboard",
    "type": "is not needed: the other key says it",
    "name": "is agent_name under [agent]",
    "voice": "is voice_id under [agent]",
    "prompt": "is general_prompt under [llm]",
    "tools": "is general_tools under [llm]",
}
# What is wrong, by the type of Pydantic's error, with values of its context.
_FAULTS = {
    "bool_type": "is neither true nor false",
    "dict_type": "is not a table",
    "empty": "is empty",
    "finite_number": "is not a number",
    "float_type": "is not a number",
    "greater_than_equal": "is below {ge:.9g}",
    "int_type": "is not a whole number",
    "less_than_equal": "is above {le:.9g}",
    "literal_error": "is not one of its values",
    "missing": "is missing",
    "model_attributes_type": "is not a table",
    "model_type": "is not a table",
    "string_pattern_mismatch": "is not of that form",
    "string_type": "is not text",
    "union_tag_invalid": "is not one of its values",
    "union_tag_not_found": "is missing",
    "value_error": "{error}",
}
EXAMPLE = Path(__file__).with_name("example.toml")


class AgentFileError(Exception):
    """The file is wrong; ``problems`` has a sentence for each error, which says what to change."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class AgentFile:
    """
    The file's settings under the names of Retell's API; None is sent as null.

    ``engine`` is the response engine to attach, ``llm`` the Retell LLM to create or to change: never both, and with
    neither the agent keeps its engine. ``notes`` warn about valid values with surprising effects.
    """

    agent: dict[str, Any]
    engine: dict[str, Any] | None
    llm: dict[str, Any] | None
    notes: tuple[str, ...] = ()

    def missing(self, *, new_agent: bool, new_llm: bool) -> list[str]:
        """Give the settings that Retell requires of a new agent or LLM and that the file leaves out."""
        missing = []
        if new_agent and "voice_id" not in self.agent:
            missing.append(
                "agent.voice_id: is missing: a new agent needs a voice; Retell's dashboard lists them"
            )
        if new_agent and self.engine is None and self.llm is None:
            missing.append(
                "response_engine: is missing: a new agent needs something that answers: a table [llm], or "
                "llm_id or llm_websocket_url under [response_engine]"
            )
        if new_llm and self.llm is not None and "start_speaker" not in self.llm:
            missing.append('llm.start_speaker: is missing: who speaks first, "agent" or "user"')
        return missing


def read_agent_file(path: Path, models: Collection[str] = ()) -> AgentFile:
    """
    Read and check the file.

    Args:
        path: The TOML file.
        models: The models that Retell offers; empty to accept every model.

    Raises:
        AgentFileError: With every problem found, not only the first.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise AgentFileError([f"{path}: cannot be read as UTF-8 text: {error}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise AgentFileError([f"{path}: is not TOML: {error}"]) from None
    return check_agent_file(tables, models)


def check_agent_file(tables: Mapping[str, Any], models: Collection[str] = ()) -> AgentFile:
    """
    Check the parsed file.

    Raises:
        AgentFileError: With every problem found, not only the first.
    """
    tables = {name: _with_nulls(name, table) for name, table in tables.items()}
    problems = []
    try:
        File.model_validate(tables)
    except ValidationError as error:
        problems += _problems(error, tables)
    agent, engine, llm = (_table(tables, name) for name in SECTIONS)
    problems += _tool_problems(llm or {}) + _engine_problems(engine, llm) + _model_problems(llm or {}, models)
    if problems:
        raise AgentFileError(problems)
    return AgentFile(
        agent=agent or {},
        engine=next(({"type": ENGINES[key], key: value} for key, value in (engine or {}).items()), None),
        llm=llm,
        notes=tuple(_notes(agent or {}, llm or {})),
    )


def _with_nulls(section: str, table: Any) -> Any:
    """Give the table with None for each value that ``false`` removes."""
    if section not in SECTIONS or not isinstance(table, dict):
        return table
    removable = {name for name, field in keys(SECTIONS[section]).items() if is_removable(field)}
    return {name: None if value is False and name in removable else value for name, value in table.items()}


def _table(tables: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = tables.get(name)
    return value if isinstance(value, dict) else None


def _tool_problems(llm: Mapping[str, Any]) -> list[str]:
    tools = llm.get("general_tools")
    tools = tools if isinstance(tools, list) else []
    names = [tool.get("name") if isinstance(tool, dict) else None for tool in tools]
    return [
        f"llm.general_tools[{at}].name: {name!r} is the name of two tools; each needs its own"
        for at, name in enumerate(names)
        if isinstance(name, str) and name in names[:at]
    ]


def _engine_problems(engine: Mapping[str, Any] | None, llm: Mapping[str, Any] | None) -> list[str]:
    given = [key for key in ENGINES if key in (engine or {})]
    problems = []
    if engine is not None and not given:
        problems.append(
            f"response_engine: is empty: it has one of {', '.join(ENGINES)}, or is left out for [llm]"
        )
    if len(given) > 1:
        problems.append(f"response_engine: {' and '.join(given)} exclude each other: an agent has one engine")
    if given and llm is not None:
        problems.append(
            f"response_engine.{given[0]}: excludes [llm], which describes a Retell LLM that this file makes and keeps"
        )
    return problems


def _model_problems(llm: Mapping[str, Any], models: Collection[str]) -> list[str]:
    primary = _table(_table(llm, "model_config") or {}, "primary") or {}
    given = {"llm.model": llm.get("model"), "llm.model_config.primary.model": primary.get("model")}
    problems = []
    for path, model in given.items():
        if models and isinstance(model, str) and model not in models:
            near = difflib.get_close_matches(model, models, n=3) or sorted(models)
            problems.append(f"{path}: {model!r} is not a model that Retell offers: {', '.join(near)}")
    if all(given.values()) and len(set(map(str, given.values()))) > 1:
        problems.append("llm.model: is not llm.model_config.primary.model, which wins at Retell: say it once")
    return problems


def _notes(agent: Mapping[str, Any], llm: Mapping[str, Any]) -> list[str]:
    notes = []
    if agent.get("interruption_sensitivity") == 0:
        notes.append("agent.interruption_sensitivity: at 0 no caller can ever interrupt")
    silence_ms = agent.get("end_call_after_silence_ms", 600_000)
    if silence_ms < 20_000:
        notes.append("agent.end_call_after_silence_ms: under 20 s hangs up on people who look something up")
    if agent.get("reminder_max_count") != 0 and silence_ms <= agent.get("reminder_trigger_ms", 0):
        notes.append("agent.reminder_trigger_ms: the call ends before it, by agent.end_call_after_silence_ms")
    backchannel = {"backchannel_frequency", "backchannel_words"} & agent.keys()
    if backchannel and agent.get("enable_backchannel") is False:
        notes.append("agent.backchannel_...: have no effect while enable_backchannel is false")
    if agent.get("ambient_sound", "") is None and "ambient_sound_volume" in agent:
        notes.append("agent.ambient_sound_volume: has no effect without ambient_sound")
    if llm.get("begin_message") == "" and llm.get("start_speaker") == "agent":
        notes.append('llm.begin_message: at "" the agent waits for the caller, whatever start_speaker says')
    return notes


def _problems(error: ValidationError, file: Mapping[str, Any]) -> list[str]:
    """Describe every error in a sentence that says what to change, in the order of the file."""
    problems = [_problem(details, file) for details in error.errors()]
    return [sentence for _, sentence in sorted(problems, key=lambda problem: problem[0])]


def _problem(error: ErrorDetails, file: Mapping[str, Any]) -> tuple[list[int], str]:
    """Give the sentence and its position in the file."""
    path, position, field, tables = "", list[int](), FieldInfo(), tables_of(File)
    value: Any = file
    for part in error["loc"]:
        if isinstance(part, int):
            path, value = f"{path}[{part}]", value[part]
            position.append(part)
        elif len(tables) > 1:  # Pydantic's location names the kind of a table too.
            tables = [table for table in tables if tag(table) == part]
        else:
            path = f"{path}.{part}" if path else part
            position.append([*value, part].index(part))
            value = value.get(part)
            if tables and part in keys(tables[0]):
                field = keys(tables[0])[part]
                tables = tables_of(field.annotation)
    kind = error["type"]
    if kind == "extra_forbidden":
        return position, f"{path}: {_unknown(str(error['loc'][-1]), tables[0])}"
    if kind == "list_type":
        return position, f"{path}: is not a list of tables [[{path}]]"
    if kind == "sentence":
        return position, f"{path}: {error['msg']}"
    context = error.get("ctx", {})
    values = context.get("expected", "").replace("'", "")
    if kind.startswith("union_tag"):
        path, value, values = f"{path}.type", value.get("type"), ", ".join(map(tag, tables))
    elif kind == "int_type" and not (isinstance(value, float) and math.isfinite(value)):
        kind = "float_type"
    elif kind == "string_pattern_mismatch" and not value.strip():
        kind = "empty"
    fault = _FAULTS[kind].format(**context)
    is_shown = field.repr and fault not in ("is missing", "is not a table")
    about = f"it is {values}; {field.description}" if values else field.description
    return position, f"{path}: {f'{shown(value)} ' if is_shown else ''}{fault}: {about}"


def _unknown(name: str, table: type[Table]) -> str:
    if table in (File, *SECTIONS.values()):
        if name in _WRONG_KEYS:
            return _WRONG_KEYS[name]
        for section, other in SECTIONS.items():
            if name in keys(other):
                return f"belongs under [{section}]"
    close = difflib.get_close_matches(name, keys(table), n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"unknown key{hint} (--example shows the known ones; the rest is set at Retell)"


def shown(value: Any) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"
