"""What a bridge answers `bridge check`: a proof for who has the auth token, for a stranger what any webhook answers."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from live import AUTH_TOKEN, PLAIN_AND_TLS, PUBLIC_URL, Live, soon, until

from bridge.seal import proofs
from bridge.server import probe
from bridge.standins.twilio.webhook import sign

NONCE = "0123456789abcdef" * 2
VOICE = f"{PUBLIC_URL}/voice/check"
MEDIA = f"{PUBLIC_URL.replace('https', 'wss')}/media/check"


async def post(live: Live, form: Any, signature: str, path: str = "/voice/check") -> tuple[int, str]:
    headers = {"X-Twilio-Signature": signature} if signature else {}
    async with (
        aiohttp.ClientSession() as http,
        http.post(live.url + path, data=form, headers=headers, ssl=live.ssl) as response,
    ):
        return response.status, await response.text()


async def upgrade(live: Live, query: str = "", **headers: str) -> tuple[str, int | None]:
    """The text of the socket and the code of its close."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{live.url}/media/check{query}", headers=sent, ssl=live.ssl) as socket,
    ):
        text = await soon(socket.receive_str())
        await soon(socket.receive())
        return text, socket.close_code


def signed(form: dict[str, str], token: str = AUTH_TOKEN) -> str:
    return sign(token, VOICE, form)


@PLAIN_AND_TLS
async def test_signed_request_is_answered_with_the_proof(live_server):
    live = await live_server()
    form = {"Nonce": NONCE}
    assert await post(live, form, signed(form)) == (200, *proofs([AUTH_TOKEN], "voice", NONCE))


@PLAIN_AND_TLS
async def test_signed_upgrade_is_answered_with_the_proof_and_a_close(live_server):
    live = await live_server()
    text, code = await upgrade(live, X_Twilio_Signature=sign(AUTH_TOKEN, MEDIA), X_Bridge_Nonce=NONCE)
    assert [text] == proofs([AUTH_TOKEN], "media", NONCE)
    assert code == 1000


async def test_each_token_of_a_rotation_has_a_proof(live_server):
    live = await live_server(TWILIO_AUTH_TOKEN="new,old")
    form = {"Nonce": NONCE}
    status, text = await post(live, form, signed(form, "old"))
    assert (status, text.split("\n")) == (200, proofs(["new", "old"], "voice", NONCE))


async def test_check_opens_nothing(live_server):
    live = await live_server(BRIDGE_MAX_CALLS=1)
    form = {"Nonce": NONCE}
    for _ in range(3):
        await post(live, form, signed(form))
        await upgrade(live, X_Twilio_Signature=sign(AUTH_TOKEN, MEDIA), X_Bridge_Nonce=NONCE)
    assert live.is_idle
    assert live.admitted == 0
    assert live.agent.sessions == {}


@pytest.mark.parametrize("signature", ["", "c2lnbmVk", sign("other", VOICE, {"Nonce": NONCE})])
async def test_stranger_gets_what_any_webhook_answers(live_server, signature):
    live = await live_server()
    form = {"Nonce": NONCE}
    assert await post(live, form, signature) == await post(live, form, signature, "/voice")
    for headers in ({}, {"X_Twilio_Signature": signature or "x"}):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await upgrade(live, X_Bridge_Nonce=NONCE, **headers)
        assert caught.value.status == 403


@pytest.mark.parametrize("form", [{}, {"Nonce": ""}, {"Nonce": "x" * 32}, {"Nonce": NONCE * 2}])
async def test_nonce_of_another_shape_is_refused(live_server, form):
    live = await live_server()
    form = {"A": "b", **form}
    assert (await post(live, form, signed(form)))[0] == 400
    headers = {"X_Bridge_Nonce": form["Nonce"]} if "Nonce" in form else {}
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await upgrade(live, X_Twilio_Signature=sign(AUTH_TOKEN, MEDIA), **headers)
    assert caught.value.status == 400


async def test_upgrade_with_a_query_is_refused(live_server):
    live = await live_server()
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await upgrade(live, "?a=b", X_Twilio_Signature=sign(AUTH_TOKEN, MEDIA), X_Bridge_Nonce=NONCE)
    assert caught.value.status == 403


async def test_without_signatures_there_is_no_proof(live_server):
    live = await live_server(
        BRIDGE_VALIDATE_SIGNATURES="0", BRIDGE_AGENT="echo", PUBLIC_URL="http://127.0.0.1:3000"
    )
    assert (await post(live, {"Nonce": NONCE}, ""))[0] == 403
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await upgrade(live, X_Bridge_Nonce=NONCE)
    assert caught.value.status == 403


def test_proofs_differ_by_secret_purpose_and_nonce():
    found = {
        *proofs(["a", "b"], "voice", NONCE),
        *proofs(["a"], "media", NONCE),
        *proofs(["a"], "voice", "0" * 32),
    }
    assert len(found) == 4
    assert all(len(text) == 64 for text in found)


async def test_peer_that_does_not_answer_the_close_is_cut_off(live_server, monkeypatch):
    monkeypatch.setattr(probe, "CLOSE_S", 0.05)
    live = await live_server()
    headers = {"X-Twilio-Signature": sign(AUTH_TOKEN, MEDIA), "X-Bridge-Nonce": NONCE}
    async with aiohttp.ClientSession() as http:
        socket = await http.ws_connect(f"{live.url}/media/check", headers=headers, autoclose=False)
        assert (await soon(socket.receive())).type is aiohttp.WSMsgType.TEXT
        assert (await soon(socket.receive())).type is aiohttp.WSMsgType.CLOSE
        connection = socket._response.connection
        assert connection is not None and connection.transport is not None
        await until(connection.transport.is_closing)
