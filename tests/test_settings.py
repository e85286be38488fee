"""Settings: every problem at once and in words, precedence of sources, and no secret in any message."""

import pytest
from settings_env import DEVELOPMENT, GOOD, SID, clean_environment, problems

from bridge.settings import Settings, load_settings

__all__ = ["clean_environment"]


# All problems at once


def test_all_missing_settings_are_reported_at_once():
    reported = problems()
    assert [line.partition(":")[0] for line in reported] == [
        "BRIDGE_AGENT",
        "PUBLIC_URL",
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
    ]
    assert all(": is missing: " in line for line in reported)


def test_wrong_and_missing_values_are_reported_together():
    reported = problems(
        PORT="seventy", BRIDGE_MAX_CALLS="0", BRIDGE_FALLBACK="sing", PUBLIC_URL="voice.example.com"
    )
    assert {line.partition(":")[0] for line in reported} == {
        "PORT",
        "BRIDGE_MAX_CALLS",
        "BRIDGE_FALLBACK",
        "PUBLIC_URL",
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "BRIDGE_AGENT",
    }
    assert len(reported) == 7


def test_no_agent_answers_by_default():
    (reported,) = problems(**{**GOOD, "BRIDGE_AGENT": ""})
    assert reported == (
        "BRIDGE_AGENT: is missing: who answers: openai, elevenlabs, deepgram, retell-sip, …, or echo to try"
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "seventy", "whole number"),
        ("PORT", "65536", "must be at most 65535 (it is"),
        ("HOST", "a..b", "must be an address or the name of a host"),
        ("HOST", 64 * "a", "must be an address or the name of a host"),
        ("PUBLIC_URL", "voice.example.com", "must begin with http:// or https://"),
        ("PUBLIC_URL", "wss://voice.example.com", "must begin with http:// or https://"),
        ("PUBLIC_URL", "https://", "name a host"),
        ("PUBLIC_URL", "https://voice.example.com:port", "must be a URL, e.g. https://example.com"),
        ("PUBLIC_URL", "https://voice.example.com:70000", "must be a URL, e.g. https://example.com"),
        ("PUBLIC_URL", "https://voice.example.com?x=1", "no user, query or fragment"),
        ("PUBLIC_URL", "https://voice.example.com/?", "no user, query or fragment"),
        ("PUBLIC_URL", "https://voice.example.com/#", "no user, query or fragment"),
        ("PUBLIC_URL", "https://me@voice.example.com", "no user, query or fragment"),
        ("PUBLIC_URL", "https://:word@voice.example.com", "no user, query or fragment"),
        ("PUBLIC_URL", "https://voice.example.com/a b", "must begin with"),
        ("RETELL_WS_URL", "https://api.retellai.com", "must begin with ws:// or wss://"),
        ("TWILIO_ACCOUNT_SID", "AC123", "AC and 32 hex digits"),
        ("TWILIO_ACCOUNT_SID", SID + "0", "AC and 32 hex digits"),
        ("BRIDGE_AGENT", "parrot", "unknown agent 'parrot'; available: "),
        ("BRIDGE_AGENT", "echo,parrot", "unknown agent 'parrot'; available: "),
        (
            "BRIDGE_AGENT",
            "echo,",
            "must be the name of an agent, or several with commas and no spaces between",
        ),
        ("BRIDGE_AGENT", ",", "must be the name of an agent, or several with commas and no spaces between"),
        (
            "BRIDGE_AGENT",
            "echo, retell",
            "must be the name of an agent, or several with commas and no spaces between",
        ),
        ("BRIDGE_AGENT", "a b", "must be the name of an agent, or several with commas and no spaces between"),
        ("BRIDGE_ROUTES_FILE", "missing.toml", "cannot be read: No such file"),
        ("BRIDGE_AGENTS_FILE", "missing.toml", "cannot be read: No such file"),
        ("BRIDGE_TRANSFER_TO", "4930", "must be numbers or their first digits, each with +"),
        ("BRIDGE_TRANSFER_TO", "+04930", "must be numbers or their first digits, each with +"),
        ("BRIDGE_TRANSFER_TO", "+4930,", "must be numbers or their first digits, each with +"),
        ("BRIDGE_TRANSFER_TO", "+", "must be numbers or their first digits, each with +"),
        ("BRIDGE_TRANSFER_TO", "+49 30", "must be numbers or their first digits, each with +"),
        (
            "BRIDGE_TRANSFER_TO",
            "+1234567890123456",
            "must be numbers or their first digits, each with +",
        ),
        ("BRIDGE_CALLER_ID", "4930", "must be a number with + and the country's code"),
        ("BRIDGE_CALLER_ID", "sip:me@example.com", "must be a number with + and the country's code"),
        ("BRIDGE_DIAL_S", "4", "must be at least 5 (it is"),
        ("BRIDGE_VALIDATE_SIGNATURES", "no", "must be 0 or 1"),
        ("BRIDGE_VALIDATE_SIGNATURES", "false", "must be 0 or 1"),
        ("BRIDGE_FALLBACK", "sing", "must be say:TEXT"),
        ("BRIDGE_FALLBACK", "say: ", "must be say:TEXT"),
        ("BRIDGE_FALLBACK", "say:a\x07b", "must be say:TEXT"),
        ("BRIDGE_FALLBACK", "say:a\udc80b", "must be say:TEXT"),
        ("BRIDGE_FALLBACK", "dial:0155512345", "must be say:TEXT"),
        ("BRIDGE_FALLBACK", "dial:+1555", "must be say:TEXT"),
        ("BRIDGE_FALLBACK", "hangup:now", "must be say:TEXT"),
        ("BRIDGE_TLS_CERT", "cert.pem", "certificate and key go together"),
        ("BRIDGE_TLS_KEY", "key.pem", "certificate and key go together"),
        ("BRIDGE_MAX_CALLS", "0", "must be at least 1 (it is"),
        ("BRIDGE_SESSION_S", "0", "must be more than 0"),
        ("BRIDGE_SESSION_S", "nan", ""),
        ("BRIDGE_SESSION_S", "inf", ""),
        ("BRIDGE_SESSION_S", "14", "must be at most 13"),
        ("BRIDGE_MAX_CALLS", "60.5", "whole number"),
        ("BRIDGE_LOG_LEVEL", "loud", "'debug'"),
        ("BRIDGE_HOLD_FROM_CALLER_MS", "4000", "which is BRIDGE_AGENT_CONNECT_S in ms"),
        ("BRIDGE_AGENT_CONNECT_S", "7", "which is BRIDGE_AGENT_CONNECT_S in ms"),
    ],
)
def test_wrong_value_is_reported_in_words_from_every_source(name, value, words, monkeypatch):
    reported = problems(**{**GOOD, name: value})
    assert len(reported) == 1
    assert words in reported[0]
    monkeypatch.setenv(name, value)
    assert problems(**{key: text for key, text in GOOD.items() if key != name}) == reported
    assert (
        reported[0]
        .partition(":")[0]
        .startswith(("BRIDGE_", "HOST", "PORT", "PUBLIC_URL", "RETELL_", "TWILIO_"))
    )
    assert "Value error" not in reported[0]


