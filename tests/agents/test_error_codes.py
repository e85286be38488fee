"""Labels for what services say, and their bound."""

from __future__ import annotations

import pytest

from bridge.agents.error_codes import CODES_MOST, OTHER, ErrorCodes


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("error insufficient_quota: You exceeded your quota", "insufficient_quota"),
        ("Error FAILED_TO_THINK: The LLM did not answer", "FAILED_TO_THINK"),
        ("error 1002 llm_error The LLM failed.", "1002"),
        ("error busy, and no audio after it", "busy"),
        ("close 1011 fault of mine", "close_1011"),
        ("close 1008 Missing required dynamic variables", "close_1008"),
        ("upgrade refused: 401", "status_401"),
        ("no session: status 503", "status_503"),
        ("status 402", "status_402"),
        ("no session within 4 s", "timeout"),
        ("not open within 5 s", "timeout"),
        ("not ready within 0.5 s", "timeout"),
        ("silent for 15 s", "timeout"),
        ("did not read for 10 s", "timeout"),
        ("certificate refused: self-signed certificate", "certificate"),
        ("cannot open: ConnectionRefusedError", "connection"),
        ("no close frame", "connection"),
        ("reset", "connection"),
        ("route full", OTHER),
        ("", OTHER),
    ],
)
def test_code_is_found_in_a_reason(reason, code):
    assert ErrorCodes().code_of("a", reason) == code


def test_codes_of_an_agent_are_bounded():
    codes = ErrorCodes()
    found = [codes.code_of("a", f"error e{n}") for n in range(2 * CODES_MOST)]
    assert found[:CODES_MOST] == [f"e{n}" for n in range(CODES_MOST)]
    assert set(found[CODES_MOST:]) == {OTHER}
    # Those that are known stay, and another agent has its own.
    assert codes.code_of("a", "error e0") == "e0"
    assert codes.code_of("b", "error e99") == "e99"


def test_code_has_no_text_of_the_service():
    code = ErrorCodes().code_of("a", 'error "quoted\n{x}" ' + "y" * 100)
    assert code == OTHER
    assert len(ErrorCodes().code_of("a", "error " + "y" * 100)) <= 48
