"""
The protocols that the stand-in agent service speaks, by name.

- ``protocol``: what a service asks of each
- ``retell``, ``retell_calls``, ``retell_twilio``: Retell's registrations and sockets
- ``turns``: calls whose protocol tells utterances apart
- ``openai``, ``openai_events``, ``elevenlabs``, ``deepgram``: realtime APIs that take mu-law
- ``plain``: agents of no vendor
"""

from __future__ import annotations

from bridge.standins.agent.protocols.deepgram import Deepgram
from bridge.standins.agent.protocols.elevenlabs import ElevenLabs
from bridge.standins.agent.protocols.openai import OpenAI
from bridge.standins.agent.protocols.plain import Binary, Json
from bridge.standins.agent.protocols.protocol import Protocol
from bridge.standins.agent.protocols.retell import Retell
from bridge.standins.agent.protocols.retell_calls import RetellSip, RetellTwilio, RetellWeb

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
