"""Settings of agents: chains, files of agents and routes, and agents that cost money."""

from datetime import UTC, datetime

import pytest
from settings_env import DEVELOPMENT, GOOD, clean_environment, problems

from bridge.agents.agent import CallInfo, Resources
from bridge.settings import load_settings

__all__ = ["clean_environment"]


def test_agents_of_a_chain_are_tried_in_its_order():
    settings = load_settings({**GOOD, "BRIDGE_AGENT": "retell-sip,echo,retell"})
    assert settings.agents == ["retell-sip", "echo", "retell"]
    directory = settings.read_directory()
    assert directory.route("+1", "+2", datetime.now(UTC)).chain("CA1") == ("retell-sip", "echo", "retell")
    assert directory.names == {"retell-sip", "echo", "retell"}


def test_missing_settings_of_every_agent_of_a_chain_are_reported():
    reported = problems(**{**GOOD, "BRIDGE_AGENT": "retell,openai,elevenlabs"})
    assert [line.partition(":")[0] for line in reported] == ["OPENAI_API_KEY", "ELEVENLABS_AGENT_ID"]


def test_wrong_name_of_an_agent_is_one_problem():
    without_agent = {name: text for name, text in GOOD.items() if not name.startswith(("RETELL_", "BRIDGE_"))}
    assert [line.partition(":")[0] for line in problems(**without_agent, BRIDGE_AGENT="my agent")] == [
        "BRIDGE_AGENT"
    ]
    assert [line.partition(":")[0] for line in problems(**DEVELOPMENT, BRIDGE_AGENT="my agent")] == [
        "BRIDGE_AGENT"
    ]


@pytest.mark.parametrize(
    ("route", "costly"),
    [
        ('agents = ["echo"]', ""),
        ('to = "+14155550100"\nagents = ["echo", "retell-sip"]', "retell-sip"),
        ('split = [{ agents = ["echo"], weight = 99 }, { agents = ["mine"], weight = 1 }]', "mine"),
    ],
)
def test_agent_that_only_a_route_names_needs_the_second_switch_too(tmp_path, route, costly):
    (tmp_path / "routes.toml").write_text(f"[[route]]\n{route}\n")
    (tmp_path / "agents.toml").write_text('[mine]\nurl = "wss://h"\nbinary = true\n')
    files = {"BRIDGE_ROUTES_FILE": "routes.toml", "BRIDGE_AGENTS_FILE": "agents.toml"}
    variables = {**DEVELOPMENT, **files, "RETELL_API_KEY": "key", "RETELL_AGENT_ID": "agent"}
    if costly:
        (reported,) = problems(**variables)
        assert reported.startswith(f"BRIDGE_AGENT: {costly} costs money and BRIDGE_VALIDATE_SIGNATURES=0")
    load_settings({**variables, "BRIDGE_ALLOW_UNSIGNED_AGENT": "1" if costly else "0"})


def test_files_are_read_again_each_time(tmp_path):
    file = tmp_path / "routes.toml"
    file.write_text('[[route]]\nagents = ["echo"]\n')
    settings = load_settings({**GOOD, "BRIDGE_ROUTES_FILE": str(file)})
    assert settings.read_directory().route("", "", datetime.now(UTC)).chain("CA1") == ("echo",)
    file.write_text('[[route]]\nagents = ["retell-web"]\n')
    assert settings.read_directory().route("", "", datetime.now(UTC)).chain("CA1") == ("retell-web",)


def test_variables_of_agents_come_from_the_file_the_environment_and_the_options(tmp_path, monkeypatch):
    names = ("ONE", "TWO", "THREE")
    url = "/".join(f"{{env.{name}}}" for name in names)
    (tmp_path / "agents.toml").write_text(f'[mine]\nurl = "wss://h/{url}"\nbinary = true\n')
    (tmp_path / ".env").write_text("ONE=file\nTWO=file\nTHREE=file\n")
    monkeypatch.setenv("TWO", "environment")
    monkeypatch.setenv("THREE", "environment")
    files = {"BRIDGE_AGENTS_FILE": "agents.toml", "BRIDGE_AGENT": "mine"}
    settings = load_settings({**GOOD, **files, "THREE": "option"})
    agent = settings.read_directory().describe(Resources(None, 8))["mine"]
    assert agent.endpoint({}, CallInfo("CA", "", "")).url == "wss://h/file/environment/option"
