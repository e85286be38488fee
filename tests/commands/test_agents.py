"""`bridge agents check`: what it says of tables and of sample messages, and how it exits."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from wrong_tables import WRONG

from bridge.cli import main

GOOD = """
[acme]
url = "wss://h/{env.acme_path}"
headers = { X = "{file.acme_key}" }
first = ['{"hello":"{call_sid}"}']
to_agent = '{"audio":"{audio}"}'
from_agent = { path = "audio", equal = { type = "audio" } }
ready = { type = "ready" }
interrupt = { type = "stop" }
error = { type = "error" }
error_text = "message"
transfer = { match = { type = "transfer" }, to = "number", refused = '{"no":"{number}"}' }
answers = [{ match = { type = "ping" }, answer = '{"pong":{id}}' }]
transcript = [{ match = { type = "said" }, path = "text", role = "agent" }]
ignored = [{ type = "state" }]
"""
SAMPLE = """
{"type":"ready"}
{"type":"audio","audio":"////"}

{"type":"said","text":"Hello."}
{"type":"state"}
{"type":"ping","id":7}
{"type":"stop"}
{"type":"transfer","number":"+49"}
{"type":"error","message":"no credit"}
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "agents.toml").write_text(GOOD)
    (tmp_path / "sample.jsonl").write_text(SAMPLE)
    return tmp_path


def check(folder: Path, *arguments: str, **contents: str) -> tuple[int, str]:
    for name, content in contents.items():
        (folder / f"{name}.toml").write_text(content)
    done = CliRunner().invoke(main, ["agents", "check", str(folder / "agents.toml"), *arguments])
    return done.exit_code, done.output


def test_good_table_is_fine_and_says_what_it_needs(folder):
    assert check(folder) == (0, "acme: fine; needs ACME_KEY, ACME_PATH\n")


def test_each_message_of_a_sample_is_shown_with_its_meaning(folder):
    code, shown = check(folder, "--sample", str(folder / "sample.jsonl"))
    assert code == 0
    meanings = [line.partition("   (")[0] for line in shown.splitlines()[1:]]
    assert meanings == [
        'first: sends {"hello":"CA00000000000000000000000000000000"}',
        "2: ready: audio flows from now on",
        "3: 0.375 ms of audio, mulaw at 8000 Hz",
        "5: agent says: Hello.",
        "6: nothing to the call",
        '7: sends {"pong":7}',
        "8: interrupt: unplayed audio is discarded",
        '9: transfer to +49; if refused sends {"no":"+49"}',
        "10: the agent is lost (lost): error: no credit",
    ]


def test_message_that_is_not_understood_is_exit_1(folder):
    (folder / "sample.jsonl").write_text('{"type":"ready"}\n{"type":"new"}\n')
    code, shown = check(folder, "--sample", str(folder / "sample.jsonl"))
    assert code == 1
    assert "3: not understood" not in shown
    assert "2: not understood   (type=new keys: type)" in shown


def test_every_wrong_table_is_exit_2_with_all_problems(folder):
    more = "[other]\nurl = 'h'\n[echo]\nurl = 'wss://h'\nbinary = true\n"
    code, shown = check(folder, agents=GOOD.replace("interrupt", "interupt") + more)
    assert code == 2
    assert shown.splitlines() == [
        "acme: wrong",
        "  acme.interupt: unknown key; did you mean interrupt?",
        "other: wrong",
        "  other.url: must begin with wss:// or ws:// or {session.",
        "  other.to_agent: is missing: the message with one frame to the agent, with {audio} in it once; "
        "or binary = true",
        "  other.from_agent: is missing: the place of the base64 text in the agent's messages, e.g. "
        "{ path = 'audio', equal = { type = 'audio' } }; or binary = true",
        "echo: wrong",
        "  echo: is the name of a built-in agent; use another",
    ]


def test_each_of_many_wrong_tables_is_named_with_what_would_be_right(folder):
    assert len(WRONG) >= 20
    tables = [
        f"[t{n}]\n{content}".replace("[session]", f"[t{n}.session]")
        for n, (content, _, _) in enumerate(WRONG)
    ]
    code, shown = check(folder, agents="\n".join(tables))
    assert code == 2
    lines = [line.strip() for line in shown.splitlines()]
    for n, (_, place, words) in enumerate(WRONG):
        assert f"t{n}: wrong" in lines
        assert any(line.startswith(f"t{n}.{place}: {words}") for line in lines)


def test_one_of_several_tables_can_be_chosen(folder):
    more = "[other]\nurl = 'h'\n"
    assert check(folder, "--agent", "acme", agents=GOOD + more)[0] == 0
    assert check(folder, "--agent", "other")[0] == 2
    code, shown = check(folder, "--agent", "nobody")
    assert (code, "it has acme, other" in shown) == (2, True)


def test_sample_of_several_tables_must_say_whose_it_is(folder):
    two = GOOD + GOOD.replace("[acme]", "[other]")
    code, shown = check(folder, "--sample", str(folder / "sample.jsonl"), agents=two)
    assert (code, "has 2 agents: say with --agent" in shown) == (2, True)


def test_file_that_is_no_toml_is_exit_2_with_the_line(folder):
    code, shown = check(folder, agents="[acme\n")
    assert code == 2
    assert "line 1" in shown


def test_file_without_a_table_is_exit_2(folder):
    assert check(folder, agents="# nothing\n") == (
        2,
        f"{folder}/agents.toml has no table: each agent is one, [NAME]\n",
    )


def test_audio_that_costs_more_is_said_with_the_reason(folder):
    deep = GOOD.replace('path = "audio"', 'path = "a.parts[*].data"')
    assert "read in Python, which costs more: its path" in check(folder, agents=deep)[1]
    vague = GOOD.replace("interrupt = { type", "interrupt = { kind")
    assert "does not tell it apart from interrupt" in check(folder, agents=vague)[1]


def test_table_that_disables_a_built_in_agent_is_fine(folder):
    code, shown = check(folder, agents=GOOD + "[openai]\ndisabled = true\n")
    assert (code, "openai: fine; a built-in agent that is disabled" in shown) == (0, True)
    code, shown = check(folder, agents=GOOD + "[openai]\ndisabled = 1\n")
    assert (code, "openai.disabled: must be true or false" in shown) == (2, True)
