"""The settings of the process, read once from options, the environment and a ``.env`` file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource

from bridge.agents.directory import FREE, Directory, DirectoryError, open_directory
from bridge.agents.setting_types import Host, HttpUrl, Seconds, Switch, problems_of
from bridge.setting_names import check_names
from bridge.setting_values import (
    AccountSid,
    AgentNames,
    ConnectionOverrides,
    Fallback,
    NodeName,
    NumberPrefixes,
    StateDirectory,
    StoreUrl,
    Workers,
    default_state_dir,
    store_problem,
)


class SettingsError(Exception):
    """The settings cannot work. ``problems`` has a sentence for each, which says what to change."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(BaseModel):
    """
    The settings of the process; `load_settings` makes them.

    A field is the variable of the same name in upper case. Times are in seconds unless the name says otherwise.
    `docs/settings.md` is printed from the descriptions, by ``tools/settings_page.py``.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    public_url: HttpUrl = Field(
        "", description="the address at which Twilio reaches this bridge, e.g. https://voice.example.com"
    )
    twilio_account_sid: AccountSid = Field(
        "", description="AC and 32 hex digits, from Twilio's console; streams of other accounts are refused"
    )
    twilio_auth_token: SecretStr = Field(
        SecretStr(""),
        description="from Twilio's console; every request from Twilio is signed with it. During a rotation: the "
        "new and the old one with a comma between",
    )

    bridge_agent: AgentNames = Field(
        description="who answers: openai, elevenlabs, deepgram, retell-sip, …, or echo to try"
    )
    bridge_routes_file: str = Field(
        "", description="a TOML file that says who answers which call; where no route fits, BRIDGE_AGENT does"
    )
    bridge_agents_file: str = Field("", description="a TOML file that describes agents without code")
    bridge_fallback: Fallback = Field(
        "say:We are sorry, nobody can take your call at the moment. Please try again later.",
        description="what callers get when no agent is available: say:TEXT, dial:+E164NUMBER or hangup",
    )
    bridge_transfer_to: NumberPrefixes = Field(
        "",
        description="beginnings of the numbers that an agent may transfer a call to, with commas between. None by "
        "default, because a caller may talk an agent into a call that costs money",
    )
    retell_api_key: SecretStr = Field(
        SecretStr(""), description="from Retell's dashboard; Retell signs its webhook with it"
    )
    twilio_api_url: HttpUrl = Field(
        "https://api.twilio.com", description="Twilio's REST API, which ends or transfers a call for an agent"
    )
    bridge_connection_overrides: ConnectionOverrides = Field(
        "#rc=2&rp=ct,5xx&ct=2000",
        description="how Twilio asks again where a process is down: its connection overrides, or none",
    )

    host: Host = Field(
        "0.0.0.0",  # noqa: S104  # a server; with signatures off the default is narrower
        description="the address to listen on",
    )
    port: int = Field(3000, ge=0, le=65535, description="the port to listen on; 0 takes any free one")
    bridge_tls_cert: str = Field(
        "",
        description="a PEM file with the certificate chain: TLS on the port itself; SIGHUP reads it again",
    )
    bridge_tls_key: str = Field("", description="a PEM file with the key of BRIDGE_TLS_CERT")
    bridge_metrics_token: SecretStr = Field(
        SecretStr(""),
        description="the bearer token of /metrics; without one only requests from this machine that no proxy "
        "forwards are answered",
    )
    bridge_workers: Workers = Field(
        "1", description="processes that share the port, each on a core of its own; auto: one for each core"
    )
    bridge_node: NodeName = Field(
        "",
        description="the name of this host in the path of the media socket, by which a balancer finds it again; "
        "letters, digits, dots, hyphens and underscores",
    )
    bridge_store: StoreUrl = Field(
        SecretStr(""),
        description="where processes keep what they must agree on: sqlite:PATH on one host; redis://, rediss:// or "
        "redis+sentinel://USER:PASSWORD@HOST:26379,HOST:26379/SERVICE/DB over many; or memory. Behind a rediss:// "
        "URL, ?ssl_ca_certs=FILE is an authority of your own. By default an SQLite file in BRIDGE_STATE_DIR, from "
        "which a restarted process knows its calls; with signatures off memory",
    )
    bridge_transcripts: Switch = Field(
        True,
        description="1: the last minutes of what was said are kept, sealed, for an agent that takes a call over, until "
        "10 minutes after the call; 0: not",
    )
    bridge_state_dir: StateDirectory = Field(
        "",
        description="the directory of that file. By default systemd's STATE_DIRECTORY, else voice-bridge in the user's "
        "state directory",
    )
    bridge_max_calls: int = Field(
        500, ge=1, le=100_000, description="live and admitted calls; beyond it callers hear the busy tone"
    )
    bridge_http_connections: int = Field(
        512, ge=1, le=100_000, description="connections beside those of the calls"
    )
    bridge_drain_grace_s: float = Field(
        5.0,
        ge=0,
        le=300,
        description="how long new calls are still taken after SIGTERM, while /readyz says 503 and a balancer notices; "
        "with signatures off 0 by default",
    )
    bridge_drain_s: float = Field(
        3600.0, ge=0, le=86400, description="how long running calls may go on after SIGTERM"
    )
    bridge_resume_linger_s: float = Field(
        5.0,
        ge=0,
        le=60,
        description="how long /voice/resume is answered after the last call of a drain; Twilio asks right after its "
        "socket has closed",
    )
    bridge_log_format: Literal["", "console", "json"] = Field(
        "", description="by default console on a terminal, else json"
    )
    bridge_log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least level that is logged"
    )

    bridge_session_s: float = Field(
        8.0,
        gt=0,
        le=13,
        description="the sessions of all agents that are tried, with retries. The default leaves room for a second "
        "request within the 15 s that Twilio gives a webhook",
    )
    bridge_agent_connect_s: Seconds = Field(
        5.0, description="DNS, TCP, TLS and upgrade of an agent's socket, and its ready message, together"
    )
    bridge_dial_s: float = Field(
        20.0, ge=5, le=600, description="ringing at an agent's SIP address, which answers within seconds"
    )
    bridge_call_max_s: Seconds = Field(
        14400.0, description="the longest call; the default is Twilio's own limit"
    )
    bridge_caller_silence_s: Seconds = Field(
        15.0,
        description="the longest time without a message from Twilio, which sends 50 a second during a call",
    )
    bridge_caller_no_audio_s: Seconds = Field(
        60.0, description="the longest time without audio from the caller, while other messages come"
    )
    bridge_agent_silence_s: Seconds = Field(
        15.0, description="the longest time without a message or a pong from the agent"
    )
    bridge_stall_s: Seconds = Field(
        10.0,
        description="the longest time for which a peer may stop reading; a later return is too late for a conversation",
    )
    bridge_playout_max_s: Seconds = Field(
        60.0, description="how long the agent's last words may play before the call ends"
    )

    bridge_hold_from_caller_ms: int = Field(
        6000,
        ge=20,
        le=60_000,
        description="the caller's audio that is kept until the agent is ready; beyond it the oldest is discarded. At "
        "least BRIDGE_AGENT_CONNECT_S, so that the first words are not lost",
    )
    bridge_hold_to_caller_ms: int = Field(
        600_000,
        ge=20,
        le=3_600_000,
        description="the agent's audio that is kept while Twilio cannot take it. Agents speak faster than real time, "
        "and are read on, because an interrupt comes behind their audio; with this much kept they are not read",
    )
    bridge_held_bytes: int = Field(
        268_435_456,
        ge=1 << 20,
        le=1 << 40,
        description="audio and partial messages that all calls of the process hold together; ten minutes of audio are "
        "6.4 MB. When it is used up, the agents that are furthest ahead are not read",
    )
    bridge_gather_ms: float = Field(
        0.5,
        ge=0,
        le=10,
        description="how long the process sleeps between two looks at its sockets while 20 calls or more are up: less "
        "work for a frame, and a wait of that length at most. 0: it wakes for each",
    )
    bridge_caller_message_max_bytes: int = Field(
        65536,
        ge=1024,
        le=16 << 20,
        description="the longest message from Twilio; a longer one closes with 1009",
    )
    bridge_agent_message_max_bytes: int = Field(
        16 << 20,
        ge=1024,
        le=16 << 20,
        description="the longest message from an agent; a longer one closes with 1009",
    )
    bridge_control_per_s: int = Field(
        5000,
        ge=100,
        le=1_000_000,
        description="messages of a peer in a second that are not audio, or audio of less than 5 ms; more close with "
        "1008. Each is read in Python, and too many would delay all other calls",
    )

    bridge_validate_signatures: Switch = Field(
        True,
        description="0 is for development: no signature is checked, HOST is 127.0.0.1 by default, PUBLIC_URL follows "
        "from PORT, and BRIDGE_AGENT is echo",
    )
    bridge_allow_unsigned_agent: Switch = Field(
        False, description="1 allows an agent that costs money while signatures are off"
    )

    # Every variable by name in lower case, also those that only agents read.
    _variables: Mapping[str, str] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @property
    def auth_tokens(self) -> list[str]:
        """The account's auth tokens; during a rotation the newest comes first."""
        return [t for t in (t.strip() for t in self.twilio_auth_token.get_secret_value().split(",")) if t]

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
            self.agents, self.bridge_routes_file, self.bridge_agents_file, self._variables
        )
        costly = sorted(directory.names - {FREE})
        if costly and not (self.bridge_validate_signatures or self.bridge_allow_unsigned_agent):
            text = (
                f"BRIDGE_AGENT: {costly[0]} costs money and BRIDGE_VALIDATE_SIGNATURES=0 lets anyone call it: "
                "set BRIDGE_ALLOW_UNSIGNED_AGENT=1 as well to allow that"
            )
            raise DirectoryError([("bridge_agent", text)])
        return directory

    @property
    def agents(self) -> list[str]:
        """The chain of agents where no route fits; each is tried in turn."""
        return self.bridge_agent.split(",")

    @property
    def transfer_prefixes(self) -> tuple[str, ...]:
        """The beginnings of the numbers that an agent may transfer a call to."""
        return tuple(prefix for prefix in self.bridge_transfer_to.split(",") if prefix)

    @property
    def state_dir(self) -> Path:
        """Where the process may keep files from one start to the next; it need not exist."""
        return Path(self.bridge_state_dir or default_state_dir(self._variables))

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
    # An empty variable counts as unset: shells and compose files write it so.
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
        known |= directory.placeholder_variables
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

    if s.bridge_validate_signatures:
        required = {
            "public_url": s.public_url,
            "twilio_account_sid": s.twilio_account_sid,
            "twilio_auth_token": s.auth_tokens,
        }
        for name, value in required.items():
            if not value:
                description = Settings.model_fields[name].description
                found.append((name, f"{name.upper()}: is missing: {description}"))
    if bool(s.bridge_tls_cert) != bool(s.bridge_tls_key):
        missing = "bridge_tls_key" if s.bridge_tls_cert else "bridge_tls_cert"
        found.append((missing, f"{missing.upper()}: is missing: certificate and key go together"))
    if problem := store_problem(s.bridge_store.get_secret_value()):
        found.append(("bridge_store", f"BRIDGE_STORE: {problem}"))
    if s.bridge_hold_from_caller_ms < s.bridge_agent_connect_s * 1000:
        found.append(
            (
                "bridge_hold_from_caller_ms",
                "BRIDGE_HOLD_FROM_CALLER_MS: must be at least BRIDGE_AGENT_CONNECT_S, or the caller's first words "
                "are lost while the agent's socket opens",
            )
        )
    return found
