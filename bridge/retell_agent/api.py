"""The part of Retell's REST API that an agent and its Retell LLM need, through retell-sdk."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args, get_type_hints

import httpx
import retell
from retell.types import LlmCreateParams

TIMEOUT_S = 20.0
PAGE_AGENTS = 1000
MESSAGE_CHARACTERS = 300
AGENT_HAS = ("agent_id", "version")

_TODO = {
    401: "check RETELL_API_KEY; Retell's dashboard has it",
    402: "see the account's billing in Retell's dashboard",
    403: "the key may not do this",
    429: "try again in a minute",
}


class ApiError(Exception):
    """A request failed; the text is one line that says what to do."""


class Api:
    """
    A connection to the API.

    Reads and changes are tried twice. Creation is never retried: if only the response was lost, a retry would create
    a duplicate.
    """

    def __init__(self, key: str, url: str) -> None:
        self._client = retell.Retell(api_key=key, base_url=url, timeout=TIMEOUT_S, max_retries=1)
        self._once = self._client.with_options(max_retries=0)
        self._key = key
        self._url = url

    def close(self) -> None:
        self._client.close()

    def find(self, name: str) -> list[str]:
        """Give the ids of the agents with exactly this name."""
        criteria = {"channel": {"type": "string", "op": "eq", "value": "voice"}, "query": name}
        query: dict[str, Any] = {"limit": PAGE_AGENTS, "filter_criteria": criteria}
        found: list[str] = []
        pages: set[str] = set()
        while True:
            page = self._ask("looking for the agent", self._client.agent.list, query, needs=("items",))
            found += [str(item.get("agent_id")) for item in page["items"] if item.get("agent_name") == name]
            following = page.get("pagination_key")
            if not page.get("has_more") or not following or following in pages:
                return list(dict.fromkeys(found))
            pages.add(following)
            query["pagination_key"] = following

    def agent(self, agent_id: str, source: str) -> dict[str, Any]:
        """Read the agent's latest version; ``source`` names the setting that the id is from, for errors."""
        return self._ask(
            f"reading the agent {agent_id!r} of {source}",
            self._client.agent.retrieve,
            {"agent_id": agent_id},
            refused=f"correct {source}, or leave it out to go by agent_name",
            needs=AGENT_HAS,
        )

    def llm(self, engine: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask("reading the Retell LLM", self._client.llm.retrieve, _of_engine(engine))

    def make_agent(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        lost = "it may have been made all the same: run this again with --dry-run, which finds it by its name"
        return self._ask("making the agent", self._once.agent.create, fields, lost=lost, needs=AGENT_HAS)

    def make_llm(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        lost = "it may have been made all the same, without an agent: see Retell's dashboard, then try again"
        return self._ask("making the Retell LLM", self._once.llm.create, fields, lost=lost, needs=("llm_id",))

    def make_draft(self, agent_id: str, base_version: int) -> dict[str, Any]:
        """Open a draft of the agent and of its LLM."""
        base = {"agent_id": agent_id, "base_version": base_version}
        return self._ask("opening a draft version", self._once.agent.create_version, base, needs=AGENT_HAS)

    def change_agent(self, agent_id: str, version: int, fields: Mapping[str, Any]) -> dict[str, Any]:
        fields = {**fields, "agent_id": agent_id, "version": version}
        return self._ask("changing the agent", self._client.agent.update, fields, needs=AGENT_HAS)

    def change_llm(self, engine: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        fields = {**fields, **_of_engine(engine)}
        return self._ask("changing the Retell LLM", self._client.llm.update, fields)

    def publish(self, agent_id: str, version: int) -> None:
        self._ask("publishing", self._once.agent.publish, {"agent_id": agent_id, "version": version})

    def _ask(
        self,
        doing: str,
        function: Callable[..., object],
        arguments: Mapping[str, Any],
        *,
        lost: str = "try again",
        refused: str = "change the file accordingly",
        needs: Iterable[str] = (),
    ) -> dict[str, Any]:
        """
        Call a function of the SDK and give the fields of its response, of which ``needs`` must be there.

        For errors, ``doing`` names the request; ``lost`` and ``refused`` say what to do if there is no response, or
        a refusal.
        """
        try:
            reply = function(**arguments)
        except retell.APIStatusError as error:
            code = error.status_code
            todo = _TODO.get(code, "try again later" if code >= 500 else refused)
            raise ApiError(f"{doing}: Retell answered {code}: {self._message(error.body)}; {todo}") from None
        except retell.APIConnectionError as error:
            if isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout):
                text = f"{self._url} cannot be reached; check RETELL_API_URL and the network"
            elif isinstance(error, retell.APITimeoutError):
                text = f"no answer within {TIMEOUT_S:g} s; {lost}"
            else:
                text = f"the connection broke; {lost}"
            raise ApiError(f"{doing}: {text}") from None
        except (retell.RetellError, httpx.HTTPError, ValueError) as error:
            raise ApiError(f"{doing}: the answer is not from Retell ({type(error).__name__})") from None
        fields = reply.to_dict(mode="json") if isinstance(reply, retell.BaseModel) else {}
        absent = [name for name in needs if fields.get(name) is None]
        if absent:
            raise ApiError(f"{doing}: the answer has no {absent[0]}; check RETELL_API_URL")
        return fields

    def _message(self, body: object) -> str:
        """Give Retell's text of an error: one line, limited in length, without the key."""
        said = body.get("message") or body.get("error_message") if isinstance(body, dict) else body
        line = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", str(said or "no reason given")).strip()
        return line.replace(self._key, "***")[:MESSAGE_CHARACTERS]


def _of_engine(engine: Mapping[str, Any]) -> dict[str, Any]:
    """Give the LLM of a response engine as arguments; the SDK reads its version as a float."""
    version = engine.get("version")
    return {"llm_id": str(engine["llm_id"])} | ({} if version is None else {"version": int(version)})


def known_models() -> frozenset[str]:
    """Give the models that the installed retell-sdk knows."""
    optional = get_type_hints(LlmCreateParams)["model"]
    return frozenset(name for choice in get_args(optional) for name in get_args(choice))
