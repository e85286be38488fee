"""``bridge retell-agent``: creates or updates a Retell agent from a file, or shows the differences."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dotenv import dotenv_values

from bridge.retell_agent.difference import Change, described, differences
from bridge.retell_agent.file import AgentFile, AgentFileError, read_agent_file, shown
from bridge.retell_agent.models import check_url

if TYPE_CHECKING:
    from bridge.retell_agent.api import Api

API_URL = "https://api.retellai.com"
NEW_LLM = {"type": "retell-llm", "llm_id": "(a new one)"}


@dataclass(frozen=True, slots=True)
class Access:
    """The API and the agent. ``source`` names the setting that the id is from; without an id the name decides."""

    key: str
    api_url: str
    agent_id: str
    source: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes to send. ``agent`` and ``llm`` are Retell's present ones, None where one is to be created."""

    agent: dict[str, Any] | None
    llm: dict[str, Any] | None
    changes: list[Change]
    notes: tuple[str, ...]

    def fields(self, section: str) -> dict[str, Any]:
        """Give the values to send for a section of the file."""
        return {change.key: change.new for change in self.changes if change.section == section}

    @property
    def needs_draft(self) -> bool:
        """Retell refuses changes to a published version; an agent and its LLM get a draft together."""
        is_locked = bool(self.agent and self.agent.get("is_published") and self.changes)
        return is_locked or bool(self.llm and self.llm.get("is_published") and self.fields("llm"))


def run(file: Path, *, agent_id: str | None = None, dry_run: bool = False, publish: bool = False) -> int:
    """
    Read the file, find the agent, and create or update it.

    Args:
        file: The TOML file.
        agent_id: The agent; else ``RETELL_AGENT_ID``, else the agent with the file's name, else a new one.
        dry_run: Only show the differences.
        publish: Publish the version too.

    Returns:
        0 on success, 1 if a request failed, 2 if the file or the settings are wrong.
    """
    try:
        from bridge.retell_agent.api import Api, ApiError, known_models
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("retell", "httpx"):
            raise
        return _fail(1, "retell-sdk is not installed: pip install 'voice-bridge[retell]'")
    try:
        access, asked = _read(file, agent_id or "", known_models())
        with closing(Api(access.key, access.api_url)) as api:
            plan = _plan(api, access, asked)
            return _carry_out(api, access, plan, dry_run=dry_run, publish=publish)
    except AgentFileError as error:
        return _fail(2, "nothing was sent; this is missing or wrong:", error.problems)
    except ApiError as error:
        return _fail(1, str(error))


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


def _fail(code: int, line: str, details: Iterable[str] = ()) -> int:
    for text in (line, *(f"  - {detail}" for detail in details)):
        print(text, file=sys.stderr)  # noqa: T201
    return code


def _read(file: Path, agent_id: str, models: frozenset[str]) -> tuple[Access, AgentFile]:
    variables = {name: value for name, value in {**dotenv_values(".env"), **os.environ}.items() if value}
    access = Access(
        key=variables.get("RETELL_API_KEY", ""),
        api_url=variables.get("RETELL_API_URL", API_URL),
        agent_id=agent_id or variables.get("RETELL_AGENT_ID", ""),
        source="--agent-id" if agent_id else "RETELL_AGENT_ID",
    )
    problems = []
    try:
        check_url(access.api_url, "https", "http")
    except ValueError as error:
        problems.append(f"RETELL_API_URL: {shown(access.api_url)} {error}: where Retell's API is")
    if not re.fullmatch(r"[\x21-\x7e]+", access.key):
        wrong = "has characters that no key has" if access.key else "is missing"
        problems.append(f"RETELL_API_KEY: {wrong}: from Retell's dashboard, in the environment or in .env")
    try:
        asked = read_agent_file(file, models)
    except AgentFileError as error:
        raise AgentFileError(problems + error.problems) from None
    if not access.agent_id and "agent_name" not in asked.agent:
        problems.append("agent.agent_name: is missing: it or --agent-id says which agent is meant")
    if problems:
        raise AgentFileError(problems)
    return access, asked


