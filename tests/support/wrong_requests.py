"""
Wrong set-ups that settings cannot show: what then comes to a bridge, and its one line of the log.

`wrong_setups` has those that are named at the start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from live import ACCOUNT_SID, PUBLIC_URL
from wrong_senders import (
    OTHER_ACCOUNT,
    OTHER_TOKEN,
    Sender,
    agent_refuses,
    answered_again,
    call,
    distrusts,
    form_of,
    get,
    hello_of_tls,
    no_stream,
    opened,
    over,
    raw,
    raw_upgrade,
    stream,
    stream_error,
    stream_with_the_token_of_another_call,
    upgrade,
    webhook,
)

HOST = "voice.example.com"
# Beginnings of messages.
REFUSED, ASTRAY, UPGRADE = "request refused", "request of Twilio's cannot be answered", "upgrade refused"
SOCKET, ALIEN, AGENT = "media socket refused", "connection cannot be served", "agent unavailable"
ANSWER = "answer webhook failed, the routes decide"


@dataclass(frozen=True, kw_only=True)
class WrongRequest:
    """
    One set-up.

    Attributes:
        send: What comes then.
        event: The message of the line.
        reason: Of the line; empty where it has none.
        todo: Words of its hint.
        settings, limits: Of the bridge.
        answer: Of the user's own webhook, which the bridge asks; None: it has none.
        has_tls: Whether the bridge's own port has TLS.
        is_of_a_call: The line is of a call that was admitted, so there is one for each; the others are bounded.
    """

    send: Sender
    event: str
    todo: str
    reason: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] | None = None
    has_tls: bool = False
    is_of_a_call: bool = False


def wrong(send: Sender, event: str, reason: str, todo: str, **more: Any) -> WrongRequest:
    """A set-up."""
    return WrongRequest(send=send, event=event, reason=reason, todo=todo, **more)


def of_answer(kind: str, todo: str, **answer: Any) -> WrongRequest:
    """A set-up of the user's own webhook, which gives this answer."""
    return wrong(call, ANSWER, kind, todo, answer=answer, is_of_a_call=True)