def test_wrong_port_in_development_is_one_problem():
    assert [line.partition(":")[0] for line in problems(**DEVELOPMENT, PORT="70000")] == ["PORT"]


CANARY = "canary-7f3a-with-the-length-of-a-key"


def test_secrets_are_never_printed():
    secret = dict.fromkeys(("TWILIO_AUTH_TOKEN", "RETELL_API_KEY", "BRIDGE_METRICS_TOKEN"), CANARY)
    reported = problems(**secret, PORT="x", PUBLIC_URL="x")
    assert CANARY not in "\n".join(reported)
    settings = load_settings({**GOOD, **secret})
    assert CANARY not in repr(settings)
    assert CANARY not in str(settings)
    assert CANARY not in settings.model_dump_json()


def test_swapped_sid_and_token_do_not_print_the_token():
    (reported,) = problems(**{**GOOD, "TWILIO_ACCOUNT_SID": CANARY, "TWILIO_AUTH_TOKEN": SID})
    assert reported == "TWILIO_ACCOUNT_SID: must be AC and 32 hex digits, from Twilio's console"


@pytest.mark.parametrize(
    "url", [f"https://user:{CANARY}@h", f"https://user:{CANARY}@h:port", f"https://h?key={CANARY}"]
)
@pytest.mark.parametrize("name", ["PUBLIC_URL", "TWILIO_API_URL", "RETELL_API_URL"])
def test_password_in_a_refused_url_is_not_printed(name, url):
    (reported,) = problems(**{**GOOD, name: url})
    assert reported.startswith(f"{name}: ")
    assert CANARY not in reported


