"""Settings of the user's answer webhook: its address, its secrets, and the agents that only it names."""

import base64

import pytest
from settings_env import GOOD, clean_environment, problems

from bridge.settings import load_settings

__all__ = ["clean_environment"]

SECRET = "whsec_" + base64.b64encode(b"canary-webhook-secret-35").decode()
ASKS = {**GOOD, "BRIDGE_ANSWER_URL": "https://app.example.com/answer", "BRIDGE_WEBHOOK_SECRET": SECRET}


@pytest.mark.parametrize(
    "url",
    [
        "https://app.example.com",
        "https://app.example.com:8443/answer?tenant=a%20b",
        "http://127.0.0.1:8080/answer",
        "http://127.1.2.3/",
        "http://[::1]:8080/",
        "http://localhost/answer",
    ],
)
def test_address_is_https_or_on_this_machine(url):
    assert load_settings({**ASKS, "BRIDGE_ANSWER_URL": url}).bridge_answer_url == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://app.example.com/answer", "must begin with https://, or with http:// and name this machine"),
        ("http://10.0.0.1/", "must begin with https://"),
        ("http://localhost.example.com/", "must begin with https://"),
        ("http://127.0.0.1.example.com/", "must begin with https://"),
        ("ftp://127.0.0.1/", "must begin with https://"),
        ("https://", "must be a URL without user, fragment and spaces"),
        ("app.example.com", "must be a URL without"),
        ("https://me:canary@app.example.com/", "must be a URL without user"),
        ("https://app.example.com/#canary", "must be a URL without user"),
        ("https://app.example.com/a b", "must be a URL without user"),
        ("https://app.example.com:port/", "must be a URL, e.g. https://example.com/bridge"),
        ("https://a..b/", "must be a URL, e.g. https://example.com/bridge"),
    ],
)
def test_other_address_is_refused_and_not_repeated(url, words):
    (reported,) = problems(**{**ASKS, "BRIDGE_ANSWER_URL": url})
    assert reported.startswith(f"BRIDGE_ANSWER_URL: {words}")
    assert "canary" not in reported


def test_secrets_come_in_their_order_and_are_never_printed():
    other = "whsec_" + base64.b64encode(64 * b"x").decode()
    settings = load_settings({**ASKS, "BRIDGE_WEBHOOK_SECRET": f"{other}, {SECRET}"})
    assert settings.webhook_secrets == [other, SECRET]
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    "secret",
    [
        SECRET.removeprefix("whsec_"),
        "whsec_",
        "whsec_" + base64.b64encode(23 * b"x").decode(),
        "whsec_" + base64.b64encode(65 * b"x").decode(),
        SECRET.replace("Y", "-", 1),
        SECRET[:-1],
        f"{SECRET},other",
    ],
)
def test_secret_of_another_form_is_refused(secret):
    (reported,) = problems(**{**ASKS, "BRIDGE_WEBHOOK_SECRET": secret})
    assert "BRIDGE_WEBHOOK_SECRET: must be whsec_ and the base64 of 24 to 64 bytes" in reported
    assert secret == "whsec_" or secret not in reported


def test_address_needs_a_secret():
    (reported,) = problems(**{**ASKS, "BRIDGE_WEBHOOK_SECRET": ""})
    assert reported.startswith("BRIDGE_WEBHOOK_SECRET: is missing")


def test_agents_of_the_answers_need_the_address_and_their_own_settings():
    (reported,) = problems(**{**GOOD, "BRIDGE_ANSWER_AGENTS": "echo"})
    assert reported.startswith("BRIDGE_ANSWER_URL: is missing")
    (reported,) = problems(**{**ASKS, "BRIDGE_ANSWER_AGENTS": "echo,openai"})
    assert reported.startswith("OPENAI_API_KEY: is missing")
    (reported,) = problems(**{**ASKS, "BRIDGE_ANSWER_AGENTS": "parrot"})
    assert reported.startswith("BRIDGE_ANSWER_AGENTS: unknown agent 'parrot'")
    assert load_settings({**ASKS, "BRIDGE_ANSWER_AGENTS": "echo"}).read_directory().names == {
        "retell",
        "echo",
    }


def test_agent_that_costs_money_is_not_open_to_everyone_by_an_answer_either():
    (reported,) = problems(
        **{
            **ASKS,
            "BRIDGE_AGENT": "echo",
            "BRIDGE_ANSWER_AGENTS": "retell",
            "BRIDGE_VALIDATE_SIGNATURES": "0",
        }
    )
    assert "retell costs money" in reported
