"""Agents described in a settings file whose service speaks OpenAI's Realtime protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from bridge.agents.agent import (
    Agent,
    CallInfo,
    Dialogue,
    Endpoint,
    NextNumber,
    Resources,
    StreamInfo,
    no_session,
)
from bridge.agents.described_problems import Contradiction, unknown_in
from bridge.agents.openai_realtime import RealtimeDialogue
from bridge.agents.realtime_session import session_object
from bridge.agents.table_request import Text, filled_headers, filled_url
from bridge.agents.template import (
    CALL_NAMES,
    fill,
    fill_json,
    in_header,
    in_url,
    names_in,
    of_call,
    required_in,
)


class RealtimeTable(BaseModel):
    """One agent: a table of the file that ``BRIDGE_AGENTS_FILE`` names, with this ``protocol``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    protocol: Literal["openai-realtime"]
    url: str = Field(pattern=r"^wss?://")
    headers: dict[str, str] = {}
    # Fields of the session object beside the audio formats; each service has its own.
    session: dict[str, Any] = {}
    instructions: str = ""
    greets: bool = True
    tools: bool = True
    keys: bool = False
    session_limit_s: float | None = Field(default=None, ge=60, le=86400)
    max_calls: int | None = Field(default=None, ge=1, le=999_999)
    disabled: bool = Field(default=False, strict=True)

    @field_validator("session")
    @classmethod
    def _is_json(cls, session: dict[str, Any]) -> dict[str, Any]:
        try:
            orjson.dumps(session)
        except TypeError as error:
            raise ValueError(f"cannot be written as JSON: {error}") from None
        return session

    @property
    def placed_texts(self) -> list[Text]:
        """The texts that may have placeholders, each with its key."""
        texts = [Text("url", self.url, CALL_NAMES)]
        texts += [Text(f"headers.{name}", text, CALL_NAMES) for name, text in self.headers.items()]
        texts.append(Text("session", orjson.dumps(self.session).decode(), CALL_NAMES))
        return [*texts, Text("instructions", self.instructions, CALL_NAMES)]

    @property
    def texts(self) -> list[str]:
        """The texts alone."""
        return [text.template for text in self.placed_texts]

    def contradictions(self) -> Iterable[Contradiction]:
        """What is wrong although each key is right."""
        return unknown_in(self.placed_texts, frozenset())

    def describe(self, resources: Resources) -> Agent:
        """Make the agent."""
        process = resources.values

        def endpoint(session: Mapping[str, str], call: CallInfo) -> Endpoint:
            values = call.placeholders
            return Endpoint(
                filled_url(self.url, {**in_url(values), **process}),
                filled_headers(self.headers, {**in_header(values), **process}),
            )

        def dialogue(stream: StreamInfo, next_number: NextNumber) -> Dialogue:
            values = {**process, **stream.call.placeholders}
            session = session_object(
                orjson.loads(fill_json(orjson.dumps(self.session).decode(), values.get)),
                instructions=fill(self.instructions, values),
                tools=self.tools,
                may_transfer=resources.may_transfer,
            )
            return RealtimeDialogue(
                session,
                stream.memory,
                greets=self.greets,
                takes_keys=self.keys,
                session_limit_s=self.session_limit_s,
            )

        return Agent(
            open_session=no_session,
            endpoint=endpoint,
            dialogue=dialogue,
            names=of_call(names_in(self.texts)),
            required=of_call(required_in(self.texts)),
        )