# Settings that accept any text.
FREE_TEXT = (
    "HOST",
    "TWILIO_AUTH_TOKEN",
    "RETELL_API_KEY",
    "BRIDGE_METRICS_TOKEN",
    "BRIDGE_API_TOKEN",
    "BRIDGE_NODE",
    "BRIDGE_PAGE_PASSWORD",
    "BRIDGE_ANNOUNCE",
    "BRIDGE_TLS_KEY_PASSWORD",
)


@pytest.mark.parametrize("name", [n.upper() for n in Settings.model_fields if n.upper() not in FREE_TEXT])
def test_key_in_the_wrong_variable_is_not_printed(name):
    reported = problems(**{**GOOD, name: CANARY})
    assert reported
    assert CANARY not in "\n".join(reported)


def test_short_password_of_the_page_is_refused_and_not_printed():
    assert problems(**{**GOOD, "BRIDGE_PAGE_PASSWORD": "hunter2"}) == [
        "BRIDGE_PAGE_PASSWORD: must have at least 12 characters"
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "seventy"), ("BRIDGE_LOG_LEVEL", "loud"), ("BRIDGE_VALIDATE_SIGNATURES", "no")],
)
def test_wrong_number_switch_or_choice_is_printed(name, value):
    (reported,) = problems(**{**GOOD, name: value})
    assert reported.endswith(f" (it is '{value}')")


# Sources of values


