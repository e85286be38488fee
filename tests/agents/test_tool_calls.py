"""Tool calls: each is answered once, and those that end the conversation are answered before it ends."""

from __future__ import annotations

import json

import pytest

from bridge.agents.agent import Control, Event, Ignored, Reply, Transfer
from bridge.agents.tool_calls import CALLS_REMEMBERED, ToolCalls
from bridge.agents.words import HANGS_UP, TRANSFERS


def answer(call_id: str, name: str, result: str, is_error: bool) -> bytes:
    return json.dumps([call_id, name, result, is_error]).encode()


@pytest.fixture
def calls() -> ToolCalls:
    return ToolCalls(answer)


def decide(calls: ToolCalls, call_id: object, name: object, arguments: object = None) -> list[Event]:
    return list(calls.decide(call_id, name, arguments))


def test_hang_up_is_answered_before_it_is_asked_for(calls):
    assert decide(calls, "a", "hang_up") == [Reply(answer("a", "hang_up", HANGS_UP, False)), Control.HANG_UP]


def test_transfer_brings_both_of_its_answers(calls):
    [transfer] = decide(calls, "a", "transfer_call", {"to_number": "+14155550100"})
    refusal = answer("a", "transfer_call", "transfers to this number are not allowed", True)
    accepted = answer("a", "transfer_call", TRANSFERS, False)
    assert transfer == Transfer("+14155550100", (refusal,), (accepted,))


def test_unknown_function_is_answered_with_an_error(calls):
    unknown = answer("a", "order_pizza", "this function is not known here", True)
    assert decide(calls, "a", "order_pizza", {"size": 30}) == [Reply(unknown)]


def test_repeated_call_is_ignored(calls):
    decide(calls, "a", "hang_up")
    assert decide(calls, "b", "hang_up")[-1] is Control.HANG_UP
    assert decide(calls, "a", "hang_up") == [Ignored("repeated_tool_call")]


def test_number_of_remembered_calls_is_bounded(calls):
    for n in range(CALLS_REMEMBERED + 1):
        decide(calls, str(n), "hang_up")
    assert decide(calls, "1", "hang_up") == [Ignored("repeated_tool_call")]
    assert decide(calls, "0", "hang_up")[-1] is Control.HANG_UP


@pytest.mark.parametrize(("call_id", "name"), [(None, "hang_up"), (["a"], "hang_up"), (7, "hang_up")])
def test_call_without_an_id_is_decided_and_not_answered(calls, call_id, name):
    assert decide(calls, call_id, name) == decide(calls, call_id, name) == [Control.HANG_UP]


@pytest.mark.parametrize("name", [None, 7, ["hang_up"], {}])
def test_call_without_a_name_is_an_unknown_function(calls, name):
    assert decide(calls, "a", name) == [Ignored("unknown_function")]
