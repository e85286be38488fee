"""The agents of a call: routes, the files of agents and routes, and the settings of the agents in use."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.agents.directory import BUILT_IN, Directory, DirectoryError, open_directory

CALL = "CA" + "2" * 32
CANARY = "canary-7f3a"
RETELL = {"retell_api_key": "key", "retell_agent_id": "agent"}
BINARY_AGENT = """
[mine]
url = "wss://agent.example"
binary = true
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path


def directory(
    folder: Path, routes: str = "", agents: str = "", default: str = "echo", **variables: str
) -> Directory:
    """A directory of files with these contents."""
    paths = []
    for name, content in (("routes.toml", routes), ("agents.toml", agents)):
        (folder / name).write_text(content)
        paths.append(str(folder / name) if content else "")
    return open_directory(default.split(","), *paths, variables)


def chain_of(opened: Directory, call_sid: str, to_number: str, from_number: str) -> tuple[str, ...]:
    return opened.route(to_number, from_number, datetime.now(UTC)).chain(call_sid)


def problems(folder: Path, **given: str) -> list[str]:
    """Every problem as a sentence, without a secret and without a library's words."""
    with pytest.raises(DirectoryError) as caught:
        directory(folder, **given)
    shown = [text for _, text in caught.value.problems]
    for setting, text in caught.value.problems:
        assert text.startswith(f"{setting.upper()}: ")
        assert "Value error" not in text
    assert str(caught.value) == "; ".join(shown)
    assert CANARY not in str(caught.value)
    return shown


# Routes


def test_without_files_the_default_answers_every_call(folder):
    opened = directory(folder, default="echo,retell", **RETELL)
    assert chain_of(opened, CALL, "+1", "+2") == ("echo", "retell")
    assert opened.names == {"echo", "retell"}


ROUTES = """
[[route]]
to = "+14155550100"
from_prefix = ["+49", "+43"]
agents = ["a", "echo"]

[[route]]
to = ["+14155550100", "+14155550101"]
agents = ["b"]

[[route]]
from_prefix = "+49"
agents = ["c"]
"""
AGENTS = "\n".join(BINARY_AGENT.replace("mine", name) for name in "abc")


@pytest.mark.parametrize(
    ("to_number", "from_number", "chain"),
    [
        ("+14155550100", "+4930123", ("a", "echo")),
        ("+14155550100", "+43123", ("a", "echo")),
        ("+14155550100", "+1555", ("b",)),
        ("+14155550101", "+4930123", ("b",)),
        ("+14155550102", "+4930123", ("c",)),
        ("+14155550102", "+1555", ("retell",)),
        ("+141555501000", "+1555", ("retell",)),
        ("", "", ("retell",)),
        ("", "anonymous+49", ("retell",)),
    ],
)
def test_first_route_that_fits_wins_and_else_the_default_answers(folder, to_number, from_number, chain):
    opened = directory(folder, ROUTES, AGENTS, default="retell", **RETELL)
    assert chain_of(opened, CALL, to_number, from_number) == chain
    assert opened.names == {"a", "b", "c", "echo", "retell"}


def test_route_without_conditions_fits_every_call(folder):
    opened = directory(folder, '[[route]]\nagents = ["mine"]', BINARY_AGENT)
    assert chain_of(opened, CALL, "", "anonymous") == ("mine",)


SPLIT = """
[[route]]
split = [
    { agents = ["a", "echo"], weight = 70 },
    { agents = ["b"], weight = 25.5 },
    { agents = ["c"], weight = 4.5 },
]
"""


def test_shares_of_a_split_come_out_over_many_calls(folder):
    opened = directory(folder, SPLIT, AGENTS)
    calls = 20_000
    counts = Counter(chain_of(opened, f"CA{n:032x}", "", "") for n in range(calls))
    wanted = {("a", "echo"): 0.7, ("b",): 0.255, ("c",): 0.045}
    assert counts.keys() == wanted.keys()
    for chain, share in wanted.items():
        # Four standard deviations.
        assert abs(counts[chain] / calls - share) < 4 * (share * (1 - share) / calls) ** 0.5


def test_call_gets_the_same_share_whenever_and_wherever_it_is_asked(folder):
    opened, again = (directory(folder, SPLIT, AGENTS) for _ in range(2))
    for n in range(200):
        call_sid = f"CA{n:032x}"
        assert chain_of(opened, call_sid, "", "") == chain_of(again, call_sid, "+1", "+2")
    shares = [chain_of(opened, f"CA{n:032x}", "", "")[0] for n in range(16)]
    # The same in every process, whatever the seed of its hashes.
    assert "".join(shares) == "abaaababaaaaabba"