def test_option_beats_environment_beats_file(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("PORT=1\nHOST=file\nBRIDGE_MAX_CALLS=1\nUNRELATED=x\n")
    monkeypatch.setenv("HOST", "environment")
    monkeypatch.setenv("BRIDGE_MAX_CALLS", "2")
    settings = load_settings({**GOOD, "BRIDGE_MAX_CALLS": "3"})
    assert (settings.port, settings.host, settings.bridge_max_calls) == (1, "environment", 3)


def test_file_may_have_another_name_and_need_not_exist(tmp_path):
    (tmp_path / "other").write_text("PORT=1\n")
    assert load_settings(GOOD, env_file="other").port == 1
    assert load_settings(GOOD, env_file="missing").port == 3000


def test_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("BRIDGE_METRICS_TOKEN", "")
    assert load_settings(GOOD).port == 3000


def test_settings_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_settings(GOOD).port = 1


# Derived values


def test_defaults_of_the_documented_names():
    settings = load_settings(GOOD)
    assert (settings.host, settings.port) == ("0.0.0.0", 3000)
    assert (settings.bridge_max_calls, settings.bridge_workers) == (500, "1")
    assert settings.bridge_store.get_secret_value() == ""
    assert (settings.bridge_playout_max_s, settings.bridge_drain_s, settings.bridge_session_s) == (
        60,
        3600,
        8,
    )
    assert settings.bridge_validate_signatures
    assert settings.bridge_fallback.startswith("say:")


def test_without_signatures_the_echo_answers_on_this_machine_only():
    settings = load_settings({**DEVELOPMENT, "PORT": "3100"})
    assert (settings.host, settings.public_url, settings.bridge_agent) == (
        "127.0.0.1",
        "http://127.0.0.1:3100",
        "echo",
    )
    assert settings.auth_tokens == []


def test_set_values_override_development_defaults():
    settings = load_settings({**DEVELOPMENT, "HOST": "0.0.0.0", "PUBLIC_URL": "https://tunnel.example.com/"})
    assert (settings.host, settings.public_url) == ("0.0.0.0", "https://tunnel.example.com")


def test_agent_that_costs_money_needs_a_second_switch_without_signatures():
    agent = {"BRIDGE_AGENT": "retell", "RETELL_API_KEY": "key", "RETELL_AGENT_ID": "agent"}
    (reported,) = problems(**DEVELOPMENT, **agent)
    assert "BRIDGE_ALLOW_UNSIGNED_AGENT=1" in reported
    settings = load_settings({**DEVELOPMENT, **agent, "BRIDGE_ALLOW_UNSIGNED_AGENT": "1"})
    assert settings.bridge_agent == "retell"


@pytest.mark.parametrize(
    ("value", "prefixes"),
    [("", ()), ("+4930", ("+4930",)), ("+1,+4930,+14155550100", ("+1", "+4930", "+14155550100"))],
)
def test_transfers_are_limited_to_the_prefixes_and_off_by_default(value, prefixes):
    assert load_settings({**GOOD, "BRIDGE_TRANSFER_TO": value}).transfer_prefixes == prefixes


@pytest.mark.parametrize(
    ("public_url", "kept", "stream_base"),
    [
        ("https://h.example", "https://h.example", "wss://h.example"),
        ("https://h.example/", "https://h.example", "wss://h.example"),
        ("https://h.example:8443/a/b/", "https://h.example:8443/a/b", "wss://h.example:8443/a/b"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000", "ws://127.0.0.1:3000"),
        ("https://[::1]:3000", "https://[::1]:3000", "wss://[::1]:3000"),
        ("HTTPS://Voice.Example", "https://Voice.Example", "wss://Voice.Example"),
    ],
)
def test_public_url_gives_the_streams_base(public_url, kept, stream_base):
    settings = load_settings({**GOOD, "PUBLIC_URL": public_url})
    assert (settings.public_url, settings.stream_base) == (kept, stream_base)


def test_auth_token_may_be_a_list():
    settings = load_settings({**GOOD, "TWILIO_AUTH_TOKEN": "new, old,,"})
    assert settings.auth_tokens == ["new", "old"]


@pytest.mark.parametrize("value", [",", " , "])
def test_list_of_no_auth_token_is_missing(value):
    (reported,) = problems(**{**GOOD, "TWILIO_AUTH_TOKEN": value})
    assert reported.startswith("TWILIO_AUTH_TOKEN: is missing")


# The grace of a drain


def test_only_a_developer_waits_for_no_balancer():
    assert load_settings(GOOD).drain_grace_s == 5
    assert load_settings(DEVELOPMENT).drain_grace_s == 0
    assert load_settings({**DEVELOPMENT, "BRIDGE_DRAIN_GRACE_S": "2"}).drain_grace_s == 2


# The name in the path of the media socket


@pytest.mark.parametrize("name", ["", "a", "web-1", "ip-10-0-0-1.eu-central-1", "A_b", "n" * 63])
def test_name_of_a_node_is_taken(name):
    assert load_settings({**GOOD, "BRIDGE_NODE": name}).bridge_node == name


@pytest.mark.parametrize("name", ["a/b", "a b", "a%2f", "\u00e4", "n" * 64])
def test_name_that_would_change_the_path_is_a_problem(name):
    (problem,) = problems(**{**GOOD, "BRIDGE_NODE": name})
    assert problem.startswith("BRIDGE_NODE: must be at most 63 letters")


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("rc=0", "#rc=0"),
        ("#rc=5&rp=4xx,5xx,ct,rt&ct=100&rt=15000&tt=15000&e=dublin,ashburn&sni=y", None),
        ("rp=all", "#rp=all"),
        ("none", ""),
    ],
)
def test_connection_overrides_are_taken(text, fragment):
    settings = load_settings({**GOOD, "BRIDGE_CONNECTION_OVERRIDES": text})
    assert settings.bridge_connection_overrides == (text if fragment is None else fragment)


