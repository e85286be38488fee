"""
Settings: from the environment, a ``.env`` file, and options that override both. Read once, at start.

A field's name is the variable's in lower case; names carry their unit.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from bridge.agents.directory import FREE, Directory, DirectoryError, open_directory
from bridge.agents.setting_types import HttpUrl, Seconds, Switch, problems_of
from bridge.setting_names import check_names

# Each call holds two sockets; the rest is for HTTP, the agent's REST API, the log and the interpreter.
DESCRIPTORS_PER_CALL = 2
SPARE_DESCRIPTORS = 128

# What XML, and so TwiML, has no way to write.
NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class SettingsError(Exception):
    """Settings that cannot work; ``problems`` are sentences that say what to change."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _fallback(text: str) -> str:
    kind, _, value = text.partition(":")
    if not (
        text == "hangup"
        or (kind == "say" and value.strip() and not NOT_XML.search(value))
        or (kind == "dial" and re.fullmatch(r"\+[1-9][0-9]{6,14}", value))
    ):
        raise ValueError("must be say:TEXT, dial:+E164NUMBER or hangup")
    return text


def _account_sid(text: str) -> str:
    if not re.fullmatch(r"(AC[0-9a-f]{32})?", text):
        raise ValueError("must be AC and 32 hex digits, from Twilio's console")
    return text


def _only(supported: str) -> Any:
    def check(text: str) -> str:
        if text != supported:
            raise ValueError(f"only {supported} is supported")
        return text

    return AfterValidator(check)


def _names(text: str) -> str:
    if not all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in text.split(",")):
        raise ValueError(
            "must be the name of an agent, or several with commas between: each is tried in turn"
        )
    return text


def _numbers(text: str) -> str:
    if not all(re.fullmatch(r"\+[0-9]{1,15}", number) for number in text.split(",") if text):
        raise ValueError("must be beginnings of E.164 numbers with commas between, e.g. +4930,+14155550100")
    return text