BY_NAME = {
    # The address at which Twilio knows the bridge.
    "webhook with http": wrong(
        webhook(f"http://{HOST}/voice"), REFUSED, "signature", f"put https://{HOST}/voice in its console"
    ),
    "another name": wrong(
        webhook("https://old.acme.com/voice"), REFUSED, "signature", "set PUBLIC_URL=https://old.acme.com"
    ),
    "proxy with a Host of its own": wrong(
        webhook("https://a.acme.com/voice", Host="localhost:3000", X_Forwarded_Host="a.acme.com"),
        REFUSED,
        "signature",
        "set PUBLIC_URL=https://a.acme.com",
    ),
    "port in the webhook": wrong(
        webhook(f"https://{HOST}:8443/voice"), REFUSED, "signature", f"set PUBLIC_URL=https://{HOST}:8443"
    ),
    "prefix taken away, with its header": wrong(
        webhook(f"{PUBLIC_URL}/a/voice", X_Forwarded_Prefix="/a"),
        REFUSED,
        "signature",
        f"set PUBLIC_URL={PUBLIC_URL}/a",
    ),
    "prefix taken away, with the path as it came": wrong(
        webhook(f"{PUBLIC_URL}/a/voice", X_Original_URI="/a/voice"),
        REFUSED,
        "signature",
        f"set PUBLIC_URL={PUBLIC_URL}/a",
    ),
    "prefix that PUBLIC_URL lacks": wrong(
        webhook(f"{PUBLIC_URL}/a/voice", "/a/voice"), ASTRAY, "path", f"set PUBLIC_URL={PUBLIC_URL}/a"
    ),
    "prefix that the proxy adds": wrong(
        webhook(path="/app/voice"), ASTRAY, "path", "the proxy before the bridge puts /app before the path"
    ),
    "prefix that only PUBLIC_URL has": wrong(
        webhook(f"{PUBLIC_URL}/voice"),
        REFUSED,
        "signature",
        f"set PUBLIC_URL={PUBLIC_URL},",
        settings={"PUBLIC_URL": f"{PUBLIC_URL}/a"},
    ),
    "resume at a bridge with another address": wrong(
        webhook("https://b.acme.com/voice/resume?s=x", "/voice/resume?s=x"),
        REFUSED,
        "signature",
        "give all processes the same PUBLIC_URL",
    ),
    # The account.
    "auth token of another account": wrong(
        webhook(token=OTHER_TOKEN), REFUSED, "signature", "compare TWILIO_AUTH_TOKEN with Twilio's console"
    ),
    "number of a subaccount": wrong(
        webhook(token=OTHER_TOKEN, form=form_of(AccountSid=OTHER_ACCOUNT)),
        REFUSED,
        "signature",
        "TWILIO_AUTH_TOKEN to that account's own",
    ),
    "another account with the same token": wrong(
        webhook(form=form_of(AccountSid=OTHER_ACCOUNT)), REFUSED, "account_sid", "set TWILIO_ACCOUNT_SID"
    ),
    # The webhook in Twilio's console.
    "GET": wrong(webhook(method="GET"), ASTRAY, "method", "choose HTTP POST"),
    "another path": wrong(
        webhook(f"{PUBLIC_URL}/incoming", "/incoming"), ASTRAY, "path", f"put {PUBLIC_URL}/voice in Twilio's"
    ),
    "slash at the end": wrong(
        webhook(f"{PUBLIC_URL}/voice/", "/voice/"), ASTRAY, "path", "without a slash at the end"
    ),
    "upper case": wrong(webhook(f"{PUBLIC_URL}/Voice", "/Voice"), ASTRAY, "path", "in lower case"),
    "no path": wrong(webhook(f"{PUBLIC_URL}/", "/"), ASTRAY, "path", f"put {PUBLIC_URL}/voice in Twilio's"),
    "status callback with another path": wrong(
        webhook(f"{PUBLIC_URL}/status", "/status"), ASTRAY, "path", f"{PUBLIC_URL}/voice/status for status"
    ),
    "webhook of text messages": wrong(
        webhook(form={"MessageSid": "SM" + 32 * "0", "AccountSid": ACCOUNT_SID, "Body": "hi"}),
        REFUSED,
        "call_sid",
        "belongs to calls, not to messages",
    ),
    # What a proxy does to a request.
    "header of the signature taken away": wrong(
        webhook(signatures=0), REFUSED, "signature", "the proxy must pass that header on"
    ),
    "header of the signature doubled": wrong(
        webhook(signatures=2), REFUSED, "signature", "must pass on just one"
    ),
    "form turned into JSON": wrong(
        webhook(body=b"{}", Content_Type="application/json"), ASTRAY, "not_a_form", "as Twilio posts it"
    ),
    "form compressed": wrong(
        webhook(body=b"\x1f\x8b\x08", Content_Encoding="gzip"), ASTRAY, "not_a_form", "as Twilio posts it"
    ),
    "form taken away": wrong(webhook(body=b""), REFUSED, "signature", "must pass on the body of a POST"),
    "metrics from another machine": wrong(
        get("/metrics", X_Forwarded_For="203.0.113.9"), "metrics refused", "", "set BRIDGE_METRICS_TOKEN"
    ),
    # The media socket on its way.
    "upgrade taken away": wrong(
        get(f"/media/{32 * '0'}"), ASTRAY, "no_upgrade", "pass on the headers Upgrade and Connection"
    ),
    "upgrade by HTTP/1.0": wrong(
        raw_upgrade((b"HTTP/1.1", b"HTTP/1.0")), ALIEN, "upgrade_by_http_1_0", "proxy_http_version 1.1"
    ),
    "upgrade without Connection": wrong(
        raw_upgrade((b"Connection: Upgrade", b"Connection: close")),
        ALIEN,
        "upgrade_without_connection",
        "have it pass on both",
    ),
    "upgrade without its key": wrong(
        raw_upgrade((b"Sec-WebSocket-Key", b"X-Key")),
        ALIEN,
        "upgrade_without_key",
        "pass on all headers of an upgrade",
    ),
    "upgrade without its signature": wrong(
        raw_upgrade((b"X-Twilio-Signature", b"X-Signature")), UPGRADE, "signature", "must pass that header on"
    ),
    "upgrade signed for ws": wrong(
        upgrade(lambda url: url.replace("wss://", "ws://")),
        UPGRADE,
        "signature",
        "give all processes the same PUBLIC_URL",
    ),
    "upgrade signed with another token": wrong(
        upgrade(token=OTHER_TOKEN), UPGRADE, "signature", "the same PUBLIC_URL and TWILIO_AUTH_TOKEN"
    ),
    "media socket below a prefix": wrong(
        upgrade(lambda url: url.replace("/media/", "/a/media/")),
        UPGRADE,
        "path",
        "have the proxy pass on the path as it comes",
    ),
    "media socket with a query": wrong(
        upgrade(lambda url: f"{url}?id=1"), UPGRADE, "path", "without a query"
    ),
    "media socket that never comes": wrong(
        no_stream,
        "media socket never came",
        "",
        "wss to PUBLIC_URL does not get here",
        limits={"token_s": 1},
        is_of_a_call=True,
    ),
    "stream that Twilio could not open": wrong(
        stream_error, "stream error", "", "let bridge check try wss to PUBLIC_URL", is_of_a_call=True
    ),
    # TwiML that is not the bridge's, or not as it came.
    "stream without its parameters": wrong(
        stream({}), SOCKET, "token", "use the TwiML of /voice unchanged and at once"
    ),
    "stream of another account": wrong(
        stream(accountSid=OTHER_ACCOUNT), SOCKET, "account_sid", "set TWILIO_ACCOUNT_SID"
    ),
    "stream in another format": wrong(
        stream(mediaFormat={"encoding": "audio/x-l16", "sampleRate": 8000, "channels": 1}),
        SOCKET,
        "media_format",
        "use the TwiML of /voice unchanged",
    ),
    "TwiML used twice": wrong(
        stream(before=opened), SOCKET, "call_live", "each TwiML opens one, once", is_of_a_call=True
    ),
    "TwiML of a call that is over": wrong(
        stream(before=over), SOCKET, "call_over", "the call is over", is_of_a_call=True
    ),
    "TwiML of the answer before the last": wrong(
        stream(before=answered_again), SOCKET, "token_replaced", "only the last TwiML", is_of_a_call=True
    ),
    "parameters of another call": wrong(
        stream_with_the_token_of_another_call,
        SOCKET,
        "token_of_another_call",
        "answer each call with TwiML of its own",
    ),
    # Another protocol.
    "TLS on a plain port": wrong(hello_of_tls, ALIEN, "tls", "have the proxy or the tunnel speak http"),
    "plain http on a port with TLS": wrong(
        raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
        ALIEN,
        "no_tls",
        "have the proxy or the tunnel speak https",
        has_tls=True,
    ),
    "certificate that nobody trusts": wrong(
        distrusts, ALIEN, "certificate", "from a public authority", has_tls=True
    ),
    "PROXY protocol": wrong(
        raw(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ALIEN,
        "proxy_protocol",
        "take out send-proxy",
    ),
    "PROXY protocol in its binary form": wrong(
        raw(b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"), ALIEN, "proxy_protocol", "take out send-proxy"
    ),
    "HTTP/2": wrong(raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), ALIEN, "http2", "have it speak HTTP/1.1"),
    # The agent's service, and the user's own.
    "agent with a wrong key": wrong(
        agent_refuses(401), AGENT, "status 401", "correct the agent's key", is_of_a_call=True
    ),
    "agent that is unknown there": wrong(
        agent_refuses(404), AGENT, "status 404", "correct the agent's settings", is_of_a_call=True
    ),
    "agent without credit": wrong(
        agent_refuses(402), AGENT, "status 402", "has no credit", is_of_a_call=True
    ),
    "agent whose socket refuses the key": wrong(
        agent_refuses(401, at_upgrade=True),
        "agent refuses the call",
        "upgrade refused: 401",
        "correct the agent's key",
        is_of_a_call=True,
    ),
    "Retell's webhook with another key": wrong(
        webhook(path="/retell/webhook", body=b"{}", signatures=0, X_Retell_Signature="v=1,d=0"),
        "Retell's webhook refused",
        "",
        "set RETELL_API_KEY",
    ),
    "answer webhook that checks with another secret": of_answer(
        "status", "it must check with BRIDGE_WEBHOOK_SECRET", status=401
    ),
    "answer webhook behind a redirect": of_answer(
        "redirect", "put the address that it leads to", status=302, headers={"Location": "/"}
    ),
    "answer webhook that is a web page": of_answer("not_json", "answer with JSON", text="<html>"),
    "answer webhook that names nobody": of_answer(
        "unknown_agent", "BRIDGE_ANSWER_AGENTS", text='{"agents":["parrot"]}'
    ),
    "answer webhook that is down": wrong(
        call,
        ANSWER,
        "connection",
        "look whether the webhook runs",
        settings={"BRIDGE_ANSWER_URL": "http://127.0.0.1:1/"},
        is_of_a_call=True,
    ),
}
