"""Settings for tests, and an environment without the developer's own."""

import os

import pytest

from bridge.settings import Settings, SettingsError, load_settings

SID = "AC" + "0" * 32
GOOD = {
    "PUBLIC_URL": "https://voice.acme-phones.com",
    "TWILIO_ACCOUNT_SID": SID,
    "TWILIO_AUTH_TOKEN": "auth",
    "BRIDGE_AGENT": "retell",
    "RETELL_API_KEY": "key",
    "RETELL_AGENT_ID": "agent",
}
DEVELOPMENT = {"BRIDGE_VALIDATE_SIGNATURES": "0"}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """Remove the variables, and the .env file, of the person who runs the tests."""
    prefixes = ("BRIDGE_", "DEEPGRAM_", "ELEVENLABS_", "OPENAI_", "RETELL_")
    prefixed = [name for name in os.environ if name.startswith(prefixes)]
    for name in (*map(str.upper, Settings.model_fields), *prefixed):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def problems(**variables: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(variables)
    return caught.value.problems