@pytest.mark.parametrize(
    "text", ["rc=6", "rc=1&rc=2", "rp=6xx", "ct=0", "rc=2&", "rc", "x=1", "rc=2 ", "#", "rc=2#"]
)
def test_overrides_that_twilio_would_refuse_are_a_problem(text):
    (problem,) = problems(**{**GOOD, "BRIDGE_CONNECTION_OVERRIDES": text})
    assert problem.startswith("BRIDGE_CONNECTION_OVERRIDES: must be pairs such as")


# The store


@pytest.mark.parametrize(
    "url",
    [
        "memory",
        "sqlite:store.sqlite3",
        "redis://redis.example.com",
        "redis://user:p%40ss@redis.example.com:6379/3",
        "rediss://:secret@10.0.0.1/0?ssl_ca_certs=/dev/null&ssl_cert_reqs=optional",
        "redis://[::1]:6379/0",
        "redis+sentinel://user:secret@h1:26379,h2:26379/service/0",
        "redis+sentinel://h1/service",
    ],
)
def test_store_urls_are_taken(url, monkeypatch):
    monkeypatch.setattr("bridge.setting_values.find_spec", lambda name: object())
    assert load_settings({**GOOD, "BRIDGE_STORE": url}).bridge_store.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:",
        "/var/lib/store.sqlite3",
        "redis",
        "redis://",
        "redis://:secret@",
        "redis://host:port",
        "redis://host/name",
        "redis://:secret@host:65536",
        "redis://host:0",
        "redis://[1]",
        "redis://a host",
        "redis+sentinel://:secret@h1:1,h2:99999/service",
        "http://host",
        "redis+sentinel://h1:26379",
        "redis+sentinel://h1:26379,/service",
        "redis+sentinel://h1:26379/service/name",
        "memory:",
    ],
)
def test_store_url_that_cannot_work_is_a_problem_without_its_password(url):
    (problem,) = problems(**{**GOOD, "BRIDGE_STORE": url})
    assert problem.startswith("BRIDGE_STORE: must be sqlite:PATH, redis://HOST/DB")
    assert "secret" not in problem


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host?ssl_ca_certs=/dev/null", "only rediss:// has options"),
        ("rediss://host?secret", "only rediss:// has options, and they are ssl_ca_certs, "),
        ("rediss://host?ssl_cert_reqs=secret", "ssl_cert_reqs must be required, optional, none"),
        ("rediss://host?ssl_ca_certs=/secret", "the file of ssl_ca_certs is missing or cannot be read"),
        ("sqlite:/etc/ssl", "is no file, or one that cannot be written"),
    ],
)
def test_store_that_cannot_work_is_a_problem_in_words(url, expected, monkeypatch):
    monkeypatch.setattr("bridge.setting_values.find_spec", lambda name: object())
    (problem,) = problems(**{**GOOD, "BRIDGE_STORE": url})
    assert problem.startswith(f"BRIDGE_STORE: {expected}")
    assert "secret" not in problem


def test_store_in_a_directory_that_is_not_there_is_a_problem():
    (problem,) = problems(**{**GOOD, "BRIDGE_STORE": "sqlite:missing/store.sqlite3"})
    assert problem.startswith("BRIDGE_STORE: the file's directory is missing or cannot be written: create it")


def test_redis_without_its_package_is_a_problem(monkeypatch):
    monkeypatch.setattr("bridge.setting_values.find_spec", lambda name: None)
    (problem,) = problems(**{**GOOD, "BRIDGE_STORE": "redis://host"})
    assert problem == "BRIDGE_STORE: Redis needs another package: pip install 'voice-bridge[redis]'"


def test_state_directory_is_the_given_one_systemds_or_the_users(monkeypatch):
    monkeypatch.setenv("HOME", "/home/user")
    assert str(load_settings(GOOD).state_dir) == "/home/user/.local/state/voice-bridge"
    monkeypatch.setenv("XDG_STATE_HOME", "/xdg")
    assert str(load_settings(GOOD).state_dir) == "/xdg/voice-bridge"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
    assert str(load_settings(GOOD).state_dir) == "/var/lib/one"
    assert str(load_settings({**GOOD, "BRIDGE_STATE_DIR": "/given"}).state_dir) == "/given"
