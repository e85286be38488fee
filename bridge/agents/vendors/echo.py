"""Answers callers with their own voice: each frame goes back once, unchanged and in order. It needs no service."""

from __future__ import annotations

from bridge.agents.agent import Agent, AgentModule, AgentSettings, Resources, no_session


class EchoSettings(AgentSettings):
    """The echo needs none."""


def _describe(settings: EchoSettings, resources: Resources) -> Agent:
    return Agent(open_session=no_session)


AGENT = AgentModule(EchoSettings, _describe)
