"""Agents that speak 16-bit PCM: speech through the whole bridge, against soxr at its best and audioop's mu-law."""

from __future__ import annotations

import asyncio
import audioop

import numpy as np
import pytest
import soxr
from live import API_KEY, PLAIN_AND_TLS, until

from bridge.standins.agent.protocols.protocol import Account
from bridge.standins.audio import frames, speech

pytestmark = PLAIN_AND_TLS

LEAST_DB = 35.0
# Name of the protocol, and the stand-in's options.
PCM_AGENTS = {
    "elevenlabs 16000": ("elevenlabs", 16000),
    "elevenlabs 24000": ("elevenlabs", 24000),
    "retell-web 8000": ("retell-web", 8000),
    "retell-web 16000": ("retell-web", 16000),
    "retell-web 24000": ("retell-web", 24000),
}


def samples(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, dtype="<i2").astype(np.float64)


def linear(mulaw: bytes) -> np.ndarray:
    return samples(audioop.ulaw2lin(mulaw, 2))


def signal_to_noise_db(wanted: np.ndarray, got: np.ndarray, most_lag: int) -> float:
    """The ratio where the two fit best: a filter delays what goes through it."""
    best = -np.inf
    for lag in range(most_lag + 1):
        n = min(len(wanted), len(got) - lag)
        noise = got[lag : lag + n] - wanted[:n]
        best = max(best, 10 * np.log10(np.sum(wanted[:n] ** 2) / max(np.sum(noise**2), 1e-9)))
    return float(best)


def resampled(pcm: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    if from_hz == to_hz:
        return pcm
    return np.clip(np.round(soxr.resample(pcm, from_hz, to_hz, quality="VHQ")), -32768, 32767)


@pytest.mark.parametrize("name", PCM_AGENTS)
async def test_speech_to_and_from_an_agent_of_samples_is_as_soxr_would_have_it(live_server, name):
    protocol, rate_hz = PCM_AGENTS[name]
    pcm = f"pcm_{rate_hz}"
    account = Account(key=API_KEY, from_caller_format=pcm, to_caller_format=pcm)
    live = await live_server(agent={"protocol": protocol, "account": account})
    question, answer = list(frames(speech("caller_question"))), list(frames(speech("agent_answer")))
    async with live.bridged() as (caller, session):
        await asyncio.gather(
            caller.send_frames(question, paced=False), session.send_frames(answer, paced=False)
        )
        # A filter keeps a few samples to itself until more come.
        await until(lambda: len(b"".join(caller.received_audio)) >= len(b"".join(answer)) - 80)
        await until(
            lambda: len(b"".join(session.received_raw)) // 2 * 8000 // rate_hz >= len(b"".join(question)) - 80
        )
        heard, said = b"".join(caller.received_audio), b"".join(session.sent_raw)
        to_agent = b"".join(session.received_raw)
        assert caller.warnings == []
    wanted = resampled(samples(said), rate_hz, 8000).astype("<i2").tobytes()
    assert signal_to_noise_db(linear(audioop.lin2ulaw(wanted, 2)), linear(heard), 80) >= LEAST_DB
    up = resampled(linear(b"".join(question)), 8000, rate_hz)
    assert signal_to_noise_db(up, samples(to_agent), 80 * rate_hz // 8000) >= LEAST_DB


async def test_interrupt_and_end_of_an_agent_of_samples(live_server):
    account = Account(key=API_KEY, from_caller_format="pcm_16000", to_caller_format="pcm_16000")
    live = await live_server(agent={"protocol": "elevenlabs", "account": account})
    async with live.bridged() as (caller, session):
        first, second = list(frames(speech("agent_answer")))[:60], list(frames(speech("agent_goodbye")))[:20]
        await session.send_frames(first, paced=False)
        await until(lambda: len(b"".join(caller.received_audio)) >= 60 * 160 - 80)
        await session.send_interrupt()
        await session.send_frames(second, paced=False)
        await session.send_call_ended()
        await caller.closed.wait()
        assert caller.close_code == 1000
        names = [item.message.event for item in caller.received]
        assert names.count("clear") == 1
        after = [
            item.message.audio
            for item in caller.received[names.index("clear") :]
            if item.message.event == "media"
        ]
        assert abs(len(b"".join(after)) - 20 * 160) <= 80


async def test_half_a_sample_before_an_interrupt_does_not_shift_what_follows(live_server):
    account = Account(key=API_KEY, from_caller_format="pcm_8000", to_caller_format="pcm_8000")
    live = await live_server(agent={"protocol": "retell-web", "account": account})
    words = b"".join(frames(speech("agent_answer")))[8000:8160]
    pcm = audioop.ulaw2lin(words, 2)
    async with live.bridged() as (caller, session):
        await session.send_raw(pcm + b"\x7f")
        await session.send_interrupt()
        await session.send_raw(pcm)
        await until(lambda: len(caller.received) == 3)
        assert [item.message.event for item in caller.received] == ["media", "clear", "media"]
        assert caller.received_audio == [words, words]