def _plan(api: Api, access: Access, asked: AgentFile) -> Plan:
    agent = _find(api, access, asked)
    engine = (agent or {}).get("response_engine") or {}
    is_retell_llm = asked.llm is not None and engine.get("type") == "retell-llm"
    llm = api.llm(engine) if is_retell_llm else None
    missing = asked.missing(new_agent=agent is None, new_llm=llm is None)
    if missing:
        raise AgentFileError(missing)
    wanted_engine = asked.engine or (NEW_LLM if asked.llm is not None and llm is None else None)
    wanted = asked.agent | ({"response_engine": wanted_engine} if wanted_engine else {})
    changes = differences("agent", wanted, agent or {}) + differences("llm", asked.llm or {}, llm or {})
    return Plan(agent, llm, changes, asked.notes)


def _find(api: Api, access: Access, asked: AgentFile) -> dict[str, Any] | None:
    if access.agent_id:
        return api.agent(access.agent_id, access.source)
    name = asked.agent["agent_name"]
    found = api.find(name)
    if len(found) > 1:
        problem = f"{len(found)} agents have it: say which with --agent-id ({', '.join(found)})"
        raise AgentFileError([f"agent.agent_name: {problem}"])
    return api.agent(found[0], "agent_name") if found else None


def _carry_out(api: Api, access: Access, plan: Plan, *, dry_run: bool, publish: bool) -> int:
    _say(_title(access, plan.agent))
    for change in plan.changes:
        _say(f"  {described(change)}")
    for note in plan.notes:
        _say(f"note: {note}")
    is_published = plan.agent is not None and plan.agent.get("is_published") and not plan.changes
    is_to_publish = publish and not is_published
    if not plan.changes:
        _say("nothing differs")
    if dry_run or not (plan.changes or is_to_publish):
        _say("nothing was sent")
        agent = plan.agent
    else:
        agent = _send(api, plan)
        _tell_version(api, agent, is_to_publish)
    if agent is not None:
        _say("the bridge uses this agent with:")
        _say(f"  RETELL_AGENT_ID={agent['agent_id']}")
    return 0


def _tell_version(api: Api, agent: dict[str, Any], is_to_publish: bool) -> None:
    version = int(agent["version"])
    if is_to_publish:
        api.publish(str(agent["agent_id"]), version)
        _say(f"published version {version}")
    elif not agent.get("is_published"):
        _say(f"version {version} is a draft; --publish, or Retell's dashboard, publishes it")


def _title(access: Access, agent: dict[str, Any] | None) -> str:
    if agent is None:
        return "a new agent:"
    name = json.dumps(agent.get("agent_name") or "", ensure_ascii=False)
    by = f"by {access.source}" if access.agent_id else "by its name"
    state = "published" if agent.get("is_published") else "a draft"
    return f"the agent {agent['agent_id']} {name}, found {by}, version {agent['version']}, {state}:"


def _send(api: Api, plan: Plan) -> dict[str, Any]:
    """Send the changes, those of the LLM first, and give the changed agent."""
    agent = plan.agent
    if agent is not None and plan.needs_draft:
        agent = api.make_draft(str(agent["agent_id"]), int(agent["version"]))
        _say(f"opened version {agent['version']}: what is published cannot be changed")
    fields, llm_fields = plan.fields("agent"), plan.fields("llm")
    llm_id = ""
    if fields.get("response_engine") is NEW_LLM:
        llm_id = str(api.make_llm(llm_fields)["llm_id"])
        fields["response_engine"] = {"type": "retell-llm", "llm_id": llm_id}
        _say(f"made the Retell LLM {llm_id}")
    elif agent is not None and llm_fields:
        api.change_llm(agent["response_engine"], llm_fields)
        _say(f"changed the Retell LLM {agent['response_engine']['llm_id']}")
    if not fields and agent is not None:
        return agent
    try:
        if agent is None:
            agent = api.make_agent(fields)
            _say(f"made the agent {agent['agent_id']}")
        else:
            agent = api.change_agent(str(agent["agent_id"]), int(agent["version"]), fields)
            _say(f"changed the agent {agent['agent_id']}")
    except Exception:
        if llm_id:
            kept = f"the Retell LLM {llm_id} is left without an agent"
            _say(f"{kept}: delete it, or use it as response_engine.llm_id")
        raise
    return agent
