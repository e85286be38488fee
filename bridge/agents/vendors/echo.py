"""The built-in agent that needs no account and no socket: each frame goes back once, unchanged, in order, at once."""

from __future__ import annotations

from bridge.agents.agent import Agent, AgentSettings, Resources, no_session


class Needs(AgentSettings):
    """Nothing."""


def describe(needs: Needs, tools: Resources) -> Agent:
    """Describe the agent."""
    return Agent(name="echo", open_session=no_session)
