"""ElevenLabs' dialogue: which audio belongs to an interrupted turn, and who reads it."""

from __future__ import annotations

from typing import Any

import orjson

from bridge.agents.agent import MULAW_8K, Audio, Control, Event, Ignored
from bridge.agents.vendors.elevenlabs import ElevenLabsDialogue


def read(dialogue: ElevenLabsDialogue, **message: Any) -> list[Event]:
    return list(dialogue.read(orjson.dumps(message)))


def audio(dialogue: ElevenLabsDialogue, event_id: int) -> list[Event]:
    event = {"audio_base_64": "AAAA", "event_id": event_id}
    return read(dialogue, type="audio", audio_event=event)


def interrupt(dialogue: ElevenLabsDialogue, event_id: int) -> list[Event]:
    return read(dialogue, type="interruption", interruption_event={"event_id": event_id})


def test_audio_up_to_an_interruption_is_dropped_and_later_audio_is_relayed_again():
    dialogue = ElevenLabsDialogue()
    assert interrupt(dialogue, 5) == [Control.INTERRUPT, Control.INSPECT_AUDIO]
    assert audio(dialogue, 4) == audio(dialogue, 5) == [Ignored("void_audio")]
    assert audio(dialogue, 6) == [Audio(b"AAAA", MULAW_8K), Control.RELAY_AUDIO]


def test_interruption_that_arrives_late_brings_nothing_back():
    dialogue = ElevenLabsDialogue()
    interrupt(dialogue, 5)
    interrupt(dialogue, 3)
    assert audio(dialogue, 4) == [Ignored("void_audio")]
