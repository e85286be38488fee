"""Variables that are not settings: a misspelled one prevents the start, others give a warning or nothing."""

import pytest
from settings_env import DEVELOPMENT, GOOD, clean_environment, problems

from bridge.setting_names import REMOVED, check_names
from bridge.settings import Settings, load_settings

__all__ = ["clean_environment"]

OPENAI = ["openai_api_key", "openai_realtime_model"]


def findings(name: str, value: str = "x", of_agents: list[str] = OPENAI) -> tuple[list[str], list[str]]:
    return check_names({name.lower(): value}, Settings.model_fields, of_agents)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("BRIDGE_AGENTS", "BRIDGE_AGENT"),
        ("BRIDGE_AGNET", "BRIDGE_AGENT"),
        ("BRIDGE_AGENT_FILE", "BRIDGE_AGENTS_FILE"),
        ("BRIDGE_MAX_CALL", "BRIDGE_MAX_CALLS"),
        ("BRIDGE_MAXCALLS", "BRIDGE_MAX_CALLS"),
        ("BRIDGE_SESSION_MS", "BRIDGE_SESSION_S"),
        ("BRIDGE_DRAIN", "BRIDGE_DRAIN_S"),
        ("BRIDGE_DIAL", "BRIDGE_DIAL_S"),
        ("BRIDGE_EVENT_URL", "BRIDGE_EVENTS_URL"),
        ("BRIDGE_EVENTS_SECRETS", "BRIDGE_EVENTS_SECRET"),
        ("BRIDGE_VALIDATE_SIGNATURE", "BRIDGE_VALIDATE_SIGNATURES"),
        ("BRIDGE_LOG_LEVLE", "BRIDGE_LOG_LEVEL"),
        ("bridge_metric_token", "BRIDGE_METRICS_TOKEN"),
    ],
)
def test_misspelled_setting_is_a_problem_that_names_the_right_one(name, meant):
    assert findings(name) == ([f"{name.upper()}: unknown setting; did you mean {meant}?"], [])


@pytest.mark.parametrize(
    "name",
    [
        "BRIDGE_COLOUR",
        "BRIDGE_PORT",
        # The name of a setting to come.
        "BRIDGE_ANSWER_SECRET",
    ],
)
def test_any_other_unknown_name_with_the_prefix_is_one_warning(name):
    assert findings(name) == ([], [f"{name}: unknown setting, ignored"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BRIDGE_TOKEN_S", "60"),
        ("BRIDGE_START_S", "10"),
        ("BRIDGE_CLOSE_S", "2"),
        ("BRIDGE_CALLER_PING_S", "30"),
        ("BRIDGE_AGENT_PING_S", "10"),
        ("BRIDGE_PLAYOUT_MARGIN_S", "5"),
        ("BRIDGE_TWILIO_API_S", "10"),
        ("BRIDGE_SEND_BUFFER_BYTES", "32768"),
        ("BRIDGE_WRITE_HIGH_BYTES", "4096"),
        ("BRIDGE_CODEC", "the compiled codec"),
    ],
)
def test_removed_setting_is_a_warning_with_the_fixed_value(name, value):
    assert findings(name) == ([], [f"{name}: no longer a setting, ignored; the value is always {value}"])


def test_removed_settings_are_gone():
    assert not REMOVED.keys() & Settings.model_fields.keys()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BRIDGE_MAX_CALLS", "5"),
        ("BRIDGE_SERVICE_HOST", "10.0.0.1"),
        ("BRIDGE_SERVICE_PORT", "3000"),
        ("BRIDGE_SERVICE_PORT_HTTP", "3000"),
        ("BRIDGE_PORT", "tcp://10.0.0.1:3000"),
        ("BRIDGE_PORT_3000_TCP", "tcp://10.0.0.1:3000"),
        ("BRIDGE_PORT_3000_TCP_PROTO", "tcp"),
        ("BRIDGE_PORT_3000_TCP_PORT", "3000"),
        ("BRIDGE_PORT_3000_TCP_ADDR", "10.0.0.1"),
        ("BRIDGE_REDIS_SERVICE_HOST", "10.0.0.2"),
        ("BRIDGE_REDIS_PORT", "tcp://10.0.0.2:6379"),
        ("BRIDGE_SANITIZE", "1"),
        ("BRIDGE_ANNOTATE", "1"),
        ("BRIDGE_TEST_TIMEOUT_FACTOR", "4"),
        ("OPENAI_API_KEY", "x"),
        ("OPENAI_BASE_URL", "x"),
        ("ELEVENLABS_API_KEYS", "x"),
        ("TWILIO_REGION", "ie1"),
        ("PATH", "/bin"),
    ],
)
def test_known_names_and_those_of_other_programs_give_nothing(name, value):
    assert findings(name, value) == ([], [])


def test_misspelled_setting_of_an_agent_in_use_is_a_warning():
    reported = "OPENAI_API_KEYS: unknown setting, ignored; did you mean OPENAI_API_KEY?"
    assert findings("OPENAI_API_KEYS") == ([], [reported])
    assert findings("OPENAI_API_KEYS", of_agents=["retell_api_key"]) == ([], [])


# Every source of settings


def test_misspelled_setting_is_reported_with_all_other_problems(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("BRIDGE_MAX_CALL=3\n")
    monkeypatch.setenv("BRIDGE_SESSIONS_S", "3")
    reported = problems(PORT="x", BRIDGE_AGENTS="echo", **DEVELOPMENT)
    assert [line.partition(":")[0] for line in reported] == [
        "PORT",
        "BRIDGE_AGENTS",
        "BRIDGE_MAX_CALL",
        "BRIDGE_SESSIONS_S",
    ]


def test_warnings_come_with_the_settings(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("BRIDGE_CLOSE_S=3\nBRIDGE_EMPTY=\n")
    monkeypatch.setenv("BRIDGE_COLOUR", "red")
    settings = load_settings({**GOOD, "RETELL_AGENT_IDS": "x"})
    assert [line.partition(":")[0] for line in settings.warnings] == [
        "BRIDGE_CLOSE_S",
        "BRIDGE_COLOUR",
        "RETELL_AGENT_IDS",
    ]


def test_variables_that_an_agents_file_names_are_known(tmp_path):
    (tmp_path / "agents.toml").write_text(
        '[mine]\nurl = "wss://h/{env.BRIDGE_DIALS_S}"\nbinary = true\n'
        '[unused]\nurl = "wss://h/{env.BRIDGE_ACME_KEY}"\nbinary = true\n'
    )
    settings = load_settings(
        {
            **GOOD,
            "BRIDGE_AGENT": "mine",
            "BRIDGE_AGENTS_FILE": "agents.toml",
            "BRIDGE_DIALS_S": "x",
            "BRIDGE_ACME_KEY": "x",
        }
    )
    assert settings.warnings == ()
