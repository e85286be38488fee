"""Values that can never carry a call: each prevents the start, or is a warning, in a sentence that says what to do."""

from __future__ import annotations

import pytest
from certificates import Tls, encrypt
from settings_env import GOOD, clean_environment, problems

from bridge import setting_checks
from bridge.settings import load_settings

__all__ = ["clean_environment"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://voice.acme-phones.com", "must begin with https://"),
        ("https://10.0.0.7", "10.0.0.7 is an address of a private network"),
        ("https://192.168.1.2:8443/bridge", "192.168.1.2 is an address of a private network"),
        ("https://172.16.0.1", "private network"),
        ("https://169.254.1.1", "private network"),
        ("https://[fd00::1]", "fd00::1 is an address of a private network"),
        ("https://bridge", "bridge is an address of a private network"),
        ("https://bridge.local", "private network"),
        ("https://bridge.default.svc.cluster.local", "private network"),
        ("https://pbx.internal", "private network"),
        ("https://voice.acme-phones.com/voice", "must end before /voice, which is the webhook's own path"),
        ("https://voice.acme-phones.com/a/voice/resume", "put https://voice.acme-phones.com/a"),
        ("https://voice.acme-phones.com/stream/status/", "put https://voice.acme-phones.com"),
        ("https://voice.acme-phones.com/media", "must end before /media"),
    ],
)
def test_url_that_twilio_cannot_use_prevents_the_start(url, words):
    (reported,) = problems(**{**GOOD, "PUBLIC_URL": url})
    assert reported.startswith("PUBLIC_URL: ")
    assert words in reported


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:3000", "this machine's own address"),
        ("https://localhost", "this machine's own address"),
        ("http://[::1]:3000", "this machine's own address"),
        ("https://voice.example.com", "voice.example.com is a name of documents and tests"),
        ("https://voice.test", "voice.test is a name of documents and tests"),
        ("https://Voice.Acme-Phones.com/Path", "https://voice.acme-phones.com/Path is safer"),
    ],
)
def test_url_that_is_right_in_development_only_is_a_warning(url, words):
    (warning,) = load_settings({**GOOD, "PUBLIC_URL": url}).warnings
    assert warning.startswith("PUBLIC_URL: ")
    assert words in warning


@pytest.mark.parametrize(
    "url",
    [
        "https://voice.acme-phones.com",
        "https://8.8.8.8:8443/bridge",
        "https://invoice.acme-phones.com/myvoice",
    ],
)
def test_url_that_works_is_not_doubted(url):
    assert load_settings({**GOOD, "PUBLIC_URL": url}).warnings == ()


def test_any_url_will_do_without_signatures():
    given = {"BRIDGE_VALIDATE_SIGNATURES": "0", "PUBLIC_URL": "http://10.0.0.7/voice"}
    assert load_settings(given).warnings == ()


def test_opus_without_its_package_prevents_the_start(monkeypatch):
    assert load_settings({**GOOD, "BRIDGE_RECORD_FORMAT": "opus"}).bridge_record_format == "opus"
    monkeypatch.setattr(setting_checks, "find_spec", lambda name: None)
    (reported,) = problems(**GOOD, BRIDGE_RECORD_FORMAT="opus")
    todo = "pip install 'voice-bridge[opus]', or set wav"
    assert reported == f"BRIDGE_RECORD_FORMAT: opus needs another package: {todo}"
    assert load_settings(GOOD).bridge_record_format == "wav"


def test_directory_of_recordings_must_be_there(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "none", tmp_path / "file"):
        (reported,) = problems(**GOOD, BRIDGE_RECORD_DIR=str(path))
        assert reported.startswith("BRIDGE_RECORD_DIR: must be a directory that this process may write in")
    assert load_settings({**GOOD, "BRIDGE_RECORD_DIR": str(tmp_path)}).bridge_record_dir == str(tmp_path)


def test_announcement_that_outlasts_the_wait_for_the_media_socket_prevents_the_start():
    (reported,) = problems(**GOOD, BRIDGE_ANNOUNCE=301 * "a")
    assert reported.startswith("BRIDGE_ANNOUNCE: must be a text of at most 300 characters")


@pytest.mark.parametrize(
    "name", ["TWILIO_AUTH_TOKEN", "RETELL_API_KEY", "RETELL_AGENT_ID", "BRIDGE_METRICS_TOKEN"]
)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('"0123456789abcdef"', "quotes around it"),
        ("'0123456789abcdef'", "quotes around it"),
        ("“0123456789abcdef”", "quotes around it"),
        ("0123456789 \x7f", "a space or a line break at an end, or a control character"),
        ("0123456789\nabcdef", "a control character"),
        ("<your token>", "placeholder of an example"),
        ("your_auth_token", "placeholder of an example"),
        ("YOUR-API-KEY", "placeholder of an example"),
        ("${RETELL_KEY}", "placeholder of an example"),
        ("xxxxxxxx", "placeholder of an example"),
        ("key_xxxxxxxx", "placeholder of an example"),
        ("changeme", "placeholder of an example"),
        ("...", "placeholder of an example"),
        ("sk-…", "placeholder of an example"),
    ],
)
def test_key_that_cannot_be_meant_prevents_the_start(name, value, words):
    (reported,) = problems(**{**GOOD, name: value})
    assert reported.startswith(f"{name}: ")
    assert words in reported
    assert value.strip() not in reported


@pytest.mark.parametrize(
    "value", ["0123456789abcdef0123456789abcdef", "a'b", "key_12xxxx34", "auth", "new,old"]
)
def test_other_keys_are_taken(value):
    load_settings({**GOOD, "TWILIO_AUTH_TOKEN": value, "RETELL_API_KEY": value})


def test_password_of_an_encrypted_key_is_a_setting(tmp_path):
    certificate = Tls(tmp_path).write()
    encrypt(certificate["BRIDGE_TLS_KEY"], b"password")
    files = {name: str(path) for name, path in certificate.items()}
    assert load_settings({**GOOD, **files, "BRIDGE_TLS_KEY_PASSWORD": "password"}).read_tls() is not None
    (reported,) = problems(**{**GOOD, **files, "BRIDGE_TLS_KEY_PASSWORD": "wrong"})
    assert (
        reported
        == "BRIDGE_TLS_KEY_PASSWORD: is not the password of BRIDGE_TLS_KEY, or one of the two files is damaged"
    )
    (reported,) = problems(**{**GOOD, **files})
    assert reported == "BRIDGE_TLS_KEY_PASSWORD: is missing: the key in BRIDGE_TLS_KEY is encrypted"
