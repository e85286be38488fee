"""The agents that the generator can play, and the bridge's settings for each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# In the generator's order (generator/agents.h).
PROTOCOLS = (
    "retell",
    "retell-web",
    "retell-twilio",
    "openai",
    "elevenlabs",
    "elevenlabs-pcm",
    "deepgram",
    "json",
    "binary",
)
DEFAULT = "retell"
# The bridge sends a mark after each 200 ms of audio to the caller (bridge/call/heard.py), at 8 bytes per ms.
MARK_EVERY_BYTES = 1600
# The size of the generator's buffer for one frame.
FRAME_BYTES_MOST = 32_000
KEY = "key_load"
# Agents from a settings file, by the name of their table; URL stands for the base URL of the agent's socket.
DESCRIBED = {
    "json": """
[json]
url = "URL/agent"
to_agent = '{"kind":"audio","body":{"b64":"{audio}"}}'
from_agent = { path = "body.b64", equal = { kind = "audio" } }
interrupt = { kind = "stop_talking" }
""",
    "binary": """
[binary]
url = "URL/agent"
binary = true
interrupt = { type = "interrupt" }
""",
    "openai-plain": """
[openai-plain]
url = "URL/v1/realtime?model=gpt-realtime"
first = ['{"type":"session.update","session":{"type":"realtime","output_modalities":["audio"],\
"audio":{"input":{"format":{"type":"audio/pcmu"}},"output":{"format":{"type":"audio/pcmu"}}}}}']
to_agent = '{"type":"input_audio_buffer.append","audio":"{audio}"}'
from_agent = { path = "delta", equal = { type = "response.output_audio.delta" } }
ready = { type = "session.updated" }
interrupt = { type = "input_audio_buffer.speech_started" }
""".replace("\\\n", ""),
}


@dataclass(frozen=True, kw_only=True)
class PlayedAgent:
    """
    An agent that the generator plays.

    Attributes:
        protocol: An entry of `PROTOCOLS`.
        allowed: Highest cost of a frame relative to retell, or None for no limit.
        has_token: Whether the bridge opens the socket with the session's token.
        resampled_hz: Sampling rate to which the bridge resamples the audio, or None for mu-law.
        frame_bytes_least: Lower size limit of a caller's frame.
        frame_bytes_most: Upper size limit of a caller's frame.
    """

    protocol: str
    allowed: float | None = 1.10
    has_token: bool = False
    resampled_hz: int | None = None
    frame_bytes_least: int = 16
    frame_bytes_most: int = FRAME_BYTES_MOST

    @property
    def number(self) -> int:
        return PROTOCOLS.index(self.protocol)


AGENTS: Mapping[str, PlayedAgent] = {
    "retell": PlayedAgent(protocol="retell", has_token=True),
    "retell-web": PlayedAgent(protocol="retell-web"),
    "retell-twilio": PlayedAgent(protocol="retell-twilio"),
    "openai": PlayedAgent(
        protocol="openai",
        allowed=None,
        # The bridge sends longer frames in pieces, with marks between them.
        frame_bytes_most=MARK_EVERY_BYTES,
    ),
    "openai-plain": PlayedAgent(protocol="openai"),
    "elevenlabs": PlayedAgent(protocol="elevenlabs"),
    "elevenlabs-pcm": PlayedAgent(
        protocol="elevenlabs-pcm",
        allowed=None,
        resampled_hz=16_000,
        # The part of a frame that depends on the frame before must be the smaller one.
        frame_bytes_least=80,
        # Two bytes a sample and twice the samples.
        frame_bytes_most=FRAME_BYTES_MOST // 4,
    ),
    "deepgram": PlayedAgent(protocol="deepgram"),
    "json": PlayedAgent(protocol="json"),
    "binary": PlayedAgent(protocol="binary"),
}


def name_of_run(agent: str) -> str:
    """Return the name of a run with this agent."""
    return "bridge" if agent == DEFAULT else f"bridge, {agent}"


def agent_of_run(name: str) -> str:
    """Return the agent of a run by the name of the run."""
    return next(agent for agent in AGENTS if name_of_run(agent) == name)


def settings_for(agent: str, api_url: str, media_url: str, directory: Path) -> dict[str, str]:
    """
    Return the bridge's settings for an agent.

    Args:
        api_url: Base URL of `benchmarks.calls.agent_api`.
        media_url: Base URL of the generator's WebSockets.
        directory: Where to write files that the settings refer to.
    """
    if agent in DESCRIBED:
        path = directory / "agents.toml"
        path.write_text(DESCRIBED[agent].replace("URL", media_url))
        return {"BRIDGE_AGENT": agent, "BRIDGE_AGENTS_FILE": str(path)}
    if agent == "openai":
        return {
            "BRIDGE_AGENT": agent,
            "OPENAI_API_KEY": KEY,
            "OPENAI_REALTIME_URL": f"{media_url}/v1/realtime",
            # The generator begins each turn by itself.
            "OPENAI_REALTIME_GREETS": "0",
        }
    if agent == "deepgram":
        path = directory / "deepgram.json"
        path.write_text(json.dumps({"language": "en"}))
        return {
            "BRIDGE_AGENT": agent,
            "DEEPGRAM_API_KEY": KEY,
            "DEEPGRAM_AGENT_URL": f"{media_url}/v1/agent/converse",
            "DEEPGRAM_AGENT_FILE": str(path),
        }
    if agent == "elevenlabs":
        return {
            "BRIDGE_AGENT": agent,
            "ELEVENLABS_AGENT_ID": "agent_load",
            "ELEVENLABS_WS_URL": f"{media_url}/v1/convai/conversation",
        }
    if agent == "elevenlabs-pcm":
        # With a key the bridge asks for a signed URL, which identifies the call; resampled audio does not.
        return {
            "BRIDGE_AGENT": "elevenlabs",
            "ELEVENLABS_API_KEY": KEY,
            "ELEVENLABS_AGENT_ID": "agent_load",
            "ELEVENLABS_API_URL": api_url,
        }
    return {
        "BRIDGE_AGENT": agent,
        "RETELL_API_KEY": KEY,
        "RETELL_AGENT_ID": "agent_load",
        "RETELL_API_URL": api_url,
        "RETELL_WS_URL": f"{media_url}/audio-websocket",
    }