def test_only_share_of_a_split_gets_every_call(folder):
    opened = directory(
        folder, '[[route]]\nsplit = [{ agents = ["echo"], weight = 0.001 }]', default="retell", **RETELL
    )
    assert {chain_of(opened, f"CA{n:032x}", "", "") for n in range(100)} == {("echo",)}


# Bad files


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ("[[route", "", "cannot be read: "),
        ("route = 1\nroute = 2", "", "cannot be read: Cannot overwrite"),
        ("# nothing", "route: ", "is missing"),
        ("route = []", "route: ", "must not be empty"),
        ("route = 3", "route: ", "must be a list: [ ... ]"),
        ("[route]\nagents = ['echo']", "route: ", "list"),
        (
            "[[routes]]\nagents = ['echo']\n[[route]]\nagents = ['echo']",
            "routes: ",
            "unknown key; did you mean",
        ),
        ("[[route]]", "route-1: ", "must have either agents or split"),
        ("[[route]]\nagents = []", "route-1: ", "must have either agents or split"),
        (
            "[[route]]\nagents = ['echo']\nsplit = [{ agents = ['echo'], weight = 1 }]",
            "route-1: ",
            "must have either agents or split",
        ),
        (
            "[[route]]\nagents = ['echo']\n[[route]]\nagent = 'echo'\nagents = ['echo']",
            "route-2.agent: ",
            "unknown key; did you mean agents?",
        ),
        ("[[route]]\nagents = 'echo'", "route-1.agents: ", "must be a list: [ ... ]"),
        ("[[route]]\nagents = [1]", "route-1.agents.0: ", "must be a text in quotes"),
        ("[[route]]\nto = [1]\nagents = ['echo']", "route-1.to.0: ", "must be a text in quotes"),
        (
            "[[route]]\nfrom_prefix = 49\nagents = ['echo']",
            "route-1.from_prefix: ",
            "must be a list: [ ... ]",
        ),
        (
            "[[route]]\nsplit = [{ agents = ['echo'], weight = 0 }]",
            "route-1.split.0.weight: ",
            "must be more than 0",
        ),
        (
            "[[route]]\nsplit = [{ agents = ['echo'], weight = -1 }]",
            "route-1.split.0.weight: ",
            "must be more than 0",
        ),
        ("[[route]]\nsplit = [{ agents = ['echo'], weight = nan }]", "route-1.split.0.weight: ", ""),
        (
            "[[route]]\nsplit = [{ agents = ['echo'], weight = inf }]",
            "route-1.split.0.weight: ",
            "must be at most 1000000",
        ),
        ("[[route]]\nsplit = [{ agents = ['echo'] }]", "route-1.split.0.weight: ", "is missing"),
        ("[[route]]\nsplit = [{ agents = [], weight = 1 }]", "route-1.split.0.agents: ", "must not be empty"),
        ("[[route]]\nagents = ['parrot']", "route-1: ", "unknown agent 'parrot'; available: "),
        (
            "[[route]]\nto = '+14155550100'\nagents = ['echo']\n"
            "[[route]]\nsplit = [{ agents = ['echo', 'parrot'], weight = 1 }]",
            "route-2: ",
            "unknown agent 'parrot'; available: ",
        ),
    ],
)
def test_bad_file_of_routes_is_reported_with_its_name_and_the_place(folder, content, place, words):
    (shown,) = problems(folder, routes=content)
    start = f"BRIDGE_ROUTES_FILE: {folder / 'routes.toml'}: {place}"
    assert shown.startswith(start)
    assert words in shown.removeprefix(start)


@pytest.mark.parametrize("name", ["bridge_routes_file", "bridge_agents_file"])
def test_unreadable_file_is_reported(folder, name):
    for path in (folder / "missing.toml", folder, folder / "latin.toml"):
        (folder / "latin.toml").write_bytes(b"# \xe9")
        paths = {"bridge_routes_file": "", "bridge_agents_file": "", name: str(path)}
        with pytest.raises(DirectoryError) as caught:
            open_directory(["echo"], *paths.values(), {})
        ((setting, shown),) = caught.value.problems
        assert setting == name
        # A path that does not lead to a file may be a secret in the wrong variable.
        place = f"{path}: " if path.is_file() else ""
        assert shown.startswith(f"{name.upper()}: {place}cannot be read: ")
        assert "relative" not in shown


