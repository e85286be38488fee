"""The session object: what the user gives, what is ours, and what a service confirms."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.agents.realtime_session import session_object, turn_detection

PCMU = {"type": "audio/pcmu"}
GIVEN = {
    "instructions": "given",
    "output_modalities": ["text"],
    "speed": 1.2,
    "audio": {
        "input": {"format": {"type": "audio/pcm", "rate": 24000}, "noise_reduction": {"type": "far_field"}},
        "output": {"voice": "cedar"},
    },
    "tools": [{"type": "mcp", "server_label": "x"}],
}


def make(given: Any, **options: Any) -> dict[str, Any]:
    return session_object(given, **{"tools": False, "may_transfer": False, **options})


def test_given_fields_are_merged_and_the_formats_are_ours():
    assert make(GIVEN) == {
        "type": "realtime",
        "instructions": "given",
        "output_modalities": ["audio"],
        "speed": 1.2,
        "audio": {
            "input": {"format": PCMU, "noise_reduction": {"type": "far_field"}},
            "output": {"format": PCMU, "voice": "cedar"},
        },
        "tools": [{"type": "mcp", "server_label": "x"}],
    }


@pytest.mark.parametrize("given", [{"audio": None}, {"audio": {"input": 5}}, {"audio": []}])
def test_odd_fields_are_replaced(given):
    assert make(given)["audio"] == {"input": {"format": PCMU}, "output": {"format": PCMU}}


def test_settings_go_before_what_is_given():
    session = make(GIVEN, instructions="mine", voice="marin")
    assert session["instructions"] == "mine"
    assert session["audio"]["output"]["voice"] == "marin"
    assert GIVEN["instructions"] == "given"


@pytest.mark.parametrize(
    ("may_transfer", "names"), [(False, ["hang_up"]), (True, ["hang_up", "transfer_call"])]
)
def test_transfer_is_offered_only_where_it_is_allowed(may_transfer, names):
    session = make({}, tools=True, may_transfer=may_transfer)
    assert [tool["name"] for tool in session["tools"]] == names
    session = make(GIVEN, tools=True, may_transfer=may_transfer)
    assert session["tools"][len(names) :] == GIVEN["tools"]


def test_turn_detection_is_found_at_either_place():
    vad = {"type": "server_vad"}
    assert turn_detection({"turn_detection": vad}) == vad
    assert turn_detection({"audio": {"input": {"turn_detection": vad}}}) == vad
    assert turn_detection({"audio": {"input": {"turn_detection": None}}}) == {}
