"""ElevenLabs' dialogue: which audio belongs to an interrupted turn, and who reads it."""

from __future__ import annotations

from typing import Any

import orjson

from bridge.agents.agent import MULAW_8K, Audio, Control, Corrected, Event, Ignored
from bridge.agents.succession import Memory, Said, Speaker
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


def test_responses_and_transcripts_say_what_was_said():
    dialogue = ElevenLabsDialogue()
    response = {"agent_response": " At nine, but on Sundays. ", "event_id": 1}
    said = Said(Speaker.AGENT, "At nine, but on Sundays.")
    assert read(dialogue, type="agent_response", agent_response_event=response) == [said]
    correction = {
        "original_agent_response": "At nine, but on Sundays.",
        "corrected_agent_response": "At nine, ...",
    }
    event = {"type": "agent_response_correction", "agent_response_correction_event": correction}
    assert read(dialogue, **event) == [Corrected("At nine, ...")]
    transcript = {"user_transcript": "Yes."}
    event = {"type": "user_transcript", "user_transcription_event": transcript}
    assert read(dialogue, **event) == [Said(Speaker.CALLER, "Yes.")]


def test_one_that_takes_over_is_told_what_was_said():
    begin = {"type": "conversation_initiation_client_data"}
    said = (Said(Speaker.AGENT, "Hello?"), Said(Speaker.CALLER, 'What is "open"?'))
    first, told = map(orjson.loads, ElevenLabsDialogue(Memory(said, True)).opening())
    assert (first, told["type"]) == (begin, "contextual_update")
    assert told["text"].endswith('\nAgent: Hello?\nCaller: What is "open"?')
    for memory in (None, Memory((), True)):
        assert [orjson.loads(message) for message in ElevenLabsDialogue(memory).opening()] == [begin]