def test_start_of_a_relative_path_is_told_where_its_file_is_missing(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(DirectoryError) as caught:
        open_directory(["echo"], "secret", "", {})
    ((_, shown),) = caught.value.problems
    assert shown.endswith(f"look at its path and permissions; a relative path begins at {folder}")


def test_unknown_agent_is_reported_with_the_available_ones(folder):
    (shown,) = problems(folder, agents=BINARY_AGENT, default="parrot")
    assert shown == f"BRIDGE_AGENT: unknown agent 'parrot'; available: {', '.join(BUILT_IN)}, mine"


# Settings of the agents in use


def test_agents_are_these():
    assert {"echo", "retell", "retell-sip", "retell-web", "retell-twilio", "openai", "elevenlabs"} < set(
        BUILT_IN
    )


def test_needs_of_every_named_agent_are_reported_once_each(folder):
    routes = """
    [[route]]
    to = "+14155550100"
    agents = ["retell-sip", "openai"]
    [[route]]
    split = [{ agents = ["deepgram"], weight = 1 }, { agents = ["elevenlabs", "retell"], weight = 1 }]
    """
    shown = problems(folder, routes=routes, default="retell")
    assert sorted(text.partition(":")[0] for text in shown) == [
        "DEEPGRAM_AGENT_FILE",
        "DEEPGRAM_API_KEY",
        "ELEVENLABS_AGENT_ID",
        "OPENAI_API_KEY",
        "RETELL_AGENT_ID",
        "RETELL_API_KEY",
    ]
    assert "OPENAI_API_KEY: is missing: get it from OpenAI's dashboard" in shown
    assert all(": is missing: " in text for text in shown)


def test_empty_variable_is_missing(folder):
    (shown,) = problems(folder, default="openai", openai_api_key="")
    assert shown.startswith("OPENAI_API_KEY: is missing: ")


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        (
            {"openai_realtime_url": "https://x"},
            "OPENAI_REALTIME_URL: must begin with ws:// or wss:// and name a host",
        ),
        ({"openai_realtime_tools": "yes"}, "OPENAI_REALTIME_TOOLS: must be 0 or 1 (it is 'yes')"),
    ],
)
def test_wrong_value_of_an_agents_setting_is_reported(folder, variables, shown):
    assert problems(folder, default="openai", openai_api_key=CANARY, **variables) == [shown]


@pytest.mark.parametrize(
    ("agent", "variable"),
    [
        ("openai", "openai_realtime_url"),
        ("openai", "openai_realtime_tools"),
        ("elevenlabs", "elevenlabs_api_url"),
        ("deepgram", "deepgram_agent_file"),
        ("retell", "retell_ws_url"),
        ("retell-sip", "retell_sip_host"),
        ("retell-sip", "retell_sip_transport"),
        ("retell-web", "retell_web_sample_rate"),
    ],
)
@pytest.mark.parametrize("value", [f"{CANARY} and a secret's length", f"https://user:{CANARY}@x:port/"])
def test_key_in_the_wrong_variable_of_an_agent_is_not_shown(folder, agent, variable, value):
    shown = problems(folder, default=agent, **{variable: value})
    assert [text for text in shown if text.startswith(f"{variable.upper()}: ")]


@pytest.mark.parametrize("default", [f"{CANARY}-with-the-length-of-a-key"])
def test_key_in_place_of_an_agents_name_is_not_shown(folder, default):
    (shown,) = problems(folder, default=default)
    assert shown.startswith("BRIDGE_AGENT: unknown agent a text of 36 characters; available: ")


def test_what_unused_agents_want_is_not_asked_for(folder):
    opened = directory(folder, agents=BINARY_AGENT, openai_realtime_url="nonsense")
    assert opened.names == {"echo"}


def test_all_problems_are_reported_together(folder):
    shown = problems(
        folder, routes="[[route]]", agents="[mine]\nurl = 'h'\nbinary = true", default="retell,parrot"
    )
    assert [text.partition(":")[0] for text in shown] == [
        "BRIDGE_ROUTES_FILE",
        "BRIDGE_AGENTS_FILE",
        "BRIDGE_AGENT",
        "RETELL_API_KEY",
        "RETELL_AGENT_ID",
    ]


# What is looked at before a call


def test_urls_and_models_of_the_agents_are_known(folder):
    agents = """
[mine]
url = "wss://{env.HOST_OF_AGENT}/v1?model=tiny&call={call_sid}"
binary = true
first = ['{"url": "x"}']
session = { url = "https://api.agent.example/{call_sid}", reply = ["token"] }

[theirs]
url = "wss://{session.host}/v1"
binary = true
session = { url = "http://api.agent.example:8080", reply = ["host"] }
"""
    variables = {"host_of_agent": "agent.example:444", "openai_api_key": "k", "openai_realtime_model": "big"}
    opened = directory(folder, agents=agents, default="mine,theirs,openai,echo", **variables)
    assert opened.urls("mine") == [
        "wss://agent.example:444/v1?model=tiny&call={call_sid}",
        "https://api.agent.example/{call_sid}",
    ]
    assert opened.urls("theirs") == ["http://api.agent.example:8080"]
    assert opened.urls("openai") == ["wss://api.openai.com/v1/realtime"]
    assert opened.urls("echo") == []
    assert [opened.models(name) for name in ("mine", "openai", "echo")] == [["tiny"], ["big"], []]
