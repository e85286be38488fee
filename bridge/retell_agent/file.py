"""
The file that describes a Retell agent: read, and checked in whole; nothing here sends anything.

A key that is not in the file is left as it is at Retell; ``false`` takes away what may be taken away, since TOML has
no null.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.retell_agent.checks import check_table, unknown
from bridge.retell_agent.keys import SECTIONS, WRONG_KEYS

ENGINES = {
    "llm_id": "retell-llm",
    "llm_websocket_url": "custom-llm",
    "conversation_flow_id": "conversation-flow",
}
EXAMPLE = Path(__file__).with_name("example.toml")


class AgentFileError(Exception):
    """A file that cannot be used; ``problems`` are sentences that say what to change."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class AgentFile:
    """
    What the file asks for, in the words of Retell's API; None is to be sent as null.

    ``engine`` is the response engine to attach, ``llm`` the Retell LLM to make or to change: never both, and with
    neither the agent keeps what it has. ``notes`` tell of values that are allowed and may surprise.
    """

    agent: dict[str, Any]
    engine: dict[str, Any] | None
    llm: dict[str, Any] | None
    notes: tuple[str, ...] = ()

    def missing(self, *, new_agent: bool, new_llm: bool) -> list[str]:
        """What Retell requires of what does not exist yet, and the file does not say."""
        told = []
        if new_agent and "voice_id" not in self.agent:
            told.append(
                "agent.voice_id: is missing: a new agent needs a voice; Retell's dashboard lists them"
            )
        if new_agent and self.engine is None and self.llm is None:
            told.append(
                "response_engine: is missing: a new agent needs something that answers: a table [llm], or "
                "llm_id or llm_websocket_url under [response_engine]"
            )
        if new_llm and self.llm is not None and "start_speaker" not in self.llm:
            told.append('llm.start_speaker: is missing: who speaks first, "agent" or "user"')
        return told


def read_agent_file(path: Path, models: Collection[str] = ()) -> AgentFile:
    """
    Read and check the file.

    Args:
        path: Of the file.
        models: The models that Retell is known to offer; empty if that is not known here.

    Raises:
        AgentFileError: With every problem found, not only the first.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise AgentFileError([f"{path}: cannot be read as UTF-8 text: {error}"]) from None
    except tomllib.TOMLDecodeError as error:
        raise AgentFileError([f"{path}: is no TOML: {error}"]) from None
    return check_agent_file(tables, models)


def check_agent_file(tables: Mapping[str, Any], models: Collection[str] = ()) -> AgentFile:
    """
    Check what the TOML says.

    Raises:
        AgentFileError: With every problem found, not only the first.
    """
    problems = []
    for name, value in tables.items():
        if name not in SECTIONS:
            problems.append(f"{name}: {_elsewhere('').get(name) or unknown(name, SECTIONS)}")
        elif not isinstance(value, dict):
            problems.append(f"{name}: is no table: it is written [{name}]")
        else:
            problems += check_table(name, value, SECTIONS[name], _elsewhere(name))
    agent, engine, llm = (_table(tables, name) for name in ("agent", "response_engine", "llm"))
    problems += _engine_problems(engine, llm)
    problems += _model_problems(llm or {}, models)
    if problems:
        raise AgentFileError(problems)
    return AgentFile(
        agent=_with_nulls("agent", agent or {}),
        engine=next(({"type": ENGINES[key], key: value} for key, value in (engine or {}).items()), None),
        llm=None if llm is None else _with_nulls("llm", llm),
        notes=tuple(_notes(agent or {}, llm or {})),
    )


def _elsewhere(section: str) -> dict[str, str]:
    """What to say of keys that do not belong in a section."""
    others = [(other, keys) for other, keys in SECTIONS.items() if other != section]
    return {name: f"belongs under [{other}]" for other, keys in others for name in keys} | WRONG_KEYS


def _table(tables: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    value = tables.get(name)
    return value if isinstance(value, dict) else None


def _engine_problems(engine: Mapping[str, Any] | None, llm: Mapping[str, Any] | None) -> list[str]:
    given = [key for key in ENGINES if key in (engine or {})]
    told = []
    if engine is not None and not given:
        told.append(
            f"response_engine: is empty: it has one of {', '.join(ENGINES)}, or is left out for [llm]"
        )
    if len(given) > 1:
        told.append(f"response_engine: {' and '.join(given)} exclude each other: an agent has one engine")
    if given and llm is not None:
        told.append(
            f"response_engine.{given[0]}: excludes [llm], which describes a Retell LLM that this file makes and keeps"
        )
    return told


def _model_problems(llm: Mapping[str, Any], models: Collection[str]) -> list[str]:
    config = _table(llm, "model_config") or {}
    given = {
        "llm.model": llm.get("model"),
        "llm.model_config.primary.model": (_table(config, "primary") or {}).get("model"),
    }
    told = []
    for path, model in given.items():
        if models and isinstance(model, str) and model not in models:
            near = difflib.get_close_matches(model, models, n=3) or sorted(models)
            told.append(f"{path}: {model!r} is no model that Retell offers: {', '.join(near)}")
    if all(given.values()) and len(set(map(str, given.values()))) > 1:
        told.append("llm.model: is not llm.model_config.primary.model, which wins at Retell: say it once")
    return told


def _with_nulls(section: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """The table with None for each value that false takes away."""
    keys = SECTIONS[section]
    return {name: None if keys[name].removable and value is False else value for name, value in table.items()}


def _notes(agent: Mapping[str, Any], llm: Mapping[str, Any]) -> list[str]:
    told = []
    if agent.get("interruption_sensitivity") == 0:
        told.append("agent.interruption_sensitivity: at 0 no caller can ever interrupt")
    silence_ms = agent.get("end_call_after_silence_ms", 600_000)
    if silence_ms < 20_000:
        told.append("agent.end_call_after_silence_ms: under 20 s hangs up on people who look something up")
    if agent.get("reminder_max_count") != 0 and silence_ms <= agent.get("reminder_trigger_ms", 0):
        told.append("agent.reminder_trigger_ms: the call ends before it, by agent.end_call_after_silence_ms")
    if agent.get("enable_backchannel") is False and {"backchannel_frequency", "backchannel_words"} & set(
        agent
    ):
        told.append("agent.backchannel_...: have no effect while enable_backchannel is false")
    if agent.get("ambient_sound") is False and "ambient_sound_volume" in agent:
        told.append("agent.ambient_sound_volume: has no effect without ambient_sound")
    if llm.get("begin_message") == "" and llm.get("start_speaker") == "agent":
        told.append('llm.begin_message: at "" the agent waits for the caller, whatever start_speaker says')
    return told
