"""The settings of the process, read once from options, the environment and a ``.env`` file."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from bridge.agents.directory import FREE, Directory, DirectoryError, open_directory
from bridge.agents.setting_types import problems_of
from bridge.agents.toml_file import Problem
from bridge.number_lists import NumberLists, read_number_lists
from bridge.setting_checks import doubtful_values, problems_of_texts, problems_of_values
from bridge.setting_fields import SettingFields
from bridge.setting_names import check_names
from bridge.setting_region import api_url
from bridge.setting_values import default_state_dir, secrets_of
from bridge.tls_files import certificate_doubts, server_tls


class SettingsError(Exception):
    """The settings cannot work. ``problems`` has a sentence for each, which says what to change."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(SettingFields):
    """The settings of the process; `load_settings` makes them."""

    # Every variable by name in lower case, also those that only agents read.
    _variables: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def auth_tokens(self) -> list[str]:
        """The account's auth tokens; during a rotation the newest comes first."""
        return secrets_of(self.twilio_auth_token)

    @property
    def webhook_secrets(self) -> list[str]:
        """The secrets of the user's webhooks; during a rotation each one signs."""
        return secrets_of(self.bridge_webhook_secret)

    @property
    def events_secrets(self) -> list[str]:
        """The secrets of the events; by default those of the other webhook."""
        return secrets_of(self.bridge_events_secret) or self.webhook_secrets

    @property
    def api_logins(self) -> list[tuple[str, str]]:
        """Users and passwords of Twilio's REST API, which are tried in turn; empty without an account."""
        if self.twilio_api_key_sid:
            return [(self.twilio_api_key_sid, self.twilio_api_key_secret.get_secret_value())]
        return [(self.twilio_account_sid, token) for token in self.auth_tokens if self.twilio_account_sid]

    @property
    def api_url(self) -> str:
        """The address of Twilio's REST API."""
        if self.twilio_region or self.twilio_edge:
            return api_url(self.twilio_region, self.twilio_edge)
        return self.twilio_api_url

    @property
    def drain_grace_s(self) -> float:
        """``BRIDGE_DRAIN_GRACE_S``; nobody waits for a balancer that a developer does not have."""
        is_given = "bridge_drain_grace_s" in self.model_fields_set
        return self.bridge_drain_grace_s if is_given or self.bridge_validate_signatures else 0.0

    @property
    def workers(self) -> int:
        """The number of processes that share the port."""
        return (os.cpu_count() or 1) if self.bridge_workers == "auto" else int(self.bridge_workers)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about variables that are ignored, to be logged once the logs are set up."""
        return self._warnings

    def read_directory(self) -> Directory:
        """
        Read the agents and routes from the settings and, as they are now, the files.

        Raises:
            DirectoryError: With every problem found.
        """
        directory = open_directory(
            self.agents, self.bridge_routes_file, self.bridge_agents_file, self._variables, self.answer_agents
        )
        costly = sorted(directory.names - {FREE})
        if costly and not (self.bridge_validate_signatures or self.bridge_allow_unsigned_agent):
            text = (
                f"BRIDGE_AGENT: {costly[0]} costs money and BRIDGE_VALIDATE_SIGNATURES=0 lets anyone call it: "
                "set BRIDGE_ALLOW_UNSIGNED_AGENT=1 as well to allow that"
            )
            raise DirectoryError([("bridge_agent", text)])
        return directory

    def read_number_lists(self) -> NumberLists:
        """
        Read the file of numbers as it is now.

        Raises:
            DirectoryError: With every problem found.
        """
        problems: list[Problem] = []
        lists = read_number_lists(self.bridge_numbers_file, problems)
        if problems:
            raise DirectoryError(problems)
        return lists

    def read_tls(self) -> ssl.SSLContext | None:
        """
        Make the context of the bridge's own port, of the files as they are now; None without TLS.

        Raises:
            TlsFilesError: They cannot be used.
        """
        password = self.bridge_tls_key_password.get_secret_value()
        return server_tls(self.bridge_tls_cert, self.bridge_tls_key, password)

    def certificate_doubts(self) -> list[str]:
        """Sentences about the certificate of the bridge's own port as its file is now, each with what to do."""
        if not self.bridge_tls_cert:
            return []
        url = urlsplit(self.public_url)
        # Behind another port something else answers Twilio, and its certificate counts.
        is_reached = url.scheme == "https" and (url.port or 443) == self.port
        found = certificate_doubts(self.bridge_tls_cert, (url.hostname or "") if is_reached else "")
        return [f"BRIDGE_TLS_CERT: {text}" for text in found]

    @property
    def agents(self) -> list[str]:
        """The chain of agents where no route fits; each is tried in turn."""
        return self.bridge_agent.split(",")

    @property
    def answer_agents(self) -> list[str]:
        """The agents that only the answer webhook names."""
        return [name for name in self.bridge_answer_agents.split(",") if name]

    @property
    def transfer_prefixes(self) -> tuple[str, ...]:
        """The beginnings of the numbers that an agent may transfer a call to."""
        return tuple(prefix for prefix in self.bridge_transfer_to.split(",") if prefix)

    @property
    def state_dir(self) -> Path:
        """Where the process may keep files from one start to the next; it need not exist."""
        return Path(self.bridge_state_dir or default_state_dir(self._variables))

    @property
    def has_page(self) -> bool:
        """Whether there is a page at `/`."""
        return bool(self.bridge_page_password.get_secret_value()) or not self.bridge_validate_signatures

    @property
    def path_prefix(self) -> str:
        """The path of ``PUBLIC_URL``, without a slash at its end."""
        prefix = "/".join(self.public_url.split("/")[3:])
        return f"/{prefix}" if prefix else ""

    @property
    def stream_base(self) -> str:
        """``PUBLIC_URL`` with the scheme of a WebSocket: https gives wss, http gives ws."""
        return "ws" + self.public_url.removeprefix("http")


