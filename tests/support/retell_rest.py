"""
A stand-in for the agents and LLMs of Retell's REST API, with their versions; a published version never changes.

It keeps the requests and checks every body against the types of retell-sdk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter
from retell.types import (
    AgentCreateParams,
    AgentCreateVersionParams,
    AgentListParams,
    AgentPublishParams,
    AgentUpdateParams,
    LlmCreateParams,
    LlmUpdateParams,
)

KEY = "key_secret_7f3a"
READS = ("POST /v2/list-agents", "GET /get-agent", "GET /get-retell-llm")


def assert_typed(kind: Any, body: dict[str, Any]) -> None:
    """Fails unless the SDK's type has every key of the body, with its value."""
    assert _plain(TypeAdapter(kind).validate_python(body, strict=True)) == body


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


class RetellRest:
    def __init__(self) -> None:
        self.url = ""
        self.agents: dict[str, list[dict[str, Any]]] = {}
        self.llms: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[str] = []
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        self.page_agents = 1000
        # Answers to give once instead of the usual one, by "METHOD /first-part".
        self.instead: dict[str, list[Callable[[], Any]]] = {}
        self.released = asyncio.Event()
        # Bodies that do not have the SDK's types.
        self.faults: list[str] = []

    @property
    def writes(self) -> list[str]:
        return [line for line in self.requests if not line.startswith(READS)]

    def body(self, line: str) -> dict[str, Any]:
        """Give the body of the only request with that line."""
        (body,) = [body for at, body in self.bodies if at == line]
        return body

    def add_llm(self, **fields: Any) -> str:
        llm_id = f"llm_{len(self.llms)}"
        self.llms[llm_id] = [{"llm_id": llm_id, "version": 0, "is_published": False, **fields}]
        return llm_id

    def add_agent(self, **fields: Any) -> str:
        agent_id = f"agent_{len(self.agents)}"
        self.agents[agent_id] = [{"agent_id": agent_id, "version": 0, "is_published": False, **fields}]
        return agent_id

    def publish(self, agent_id: str) -> None:
        agent = self.agents[agent_id][-1]
        agent["is_published"] = True
        for llm in self.llms.get(agent["response_engine"].get("llm_id"), []):
            llm["is_published"] = True

    def fail(self, line: str, status: int, message: str, **headers: str) -> None:
        def answer() -> web.Response:
            return web.json_response({"status": "error", "message": message}, status=status, headers=headers)

        self.instead.setdefault(line, []).append(answer)

    def hold(self, line: str) -> None:
        """Leave the next such request without an answer."""
        self.instead.setdefault(line, []).append(self.released.wait)

    @web.middleware
    async def watch(self, request: web.Request, handler: Any) -> web.StreamResponse:
        line = f"{request.method} {request.path}"
        self.requests.append(line + (f"?{request.query_string}" if request.query_string else ""))
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"status": "error", "message": "Invalid API Key"}, status=401)
        kind = f"{request.method} {'/'.join(request.path.split('/')[:2])}"
        for name in (line, kind):
            if self.instead.get(name):
                answer = self.instead[name].pop(0)()
                return (
                    answer
                    if isinstance(answer, web.Response)
                    else web.Response(status=500, text=str(await answer))
                )
        if request.can_read_body:
            self.bodies.append((self.requests[-1], await request.json()))
        try:
            return await handler(request)
        except Exception as error:
            self.faults.append(f"{self.requests[-1]}: {error!r}")
            raise

    def _version(self, versions: list[dict[str, Any]], request: web.Request) -> dict[str, Any]:
        asked = request.query.get("version")
        if asked is None:
            return versions[-1]
        (found,) = [item for item in versions if item["version"] == int(asked)]
        return found

    async def list_agents(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert_typed(AgentListParams, body)
        assert body["filter_criteria"]["channel"]["value"] == "voice"
        query = body["filter_criteria"]["query"].lower()
        items = [
            {"agent_id": agent_id, "agent_name": versions[-1]["agent_name"], "channel": "voice"}
            for agent_id, versions in self.agents.items()
            if query in versions[-1]["agent_name"].lower()
        ]
        begin = int(request.query.get("pagination_key", 0))
        end = begin + min(self.page_agents, int(request.query["limit"]))
        page: dict[str, Any] = {"items": items[begin:end], "has_more": end < len(items)}
        return web.json_response(page | ({"pagination_key": str(end)} if end < len(items) else {}))

    async def get_agent(self, request: web.Request) -> web.Response:
        versions = self.agents.get(request.match_info["id"])
        if versions is None:
            return web.json_response({"status": "error", "message": "Item not found"}, status=404)
        return web.json_response(self._version(versions, request))

    async def create_agent(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert_typed(AgentCreateParams, body)
        agent_id = self.add_agent(**body)
        return web.json_response(self.agents[agent_id][0], status=201)

    async def update_agent(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert_typed(AgentUpdateParams, body)
        agent = self._version(self.agents[request.match_info["id"]], request)
        if agent["is_published"]:
            text = "Cannot update published agent other than version title"
            return web.json_response({"status": "error", "message": text}, status=422)
        agent.update(body)
        return web.json_response(agent)

    async def create_agent_version(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert_typed(AgentCreateVersionParams, body)
        versions = self.agents[request.match_info["id"]]
        (base,) = [item for item in versions if item["version"] == body["base_version"]]
        number = versions[-1]["version"] + 1
        draft = {**base, "version": number, "is_published": False}
        llms = self.llms.get(base["response_engine"].get("llm_id"))
        if llms:
            llms.append({**llms[-1], "version": number, "is_published": False})
            draft["response_engine"] = {**base["response_engine"], "version": number}
        versions.append(draft)
        return web.json_response(draft, status=201)

    async def publish_agent_version(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert_typed(AgentPublishParams, body)
        assert body["version"] == self.agents[request.match_info["id"]][-1]["version"]
        self.publish(request.match_info["id"])
        return web.Response()

    async def get_llm(self, request: web.Request) -> web.Response:
        return web.json_response(self._version(self.llms[request.match_info["id"]], request))

    async def create_llm(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert_typed(LlmCreateParams, body)
        assert body["start_speaker"]
        return web.json_response(self.llms[self.add_llm(**body)][0], status=201)

    async def update_llm(self, request: web.Request) -> web.Response:
        body = await request.json()
        assert_typed(LlmUpdateParams, body)
        llm = self._version(self.llms[request.match_info["id"]], request)
        if llm["is_published"]:
            return web.json_response(
                {"status": "error", "message": "Cannot update published LLM"}, status=400
            )
        llm.update(body)
        return web.json_response(llm)


@asynccontextmanager
async def serving() -> AsyncIterator[RetellRest]:
    rest = RetellRest()
    app = web.Application(middlewares=[rest.watch])
    app.router.add_post("/v2/list-agents", rest.list_agents)
    app.router.add_get("/get-agent/{id}", rest.get_agent)
    app.router.add_post("/create-agent", rest.create_agent)
    app.router.add_patch("/update-agent/{id}", rest.update_agent)
    app.router.add_post("/create-agent-version/{id}", rest.create_agent_version)
    app.router.add_post("/publish-agent-version/{id}", rest.publish_agent_version)
    app.router.add_get("/get-retell-llm/{id}", rest.get_llm)
    app.router.add_post("/create-retell-llm", rest.create_llm)
    app.router.add_patch("/update-retell-llm/{id}", rest.update_llm)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        rest.url = f"http://{host}:{port}"
        yield rest
        assert not rest.faults
    finally:
        rest.released.set()
        await runner.cleanup()
