"""OpenAI's dialogue: which audio belongs to an interrupted item, and who reads it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bridge.agents.agent import Audio, Control, Event, Ignored
from bridge.agents.vendors.openai import OpenAiDialogue, OpenAiSettings


@pytest.fixture
def dialogue() -> OpenAiDialogue:
    return OpenAiDialogue(OpenAiSettings(openai_api_key="key"))


def read(dialogue: OpenAiDialogue, **message: Any) -> list[Event]:
    return list(dialogue.read(orjson.dumps(message)))


def begin_item(dialogue: OpenAiDialogue, item_id: str) -> list[Event]:
    part = {"type": "audio"}
    return read(dialogue, type="response.content_part.added", item_id=item_id, content_index=0, part=part)


def audio(dialogue: OpenAiDialogue, item_id: str) -> list[Event]:
    return read(dialogue, type="response.output_audio.delta", item_id=item_id, delta="AAAA")


def interrupt(dialogue: OpenAiDialogue) -> list[Event]:
    events = read(dialogue, type="input_audio_buffer.speech_started")
    list(dialogue.on_interrupt(100))
    return events


def test_audio_of_an_interrupted_item_is_dropped_and_the_next_items_is_relayed_again(dialogue):
    assert begin_item(dialogue, "one") == [Control.TURN, Control.RELAY_AUDIO]
    assert interrupt(dialogue) == [Control.INTERRUPT, Control.INSPECT_AUDIO]
    assert audio(dialogue, "one") == [Ignored("void_audio")]
    assert begin_item(dialogue, "one") == []
    assert audio(dialogue, "two") == [Audio(b"AAAA"), Control.RELAY_AUDIO]
    assert begin_item(dialogue, "two") == [Control.TURN, Control.RELAY_AUDIO]


def test_interrupt_before_any_item_leaves_audio_to_the_wire(dialogue):
    assert interrupt(dialogue) == [Control.INTERRUPT]
