"""The tables of the agents file: three kinds, each with its own model."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from bridge.agents.agent import Agent, Resources
from bridge.agents.described import Description
from bridge.agents.described_agent import describe_socket
from bridge.agents.described_dial import DialDescription, describe_dial
from bridge.agents.described_problems import TableProblem, read_checked, read_description
from bridge.agents.described_realtime import RealtimeTable

Table = Description | RealtimeTable | DialDescription


class OfModule(BaseModel):
    """What the file may say of an agent that is built in or installed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    disabled: bool = Field(strict=True, description="true or false")


def is_of_module(content: object) -> bool:
    """Whether a table describes no agent, and is `OfModule`."""
    return isinstance(content, dict) and content.keys() == {"disabled"}


def read_table(content: object) -> tuple[Table | None, list[TableProblem]]:
    """Read a table by its kind: ``dial``, a ``protocol``, or a whole description. None comes with all problems."""
    if isinstance(content, dict) and "dial" in content:
        least_dial = {"dial": {"sip": "sip:h"}}
        return read_checked(DialDescription, content, DialDescription.contradictions, least_dial)
    if isinstance(content, dict) and "protocol" in content:
        least = {"protocol": "openai-realtime", "url": "wss://h"}
        return read_checked(RealtimeTable, content, RealtimeTable.contradictions, least)
    return read_description(content)


def describe_table(table: Table, resources: Resources) -> Agent:
    """Make the agent of a table."""
    match table:
        case RealtimeTable():
            return table.describe(resources)
        case DialDescription():
            return describe_dial(table, resources)
        case Description():
            return describe_socket(table, resources)
