"""The agent of a restart's calls: its sessions are apart by their audio."""

from __future__ import annotations

import base64
import json

import aiohttp

from benchmarks.restart_agent import CALLER, FRAME_BYTES, Agents, frame, serving


def test_each_frame_is_the_only_one_of_its_kind():
    frames = {frame(call, source, number) for call in range(3) for source in range(3) for number in range(50)}
    assert len(frames) == 3 * 3 * 50
    assert {len(audio) for audio in frames} == {FRAME_BYTES}


async def test_session_talks_until_it_falls_silent_and_keeps_what_it_hears():
    agents = Agents()
    async with serving(agents) as port, aiohttp.ClientSession() as http:
        url = f"http://127.0.0.1:{port}"
        order = {"metadata": {"callSid": "CA" + f"{7:032x}"}}
        async with http.post(f"{url}/v2/create-web-call", json=order) as answer:
            call_id = (await answer.json())["call_id"]
        for source in (1, 2):
            async with http.ws_connect(f"{url}/audio-websocket/{call_id}") as socket:
                heard = [json.loads(await socket.receive_str()) for _ in range(3)]
                audio = [base64.b64decode(message["data"]) for message in heard]
                assert audio == [frame(7, source, number) for number in range(3)]
                said = base64.b64encode(frame(7, CALLER, 0)).decode()
                await socket.send_json({"type": "audio", "data": said})
                session = agents.sessions[7][-1]
                await session.fall_silent()
                await session.end_call()
                left = [json.loads(await socket.receive_str()) for _ in range(len(session.sent) - 3 + 1)]
                assert left[-1] == {"type": "call_ended"}
    assert [session.received for session in agents.sessions[7]] == 2 * [[frame(7, CALLER, 0)]]