class Settings(BaseModel):
    """
    Everything that can be set. Times in seconds unless the name says otherwise.

    What each is for stands in the README's table; a reason for a default stands here.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    host: str = "0.0.0.0"  # noqa: S104  # it is a server; development mode narrows it
    port: int = Field(default=3000, ge=0, le=65535)
    public_url: HttpUrl = ""

    twilio_account_sid: Annotated[str, AfterValidator(_account_sid)] = ""
    twilio_auth_token: SecretStr = SecretStr("")
    twilio_api_url: HttpUrl = "https://api.twilio.com"

    # Retell's webhook is signed with it, whichever agent answers.
    retell_api_key: SecretStr = SecretStr("")

    bridge_agent: Annotated[str, AfterValidator(_names)] = Field(
        description="who answers: openai, elevenlabs, deepgram, retell-sip, …, or echo to try"
    )
    bridge_routes_file: str = ""
    bridge_agents_file: str = ""
    bridge_validate_signatures: Switch = True
    bridge_allow_unsigned_agent: Switch = False
    bridge_fallback: Annotated[str, AfterValidator(_fallback)] = (
        "say:We are sorry, nobody can take your call at the moment. Please try again later."
    )
    # Nowhere by default: an agent that is talked into it could call a number that costs.
    bridge_transfer_to: Annotated[str, AfterValidator(_numbers)] = ""
    bridge_metrics_token: SecretStr = SecretStr("")
    bridge_tls_cert: str = ""
    bridge_tls_key: str = ""
    bridge_workers: Annotated[str, _only("1")] = "1"
    bridge_store: Annotated[str, _only("memory")] = "memory"
    bridge_max_calls: int = Field(default=500, ge=1, le=100_000)
    bridge_log_format: Literal["", "console", "json"] = ""
    bridge_log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Ringing at an agent's SIP address, which answers within seconds.
    bridge_dial_s: Annotated[float, Field(ge=5, le=600)] = 20.0
    # The agents' sessions, all that are tried: 8 s leave room for a second request within the 15 s that Twilio gives
    # a webhook.
    bridge_session_s: Annotated[float, Field(gt=0, le=13)] = 8.0
    # DNS, TCP, TLS and upgrade of the agent's socket.
    bridge_agent_connect_s: Seconds = 5.0
    # Twilio's own limit of a call by default.
    bridge_call_max_s: Seconds = 14400.0
    # Twilio sends 50 messages a second while the caller is there.
    bridge_caller_silence_s: Seconds = 15.0
    bridge_caller_no_audio_s: Seconds = 60.0
    bridge_agent_silence_s: Seconds = 15.0
    # A peer that has read nothing for so long does not come back in time for a conversation.
    bridge_stall_s: Seconds = 10.0
    # Longest last words.
    bridge_playout_max_s: Seconds = 60.0
    bridge_drain_s: Annotated[float, Field(ge=0, le=86400)] = 3600.0
    # Twilio asks /voice/resume right after its socket closed.
    bridge_resume_linger_s: Annotated[float, Field(ge=0, le=60)] = 5.0

    # At least the connect deadline, so that no first word overflows.
    bridge_hold_from_caller_ms: Annotated[int, Field(ge=20, le=60_000)] = 6000
    # Agents speak faster than real time: half a minute of speech may come in a second.
    bridge_hold_to_caller_ms: Annotated[int, Field(ge=20, le=600_000)] = 30_000
    bridge_caller_message_max_bytes: Annotated[int, Field(ge=1024, le=16 << 20)] = 65536
    bridge_agent_message_max_bytes: Annotated[int, Field(ge=1024, le=16 << 20)] = 262144
    # Each goes up to Python; a flood of them would hold up every other call. PCM agents send their audio so.
    bridge_control_per_s: Annotated[int, Field(ge=100, le=1_000_000)] = 5000
    bridge_http_connections: Annotated[int, Field(ge=1, le=100_000)] = 512

    @property
    def auth_tokens(self) -> list[str]:
        """The account's auth tokens, the newest first while one is being rotated."""
        return [t for t in (t.strip() for t in self.twilio_auth_token.get_secret_value().split(",")) if t]

    # Every variable by name in lower case, also those that only agents read.
    _variables: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about variables that are ignored, to be logged once the logs are set up."""
        return self._warnings

    def read_directory(self) -> Directory:
        """
        Read who answers calls, from the settings and the files that they name, as those are now.

        Raises:
            DirectoryError: With every problem found.
        """
        directory = open_directory(
            self.agents, self.bridge_routes_file, self.bridge_agents_file, self._variables
        )
        costly = sorted(directory.names - {FREE})
        if costly and not (self.bridge_validate_signatures or self.bridge_allow_unsigned_agent):
            text = (
                f"BRIDGE_AGENT: {costly[0]} costs money and BRIDGE_VALIDATE_SIGNATURES=0 lets anyone call it: "
                "set BRIDGE_ALLOW_UNSIGNED_AGENT=1 as well if that is wanted"
            )
            raise DirectoryError([("bridge_agent", text)])
        return directory

    @property
    def agents(self) -> list[str]:
        """Who answers where no route fits; each is tried in turn."""
        return self.bridge_agent.split(",")

    @property
    def transfer_prefixes(self) -> tuple[str, ...]:
        """What a number begins with that an agent may transfer a call to."""
        return tuple(prefix for prefix in self.bridge_transfer_to.split(",") if prefix)

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
    try:
        from_file = DotEnvSettingsSource(BaseSettings, env_file=env_file).env_vars
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{env_file}: cannot be read as UTF-8 text: {error}"]) from None
    # An empty variable is one that is not set, as shells and compose files write it.
    variables = {
        name: value
        for name, value in {
            **from_file,
            **EnvSettingsSource(BaseSettings).env_vars,
            **{name.lower(): value for name, value in overrides.items()},
        }.items()
        if value
    }
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
    problems += [text for name, text in _cross_checks(settings) if name not in bad]
    known, of_agents = set(Settings.model_fields), set[str]()
    try:
        directory = settings.read_directory()
        known |= directory.file_variables
        of_agents = directory.settings_read
    except DirectoryError as error:
        problems += [text for name, text in error.problems if name not in bad]
    misspelled, warnings = check_names(variables, known, of_agents)
    problems += misspelled
    settings._warnings = tuple(warnings)
    if problems:
        raise SettingsError(problems)
    return settings


def _with_development_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    if raw.get("bridge_validate_signatures") != "0":
        return raw
    port = raw.get("port", "3000")
    return {"host": "127.0.0.1", "public_url": f"http://127.0.0.1:{port}", "bridge_agent": "echo", **raw}


def _cross_checks(s: Settings) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    def need(name: str, what: str) -> None:
        value = getattr(s, name)
        if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
            found.append((name, f"{name.upper()}: is missing: {what}"))

    if s.bridge_validate_signatures:
        need("public_url", "the address at which Twilio reaches this bridge, e.g. https://voice.example.com")
        need("twilio_account_sid", "AC and 32 hex digits, from Twilio's console")
        if not s.auth_tokens:
            found.append(
                (
                    "twilio_auth_token",
                    "TWILIO_AUTH_TOKEN: is missing: from Twilio's console; signs every request of Twilio's",
                )
            )
    if bool(s.bridge_tls_cert) != bool(s.bridge_tls_key):
        missing = "bridge_tls_key" if s.bridge_tls_cert else "bridge_tls_cert"
        found.append((missing, f"{missing.upper()}: is missing: certificate and key go together"))
    if s.bridge_hold_from_caller_ms < s.bridge_agent_connect_s * 1000:
        found.append(
            (
                "bridge_hold_from_caller_ms",
                "BRIDGE_HOLD_FROM_CALLER_MS: must be at least BRIDGE_AGENT_CONNECT_S, or the caller's first words "
                "are lost while the agent's socket opens",
            )
        )
    return found


def raise_descriptor_limit(settings: Settings) -> None:
    """
    Raise the soft limit of open files as far as needed.

    Raises:
        SettingsError: The hard limit cannot hold ``BRIDGE_MAX_CALLS``.
    """
    needed = (
        settings.bridge_max_calls * DESCRIPTORS_PER_CALL
        + settings.bridge_http_connections
        + SPARE_DESCRIPTORS
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        fit = max(0, (hard - settings.bridge_http_connections - SPARE_DESCRIPTORS) // DESCRIPTORS_PER_CALL)
        raise SettingsError(
            [
                f"BRIDGE_MAX_CALLS: {settings.bridge_max_calls} calls need {needed} open files and the hard limit is "
                f"{hard}: raise it (ulimit -Hn, LimitNOFILE), or set BRIDGE_MAX_CALLS to at most {fit}"
            ]
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
