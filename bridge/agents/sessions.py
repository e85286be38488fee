"""Opens a session for a call with the first available agent of its chain."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
import structlog

from bridge.agents.agent import Agent, CallInfo, Resources, SessionError
from bridge.agents.agent_breaker import Stage
from bridge.agents.directory import Directory
from bridge.agents.failure_hints import NO_VALUE, hint_of
from bridge.agents.hand_over import HandOver
from bridge.agents.health import AgentHealth
from bridge.agents.max_calls import key_of_agent, key_of_route
from bridge.agents.routing import Route
from bridge.agents.session_request import on_refusal
from bridge.agents.slots import Slots
from bridge.agents.succession import FailureKind

log = structlog.get_logger()

# Of all values that a call's agents use, as JSON: they travel, sealed, in URLs, which then have some 3 KB of the 8 KiB
# that the bridge reads, and in the parameters of the stream.
VALUES_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Session:
    """
    A call's session with its agents.

    Attributes:
        agents: Names in the order in which they are tried; the first one gave the credentials.
        credentials: What that agent's service answered; secrets among them.
        values: The values of the call that its agents use, by the name of their placeholder.
        route: The name of the call's route; empty if an older version of the bridge opened the session.
    """

    agents: tuple[str, ...]
    credentials: dict[str, str]
    values: dict[str, str] = field(default_factory=dict)
    route: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Session:
        """
        The session that ``dataclasses.asdict`` made these fields of, also after a way through JSON.

        Fields that another version has added are ignored.

        Raises:
            TypeError: A field without a default is missing.
        """
        session = cls(**{name: fields[name] for name in cls.__slots__ if name in fields})
        return cls(tuple(session.agents), dict(session.credentials), dict(session.values), session.route)


class Sessions:
    """
    Opens sessions.

    Args:
        resources: What the process lends agents; ``session_s`` bounds all attempts for one call together.
        health: Which agents fail; it follows those in use.
        slots: How many calls agents and routes have; it keeps the limits in use.
    """

    def __init__(self, directory: Directory, resources: Resources, health: AgentHealth, slots: Slots) -> None:
        self._resources = resources
        self.health = health
        self.slots = slots
        # Agents in use that the file disables, so that each change is logged once.
        self._disabled: frozenset[str] = frozenset()
        self.replace(directory)

    def replace(self, directory: Directory) -> None:
        """Use another directory for new calls; running calls keep their agents."""
        agents = {
            name: agent
            for name, agent in directory.describe(self._resources).items()
            if name not in directory.disabled
        }
        self._directory, self._agents = directory, agents
        for name in sorted(directory.disabled - self._disabled):
            log.warning("agent disabled, calls pass it over", agent=name)
        for name in sorted((self._disabled - directory.disabled) & agents.keys()):
            log.info("agent enabled, calls try it again", agent=name)
        self._disabled = directory.disabled
        self.health.use(agents)
        self.slots.use(directory.limits)

    def agent(self, name: str) -> Agent | None:
        """The agent of this name; None if a reload has removed or disabled it."""
        return self._agents.get(name)

    @property
    def names(self) -> set[str]:
        """All agents in use, disabled ones too."""
        return self._directory.names

    def is_known(self, name: str) -> bool:
        """Whether an agent of this name is in use, disabled or not."""
        return name in self.names

    def route(self, call: CallInfo) -> Route:
        """The route that a call has, or gets now because it has none or a reload has removed it."""
        return self._directory.named(call.route) or self._directory.route(
            call.to_number, call.from_number, datetime.now(UTC)
        )

    async def open(self, call: CallInfo, chain: Sequence[str], spent_s: float = 0.0) -> Session:
        """
        Ask the agents of a chain in turn; those that fail lately are asked behind the others.

        Args:
            spent_s: What the question who takes the call has used of the time for a session.

        Raises:
            SessionError: No agent of the chain is available.
        """
        if not await self.slots.take(call.call_sid, key_of_route(call.route)):
            raise SessionError(f"route {call.route} has all the calls that it may have")
        reasons: list[str] = []
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._resources.session_s - spent_s
        # Places in the chain.
        left, failing = deque(range(len(chain))), deque[int]()
        while left or failing:
            is_last_resort = not left
            n = (left or failing).popleft()
            name = chain[n]
            agent = self.agent(name)
            if agent is None:
                reasons.append(f"{name}: {'disabled' if name in self._disabled else 'removed by a reload'}")
                continue
            values = self._values_for(chain[n:], call)
            is_able = agent.required <= values.keys()
            if is_able and not self.health.admits(name, call.call_sid, is_last_resort=is_last_resort):
                if is_last_resort:
                    self.health.on_passed_over([name])
                    reasons.append(f"{name}: fails lately")
                else:
                    failing.append(n)
                continue
            if is_able and not await self.slots.take(call.call_sid, key_of_agent(name)):
                self.health.on_full(name, call.call_sid)
                reasons.append(f"{name}: has all the calls that it may have")
                continue
            left_s = deadline - loop.time()
            try:
                # An agent that hangs leaves time for the ones after it.
                within_s = left_s / 2 if left or failing else left_s
                credentials = await self._ask(name, agent, call, values, within_s)
                self.health.on_passed_over(chain[m] for m in failing)
                self._warn_of_empty(chain[n:], call, values)
                return Session(tuple(chain[n:]), credentials, values, call.route)
            except SessionError as error:
                reason, hint = str(error), hint_of(error.kind) if is_able else NO_VALUE
            reasons.append(f"{name}: {reason}")
            log.warning(
                "agent unavailable, trying next" if left or failing else "agent unavailable",
                call_sid=call.call_sid,
                agent=name,
                reason=reason,
                hint=hint,
            )
        raise SessionError("; ".join(reasons))

    async def _ask(
        self, name: str, agent: Agent, call: CallInfo, values: Mapping[str, str], within_s: float
    ) -> dict[str, str]:
        """
        Ask one agent for a session, and report what becomes of it.

        Args:
            values: Those of the call that its media socket will know.

        Raises:
            SessionError: It gives none.
        """
        if missing := agent.required - call.values.keys():
            raise SessionError(f"this call has no {', '.join(sorted(missing))}")
        if too_long := agent.required - values.keys():
            raise SessionError(
                f"{', '.join(sorted(too_long))}: too long, the values of a call have at most {VALUES_BYTES} bytes "
                "together: shorten the text, or leave out the ! in its placeholder"
            )
        call_sid, health = call.call_sid, self.health
        health.begin(name, call_sid, Stage.SESSION)
        token = on_refusal.set(partial(health.on_setback, name, call_sid))
        try:
            async with asyncio.timeout(within_s):
                credentials = await agent.open_session(call)
        except TimeoutError:
            # Where the agent had its time, this counts all the same.
            health.on_left(name, call_sid)
            raise SessionError(f"no session within {within_s:.3g} s") from None
        except SessionError as error:
            health.on_failure(name, call_sid, str(error), error.kind)
            raise
        except Exception as error:
            # A fault with one agent must not keep the others from the call.
            log.exception("fault while a session was opened", call_sid=call_sid, agent=name)
            reason = type(error).__name__
            health.on_failure(name, call_sid, reason, FailureKind.LOST)
            raise SessionError(reason) from None
        except BaseException:
            health.on_left(name, call_sid)
            raise
        finally:
            on_refusal.reset(token)
        health.on_session(name, call_sid)
        return credentials

    def _values_for(self, chain: Sequence[str], call: CallInfo) -> dict[str, str]:
        """Those values of a call that an agent of its chain uses, as far as `VALUES_BYTES` have room for them."""
        values: dict[str, str] = {}
        used_bytes = 0
        # Backwards: values of the user's webhook and URL come before texts of the form, which a caller may choose.
        for name in sorted(self._names_for(chain) & call.values.keys(), reverse=True):
            text = call.values[name]
            size_bytes = len(orjson.dumps({name: text}))
            if used_bytes + size_bytes <= VALUES_BYTES:
                values[name] = text
                used_bytes += size_bytes
        return values

    def _names_for(self, chain: Sequence[str]) -> set[str]:
        agents = [agent for name in chain if (agent := self.agent(name)) is not None]
        return {name for agent in agents for name in agent.names}

    def _warn_of_empty(self, chain: Sequence[str], call: CallInfo, values: Mapping[str, str]) -> None:
        empty = self._names_for(chain) - values.keys()
        if empty:
            log.warning(
                "values of the call are empty for the agent",
                call_sid=call.call_sid,
                missing=sorted(empty - call.values.keys(), reverse=True),
                too_long=sorted(empty & call.values.keys(), reverse=True),
            )

    def from_dialled(self, chain: Sequence[str]) -> tuple[str, ...]:
        """The rest of a chain from its first dialled agent on, which `/voice/resume` tries."""
        for n, name in enumerate(chain):
            agent = self.agent(name)
            if agent is not None and agent.hand_over is not None:
                return tuple(chain[n:])
        return ()

    def hand_over(self, session: Session, call: CallInfo) -> HandOver | None:
        """How the call gets to the agent of a session; None if its audio goes through a media socket."""
        agent = self.agent(session.agents[0])
        if agent is None or agent.hand_over is None:
            return None
        return agent.hand_over(session.credentials, call)
