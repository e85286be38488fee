"""
The protocols of the stand-in agent service, by name.

- ``protocol``: their base class
- ``retell``, ``retell_calls``, ``retell_twilio``: Retell's registrations and sockets
- ``turns``: base of the calls that consist of utterances
- ``openai``, ``openai_events``, ``elevenlabs``, ``deepgram``: realtime APIs that take mu-law
- ``openai_dialects``: services that speak OpenAI's protocol
- ``openai_live``, ``openai_live_events``: OpenAI's GPT-Live, which listens and speaks at once
- ``assemblyai``, ``cartesia``, ``ultravox``, ``vapi``: agents that ``examples/agents`` describes
- ``plain``: two minimal agents of no vendor
"""

from __future__ import annotations

from bridge.standins.agent.protocols.assemblyai import AssemblyAi
from bridge.standins.agent.protocols.cartesia import Cartesia
from bridge.standins.agent.protocols.deepgram import Deepgram
from bridge.standins.agent.protocols.elevenlabs import ElevenLabs
from bridge.standins.agent.protocols.openai import OpenAI
from bridge.standins.agent.protocols.openai_dialects import AzureOpenAI, Inworld, Xai
from bridge.standins.agent.protocols.openai_live import OpenAiLive
from bridge.standins.agent.protocols.plain import Binary, Json
from bridge.standins.agent.protocols.protocol import Protocol
from bridge.standins.agent.protocols.retell import Retell
from bridge.standins.agent.protocols.retell_calls import RetellSip, RetellTwilio, RetellWeb
from bridge.standins.agent.protocols.ultravox import Ultravox
from bridge.standins.agent.protocols.vapi import Vapi

PROTOCOLS: dict[str, type[Protocol]] = {
    protocol.name: protocol
    for protocol in (
        Retell,
        RetellWeb,
        RetellTwilio,
        RetellSip,
        OpenAI,
        Xai,
        AzureOpenAI,
        Inworld,
        OpenAiLive,
        ElevenLabs,
        Deepgram,
        AssemblyAi,
        Cartesia,
        Ultravox,
        Vapi,
        Binary,
        Json,
    )
}