def load_settings(overrides: Mapping[str, str], env_file: str = ".env") -> Settings:
    """
    Read all settings; ``overrides`` (variable names as keys) win over the environment, that over the file.

    Raises:
        SettingsError: With every problem found, not only the first.
    """
    variables = _read_variables(overrides, env_file)
    raw: dict[str, Any] = {name: variables[name] for name in Settings.model_fields if name in variables}
    problems: list[str] = []
    bad: set[str] = set()
    try:
        settings = Settings.model_validate(_with_development_defaults(raw))
    except ValidationError as error:
        bad = {str(item["loc"][0]) for item in error.errors()}
        problems += [text for _, text in problems_of(Settings, error, raw)]
        good = {name: value for name, value in raw.items() if name not in bad}
        if "bridge_agent" in bad:
            # The one agent that requires no settings, so that no problem follows from this one.
            good["bridge_agent"] = FREE
        settings = Settings.model_validate(_with_development_defaults(good))
    settings._variables = variables
    problems += [text for name, text in problems_of_values(settings) if name not in bad]
    known, of_agents = set(Settings.model_fields), dict[str, Any]()
    try:
        directory = settings.read_directory()
        known |= directory.placeholder_variables
        of_agents = directory.settings_read
    except DirectoryError as error:
        problems += [text for name, text in error.problems if name not in bad]
    try:
        settings.read_number_lists()
    except DirectoryError as error:
        problems += [text for _, text in error.problems]
    keys = {name: getattr(settings, name) for name in Settings.model_fields} | of_agents
    problems += [text for name, text in problems_of_texts(keys.items()) if name not in bad]
    misspelled, warnings = check_names(variables, known, of_agents)
    problems += misspelled
    settings._warnings = (*doubtful_values(settings), *warnings)
    if problems:
        raise SettingsError(problems)
    return settings


def read_auth_tokens(env_file: str = ".env") -> list[str]:
    """
    Read the account's auth tokens, the newest first, whatever the other settings are.

    Raises:
        SettingsError: The file cannot be read.
    """
    return secrets_of(SecretStr(_read_variables({}, env_file).get("twilio_auth_token", "")))


def _read_variables(overrides: Mapping[str, str], env_file: str) -> dict[str, str]:
    try:
        from_file = DotEnvSettingsSource(BaseSettings, env_file=env_file).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{env_file}: cannot be read as UTF-8 text: {error}"]) from None
    # An empty variable counts as unset: shells and compose files write it so.
    return {
        name: value
        for name, value in {
            **from_file,
            **EnvSettingsSource(BaseSettings).env_vars,
            **{name.lower(): value for name, value in overrides.items()},
        }.items()
        if value
    }


def _with_development_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    if raw.get("bridge_validate_signatures") != "0":
        return raw
    port = raw.get("port", "3000")
    return {"host": "127.0.0.1", "public_url": f"http://127.0.0.1:{port}", "bridge_agent": "echo", **raw}
