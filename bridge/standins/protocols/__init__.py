"""
The protocols that the stand-in agent service speaks, by name.

- ``protocol``: what a service asks of each
- ``retell``, ``retell_calls``, ``retell_twilio``: Retell's registrations and sockets
- ``turns``: calls whose protocol tells utterances apart
- ``openai``, ``openai_events``, ``elevenlabs``, ``deepgram``: realtime APIs that take mu-law
- ``plain``: agents of no vendor
"""

from __future__ import annotations

from .deepgram import Deepgram
from .elevenlabs import ElevenLabs
from .openai import OpenAI
from .plain import Binary, Json
from .protocol import Protocol
from .retell import Retell
from .retell_calls import RetellSip, RetellTwilio, RetellWeb

PROTOCOLS: dict[str, type[Protocol]] = {
    protocol.name: protocol
    for protocol in (
        Retell,
        RetellWeb,
        RetellTwilio,
        RetellSip,
        OpenAI,
        ElevenLabs,
        Deepgram,
        Binary,
        Json,
    )
}
