"""docs/latency.md: its picture is the one that the tool draws, and its figures are those of the labelled set."""

import importlib
import re

from pages import DOCS

PAGE = (DOCS / "latency.md").read_text()


def test_picture_is_the_one_that_is_drawn(capsys):
    importlib.import_module("tools.turn_picture").main()
    assert capsys.readouterr().out == (DOCS / "turn.svg").read_text(), (
        "run python -m tools.turn_picture > docs/turn.svg"
    )


def test_errors_are_those_that_the_tool_prints(capsys):
    importlib.import_module("tools.wait_errors").main()
    printed = re.findall(r"(\S[^:]*):.*median +([\d.]+) ms, 95 % +([\d.]+) ms", capsys.readouterr().out)
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) ms \| ([\d.]+) ms \|$", PAGE, re.MULTILINE)
    assert rows == printed
