"""What to change where a request is refused: one sentence for each usual mistake, for the operator's eyes only."""

from __future__ import annotations

# The paths of the webhooks; one that is the end of another stands behind it.
WEBHOOKS = (
    "/voice/resume",
    "/voice/dialled",
    "/voice/status",
    "/voice/check",
    "/stream/status",
    "/retell/webhook",
    "/voice",
)
# The two that stand in Twilio's console; TwiML of the bridge names the others.
IN_CONSOLE = ("/voice", "/voice/status")

NO_SIGNATURE = "it has no X-Twilio-Signature: it is not from Twilio, or the proxy must pass that header on"
MANY_SIGNATURES = (
    "it has several X-Twilio-Signature headers: the proxy before the bridge must pass on just one"
)
NO_FORM = (
    "its form is empty: the proxy before the bridge must pass on the body of a POST, and not redirect it"
)
OTHER_ACCOUNT = (
    "the call belongs to another account: set TWILIO_ACCOUNT_SID to the account_sid of this line and TWILIO_AUTH_TOKEN "
    "to that account's own, or remove this webhook from its number"
)
OTHER_KEY = (
    "none of the usual mistakes explains the signature: compare TWILIO_AUTH_TOKEN with Twilio's console, and the "
    "webhook's URL there with checked_url; bridge check --signature shows what was signed"
)
OTHER_KEY_OF_UPGRADE = (
    "none of the usual mistakes explains the signature: the process that answered the webhook and this one must have "
    "the same PUBLIC_URL and TWILIO_AUTH_TOKEN"
)
NO_CALL = (
    "its form has no CallSid, like that of a text message: in Twilio's console PUBLIC_URL/voice belongs to calls, not "
    "to messages"
)
GET = (
    "choose HTTP POST for the webhook in Twilio's console; if POST is chosen, a redirect turns it into GET: enter the "
    "address that the redirect leads to"
)
NOT_A_FORM = "the proxy before the bridge must pass on the form as Twilio posts it, with its Content-Type"
NO_UPGRADE = (
    "this is a media socket without its upgrade: the proxy must pass on the headers Upgrade and Connection by "
    "HTTP/1.1, see deploy/ for nginx and HAProxy"
)
OF_UPGRADE = (
    "a media socket's address is PUBLIC_URL/media/ID without a query, from the TwiML of /voice: use that TwiML "
    "unchanged, and have the proxy pass on the path as it comes"
)
OF_METRICS = (
    "set BRIDGE_METRICS_TOKEN and give it to Prometheus as its bearer token, or ask from this machine"
)
OF_RETELL = "set RETELL_API_KEY to the key that Retell's dashboard marks with a webhook badge"
# By what came in place of a request.
NOT_HTTP = {
    "tls": "the other side speaks TLS, and this port does not: have the proxy or the tunnel speak http to the bridge, "
    "or set BRIDGE_TLS_CERT and BRIDGE_TLS_KEY",
    "no_tls": "the other side speaks plain http, and this port wants TLS: have the proxy or the tunnel speak https to "
    "the bridge, or take out BRIDGE_TLS_CERT and BRIDGE_TLS_KEY",
    "certificate": "the other side does not trust the certificate in BRIDGE_TLS_CERT: use one for PUBLIC_URL's host "
    "from a public authority, with all of its chain",
    "proxy_protocol": "the proxy sends the PROXY protocol before the request: switch that off, for HAProxy take out "
    "send-proxy",
    "http2": "the proxy speaks HTTP/2 to the bridge: have it speak HTTP/1.1",
    "upgrade_by_http_1_0": "the proxy asks for the media socket by HTTP/1.0: have it speak HTTP/1.1, for nginx set "
    "proxy_http_version 1.1",
    "upgrade_without_connection": "the proxy passes on the header Upgrade and not Connection: have it pass on both, "
    'for nginx set proxy_set_header Connection "upgrade"',
    "upgrade_without_key": "the proxy does not pass on Sec-WebSocket-Key and Sec-WebSocket-Version as they come: have "
    "it pass on all headers of an upgrade",
}
# By the reason for which a media socket's `start` is refused.
OF_START = {
    "token": "its parameters have no token of this bridge, or one that is too old: use the TwiML of /voice unchanged "
    "and at once, and give all processes the same TWILIO_AUTH_TOKEN",
    "token_of_another_call": "its token is that of another call: answer each call with TwiML of its own",
    "account_sid": OTHER_ACCOUNT,
    "media_format": "its audio is not mu-law with 8000 Hz and one channel: use the TwiML of /voice unchanged",
    "agent": "a reload has removed or disabled the agents of this call: new calls get the present ones",
    "call_live": "the call has a media socket already: each TwiML opens one, once",
    "call_over": "the call is over: each TwiML opens one media socket, once",
    "token_replaced": "the call was answered again since: only the last TwiML opens a media socket",
}


def other_address(found: str, public_url: str, path: str) -> str:
    """Twilio's signature is right for the base URL ``found``, and not for ``PUBLIC_URL``."""
    if path not in IN_CONSOLE:
        text = f"this address was made with PUBLIC_URL={found}"
        return f"{text}: give all processes the same PUBLIC_URL, and restart them"
    if found.startswith("http://") and public_url.startswith("https://"):
        return f"the webhook at Twilio begins with http://: put https{found[4:]}{path} in its console"
    return f"Twilio signed for another address: set PUBLIC_URL={found}, or correct the webhook in its console"


def prefix_missing(public_url: str, prefix: str) -> str:
    """Twilio asks below a prefix that ``PUBLIC_URL`` does not have."""
    return f"Twilio asks below {prefix}: set PUBLIC_URL={public_url}{prefix}, or take {prefix} out of the webhook"


def prefix_added(prefix: str) -> str:
    """Something between adds a prefix that Twilio did not sign."""
    return f"the proxy before the bridge puts {prefix} before the path: have it pass on paths as they come"


def written_otherwise(public_url: str, webhook: str) -> str:
    """The path is that of a webhook but for slashes and upper case."""
    return f"put {public_url}{webhook} in Twilio's console, in lower case and without a slash at the end"


def no_such_path(public_url: str) -> str:
    """The path is none of a bridge."""
    return (
        f"put {public_url}/voice in Twilio's console where a call comes in, and {public_url}/voice/status for status "
        "changes; a proxy must pass on both paths as they come"
    )
