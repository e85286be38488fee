"""
Carries phone calls between Twilio Media Streams and a voice agent's WebSocket.

This module is the public face: the server, its settings, and the parts of which a new agent is made. Importing it loads
nothing; each name loads its room when it is first used.

The way of a **webhook**: ``http.front`` reads the request and ``server.paths`` finds its handler. ``server.webhooks``
checks Twilio's signature and who may call (``server.callers``), asks the user's own webhook if there is one
(``server.answer_webhook``), opens a session with an agent (``agents.sessions``), and answers with TwiML
(``twilio.twiml``) whose stream parameters carry a token (``twilio.tokens``).

The way of a **media socket**: ``http.handover`` passes the upgraded socket to the caller's leg, ``server.media_socket``
checks the token in its ``start`` and makes the agent's side, and ``server.live`` keeps the book of open calls.

The way of a **frame**: each side's socket has a `_codec.Wire`. It finds the base64 text in a message of Twilio or the
agent, copies it once into a message for the other side, and sends that. ``call.state`` joined the two wires and sees
no frame. Audio that cannot be sent yet waits in the wire's ring, in order with marks and keys.

The way of an **interrupt**: the wire passes the agent's message to ``call.agent``, the agent's dialogue reads it, and
``call.state`` makes ``call.caller`` discard unplayed audio and send Twilio ``clear``, all in one stack. ``call.leg`` is
the base of both legs: liveness checks, deadlines, the end. ``call.heard`` knows how much the caller has heard.

``call.state`` is a state machine without I/O and without a clock. ``server.registry`` knows which CallSids are
admitted, live or over. ``standins`` holds the stand-in caller and agent service, which import nothing of the above.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _codec import Envelope, SpanFinder
    from bridge.agents.agent import (
        MULAW_8K,
        Agent,
        AgentModule,
        AgentSettings,
        Audio,
        AudioFormat,
        CallInfo,
        Control,
        Corrected,
        Dialogue,
        Endpoint,
        Event,
        Failed,
        Ignored,
        Mark,
        NextNumber,
        Reply,
        Resources,
        SessionError,
        StreamInfo,
        Transfer,
        Troubled,
        Turn,
        Used,
        Warned,
        no_session,
    )
    from bridge.agents.hand_over import SipAddress, VendorStream, VendorTwiml, VendorWebhook
    from bridge.agents.json_dialogue import JsonDialogue
    from bridge.agents.setting_types import HttpUrl, WsUrl
    from bridge.agents.succession import FailureKind, Memory, Said, Speaker
    from bridge.agents.turns import HeardTurn
    from bridge.server.server import Server
    from bridge.settings import Settings, SettingsError, load_settings

    __version__: str

__all__ = [
    "MULAW_8K",
    "Agent",
    "AgentModule",
    "AgentSettings",
    "Audio",
    "AudioFormat",
    "CallInfo",
    "Control",
    "Corrected",
    "Dialogue",
    "Endpoint",
    "Envelope",
    "Event",
    "Failed",
    "FailureKind",
    "HeardTurn",
    "HttpUrl",
    "Ignored",
    "JsonDialogue",
    "Mark",
    "Memory",
    "NextNumber",
    "Reply",
    "Resources",
    "Said",
    "Server",
    "SessionError",
    "Settings",
    "SettingsError",
    "SipAddress",
    "SpanFinder",
    "Speaker",
    "StreamInfo",
    "Transfer",
    "Troubled",
    "Turn",
    "Used",
    "VendorStream",
    "VendorTwiml",
    "VendorWebhook",
    "Warned",
    "WsUrl",
    "__version__",
    "load_settings",
    "no_session",
]

# The module of each public name; all others are in `bridge.agents.agent`.
_HOMES = {
    "Envelope": "_codec",
    "FailureKind": "bridge.agents.succession",
    "HeardTurn": "bridge.agents.turns",
    "Memory": "bridge.agents.succession",
    "Said": "bridge.agents.succession",
    "Speaker": "bridge.agents.succession",
    "HttpUrl": "bridge.agents.setting_types",
    "JsonDialogue": "bridge.agents.json_dialogue",
    "Server": "bridge.server.server",
    "Settings": "bridge.settings",
    "SettingsError": "bridge.settings",
    "SipAddress": "bridge.agents.hand_over",
    "SpanFinder": "_codec",
    "VendorStream": "bridge.agents.hand_over",
    "VendorTwiml": "bridge.agents.hand_over",
    "VendorWebhook": "bridge.agents.hand_over",
    "WsUrl": "bridge.agents.setting_types",
    "load_settings": "bridge.settings",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("voice-bridge")
    else:
        value = getattr(importlib.import_module(_HOMES.get(name, "bridge.agents.agent")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
