"""A peer with aiohttp on both sides, orjson and uvloop; settings in the environment: PORT, AGENT_WS_URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import aiohttp
import orjson
import uvloop
from aiohttp import WSMsgType, web

AGENT_WS_URL = os.environ["AGENT_WS_URL"]
TO_AGENT = '{{"type":"audio","audio_encoding":"mulaw","sample_rate":8000,"data":"{}"}}'
SESSION = web.AppKey("session", aiohttp.ClientSession)


async def media(request: web.Request) -> web.WebSocketResponse:
    caller = web.WebSocketResponse(compress=False)
    await caller.prepare(request)
    message = await caller.receive_json(loads=orjson.loads)
    while message["event"] != "start":
        message = await caller.receive_json(loads=orjson.loads)
    stream_sid = message["start"]["streamSid"]
    # Meanwhile the caller's audio waits in aiohttp's queue.
    url = f"{AGENT_WS_URL}/{request.match_info['id']}"
    async with request.app[SESSION].ws_connect(url, compress=0) as agent:
        down = asyncio.create_task(agent_to_caller(agent, caller, stream_sid))
        try:
            await caller_to_agent(caller, agent)
        finally:
            await agent.close()
            await down
    return caller


async def caller_to_agent(caller: web.WebSocketResponse, agent: aiohttp.ClientWebSocketResponse) -> None:
    async for message in caller:
        if message.type is not WSMsgType.TEXT:
            continue
        event = orjson.loads(message.data)
        if event["event"] == "media":
            await agent.send_str(TO_AGENT.format(event["media"]["payload"]))
        elif event["event"] == "stop":
            return


async def agent_to_caller(
    agent: aiohttp.ClientWebSocketResponse, caller: web.WebSocketResponse, stream_sid: str
) -> None:
    prefix = f'{{"event":"media","streamSid":"{stream_sid}","media":{{"payload":"'
    clear = f'{{"event":"clear","streamSid":"{stream_sid}"}}'
    try:
        async for message in agent:
            if message.type is not WSMsgType.TEXT:
                continue
            event = orjson.loads(message.data)
            if event["type"] == "audio":
                await caller.send_str(prefix + event["data"] + '"}}')
            elif event["type"] == "interrupt":
                await caller.send_str(clear)
            elif event["type"] == "call_ended":
                break
    except ConnectionError:
        pass
    await caller.close()


async def client_session(application: web.Application) -> AsyncIterator[None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        application[SESSION] = session
        yield


async def main() -> None:
    application = web.Application()
    application.cleanup_ctx.append(client_session)
    application.router.add_get("/media/{id}", media)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"]), backlog=4096).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
