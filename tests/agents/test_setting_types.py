"""Types of settings: phone numbers as people and models write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.setting_types import E164, as_e164


@pytest.mark.parametrize(
    "text",
    [
        "+493012345670",
        "+49 (30) 1234-5670",
        "+49 (0)30 1234 5670",
        "0049 30 12345670",
        "tel:+49-30-1234-5670",
        " +49.30.1234/5670 ",
        "+49\u00a030\u20111234\u20135670",
        "\uff0b\uff14\uff19 30 12345670",
    ],
)
def test_number_is_read_however_it_is_written(text):
    assert as_e164(text) == "+493012345670"


@pytest.mark.parametrize(
    "text", ["", "030 12345670", "+1", "the front desk", "+49 30 CALL-US", "+0123456789", "00"]
)
def test_what_is_no_international_number_stays_as_it_is(text):
    assert as_e164(text) == text


@given(st.text())
def test_any_text_is_a_number_or_itself(text):
    found = as_e164(text)
    assert found == text or E164.fullmatch(found)
