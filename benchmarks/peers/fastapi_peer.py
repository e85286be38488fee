"""A peer with FastAPI, uvicorn and websockets' client; settings in the environment: PORT, AGENT_WS_URL."""

from __future__ import annotations

import asyncio
import os

import orjson
import uvicorn  # type: ignore[import-not-found,unused-ignore]
from fastapi import FastAPI, WebSocket, WebSocketDisconnect  # type: ignore[import-not-found,unused-ignore]
from websockets.asyncio.client import ClientConnection, connect  # type: ignore[import-not-found,unused-ignore]

AGENT_WS_URL = os.environ["AGENT_WS_URL"]
app = FastAPI()


@app.websocket("/media/{call_id}")  # type: ignore[untyped-decorator,unused-ignore]
async def media(caller: WebSocket, call_id: str) -> None:
    await caller.accept()
    message = orjson.loads(await caller.receive_text())
    while message["event"] != "start":
        message = orjson.loads(await caller.receive_text())
    stream_sid = message["start"]["streamSid"]
    # Meanwhile the caller's audio waits in uvicorn's queue.
    async with connect(f"{AGENT_WS_URL}/{call_id}", compression=None, proxy=None) as agent:
        down = asyncio.create_task(agent_to_caller(agent, caller, stream_sid))
        try:
            await caller_to_agent(caller, agent)
        except WebSocketDisconnect:
            pass
        finally:
            await agent.close()
            await down


async def caller_to_agent(caller: WebSocket, agent: ClientConnection) -> None:
    async for text in caller.iter_text():
        event = orjson.loads(text)
        if event["event"] == "media":
            payload = event["media"]["payload"]
            await agent.send(
                f'{{"type":"audio","audio_encoding":"mulaw","sample_rate":8000,"data":"{payload}"}}'
            )
        elif event["event"] == "stop":
            return


async def agent_to_caller(agent: ClientConnection, caller: WebSocket, stream_sid: str) -> None:
    try:
        async for text in agent:
            event = orjson.loads(text)
            if event["type"] == "audio":
                await caller.send_text(
                    f'{{"event":"media","streamSid":"{stream_sid}","media":{{"payload":"{event["data"]}"}}}}'
                )
            elif event["type"] == "interrupt":
                await caller.send_text(f'{{"event":"clear","streamSid":"{stream_sid}"}}')
            elif event["type"] == "call_ended":
                break
        await caller.close()
    except (WebSocketDisconnect, RuntimeError):
        return  # the caller closed first


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        backlog=4096,
        loop="uvloop",
        http="httptools",
        ws_per_message_deflate=False,
        log_level="warning",
    )
