"""Wrong set-ups that people make are named at start, each in one sentence that says what to change."""

from __future__ import annotations

import pytest
from settings_env import GOOD, clean_environment, problems
from wrong_setups import AT_START, FILES, WARNED

from bridge.settings import load_settings

__all__ = ["clean_environment"]


@pytest.mark.parametrize(("variables", "setting", "todo"), AT_START.values(), ids=AT_START)
def test_wrong_setup_is_one_problem_that_says_what_to_change(tmp_path, variables, setting, todo):
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    (sentence,) = problems(**{**GOOD, **variables})
    assert sentence.startswith(f"{setting}: ")
    assert todo in sentence
    assert "Input should" not in sentence


@pytest.mark.parametrize(("variables", "setting", "todo"), WARNED.values(), ids=WARNED)
def test_doubtful_setup_starts_with_one_warning(variables, setting, todo):
    (sentence,) = load_settings({**GOOD, **variables}).warnings
    assert sentence.startswith(f"{setting}: ")
    assert todo in sentence


def test_table_has_at_least_forty_set_ups():
    assert len(AT_START) + len(WARNED) >= 40
