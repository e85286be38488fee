"""
Settings: from the environment, a ``.env`` file, and options that override both. Read once, at start.

A field's name is the variable's in lower case; names carry their unit.
"""

from __future__ import annotations

import re
import resource
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

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


def _base_url(schemes: tuple[str, ...]) -> Any:
    def check(text: str) -> str:
        if not text:  # The default of what is required only at times; see `_cross_checks`.
            return ""
        url = text.rstrip("/")
        try:
            parts = urlsplit(url)
            _ = parts.port
            # As a look-up does it: an empty label, or one of more than 63 characters, is no host.
            (parts.hostname or "").encode("idna")
        except ValueError:
            raise ValueError(f"is no URL: {text!r}") from None
        if parts.scheme not in schemes or not parts.hostname or re.search(r"[\s\x00-\x20]", url):
            raise ValueError(f"must begin with {' or '.join(s + '://' for s in schemes)} and name a host")
        if "@" in parts.netloc or parts.query or parts.fragment or "?" in url or "#" in url:
            raise ValueError("must have no user, query or fragment")
        return parts.scheme + url[len(parts.scheme) :]

    return AfterValidator(check)


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


def _switch(value: Any) -> Any:
    if value not in ("0", "1", True, False):
        raise ValueError("must be 0 or 1")
    return value in ("1", True)


def _only(supported: str) -> Any:
    def check(text: str) -> str:
        if text != supported:
            raise ValueError(f"only {supported} is supported")
        return text

    return AfterValidator(check)


HttpUrl = Annotated[str, _base_url(("http", "https"))]
WsUrl = Annotated[str, _base_url(("ws", "wss"))]
Switch = Annotated[bool, BeforeValidator(_switch)]
Seconds = Annotated[float, Field(gt=0, le=86400)]


class Settings(BaseSettings):
    """
    Everything that can be set. Times in seconds unless the name says otherwise.

    What each is for stands in the README's table; a reason for a default stands here.
    """

    model_config = SettingsConfigDict(extra="ignore", frozen=True, case_sensitive=False)

    host: str = "0.0.0.0"  # noqa: S104  # it is a server; development mode narrows it
    port: int = Field(default=3000, ge=0, le=65535)
    public_url: HttpUrl = ""

    twilio_account_sid: Annotated[str, AfterValidator(_account_sid)] = ""
    twilio_auth_token: SecretStr = SecretStr("")

    retell_api_key: SecretStr = SecretStr("")
    retell_agent_id: str = ""
    retell_api_url: HttpUrl = "https://api.retellai.com"
    retell_ws_url: WsUrl = "wss://api.retellai.com/audio-websocket"

    bridge_agent: Literal["retell", "echo"] = "retell"
    bridge_validate_signatures: Switch = True
    bridge_allow_unsigned_agent: Switch = False
    bridge_fallback: Annotated[str, AfterValidator(_fallback)] = (
        "say:We are sorry, nobody can take your call at the moment. Please try again later."
    )
    bridge_metrics_token: SecretStr = SecretStr("")
    bridge_tls_cert: str = ""
    bridge_tls_key: str = ""
    bridge_workers: Annotated[str, _only("1")] = "1"
    bridge_store: Annotated[str, _only("memory")] = "memory"
    bridge_max_calls: int = Field(default=500, ge=1, le=100_000)
    bridge_log_format: Literal["", "console", "json"] = ""
    bridge_log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Retell's session: 8 s leave room for a second request within the 15 s that Twilio gives a webhook.
    bridge_session_s: Annotated[float, Field(gt=0, le=13)] = 8.0
    # DNS, TCP, TLS and upgrade of the agent's socket.
    bridge_agent_connect_s: Seconds = 5.0
    # The token between webhook and media socket; Twilio opens the socket within seconds.
    bridge_token_s: Annotated[int, Field(ge=1, le=3600)] = 60
    # From the upgrade to `start`; Twilio sends both at once.
    bridge_start_s: Seconds = 10.0
    # Twilio's own limit of a call by default.
    bridge_call_max_s: Seconds = 14400.0
    # Twilio sends 50 messages a second while the caller is there.
    bridge_caller_silence_s: Seconds = 15.0
    bridge_caller_no_audio_s: Seconds = 60.0
    bridge_caller_ping_s: Seconds = 30.0
    bridge_agent_silence_s: Seconds = 15.0
    bridge_agent_ping_s: Seconds = 10.0
    # A peer that has read nothing for so long does not come back in time for a conversation.
    bridge_stall_s: Seconds = 10.0
    # Our close frame to the end of the socket.
    bridge_close_s: Seconds = 2.0
    # Longest last words; the margin covers the network and Twilio's own buffering.
    bridge_playout_max_s: Seconds = 60.0
    bridge_playout_margin_s: Seconds = 5.0
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
    # Small kernel and process buffers make a peer that does not read noticed within seconds of audio.
    bridge_send_buffer_bytes: Annotated[int, Field(ge=4096, le=16 << 20)] = 32768
    bridge_write_high_bytes: Annotated[int, Field(ge=1024, le=16 << 20)] = 8192
    bridge_http_connections: Annotated[int, Field(ge=1, le=100_000)] = 512

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load_settings` read: it must not come back from the environment what that left out."""
        return (init_settings,)

    @property
    def auth_tokens(self) -> list[str]:
        """The account's auth tokens, the newest first while one is being rotated."""
        return [t for t in (t.strip() for t in self.twilio_auth_token.get_secret_value().split(",")) if t]

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
        from_file = DotEnvSettingsSource(Settings, env_file=env_file)()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"{env_file}: cannot be read as UTF-8 text: {error}"]) from None
    raw: dict[str, Any] = {
        **from_file,
        **EnvSettingsSource(Settings)(),
        **{name.lower(): value for name, value in overrides.items()},
    }
    # An empty variable is one that is not set, as shells and compose files write it.
    raw = {name: value for name, value in raw.items() if value != ""}
    problems: list[str] = []
    bad: set[str] = set()
    try:
        settings = Settings.model_validate(_with_development_defaults(raw))
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False):
            name = str(item["loc"][0])
            bad.add(name)
            if name in raw:  # A default that follows from a wrong value is no problem of its own.
                problems.append(_problem(name, item["msg"], raw[name]))
        settings = Settings.model_validate(
            _with_development_defaults({name: value for name, value in raw.items() if name not in bad})
        )
    problems += [text for name, text in _cross_checks(settings) if name not in bad]
    if problems:
        raise SettingsError(problems)
    return settings


def _with_development_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    if raw.get("bridge_validate_signatures") != "0":
        return raw
    port = raw.get("port", "3000")
    return {"host": "127.0.0.1", "public_url": f"http://127.0.0.1:{port}", "bridge_agent": "echo", **raw}


def _problem(name: str, message: str, value: Any) -> str:
    secret = name.endswith(("token", "key"))
    told = "" if secret or value is None else f" (it is {value!r})"
    return f"{name.upper()}: {message.removeprefix('Value error, ')}{told}"


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
    elif s.bridge_agent != "echo" and not s.bridge_allow_unsigned_agent:
        found.append(
            (
                "bridge_agent",
                f"BRIDGE_AGENT: {s.bridge_agent} costs money and BRIDGE_VALIDATE_SIGNATURES=0 lets anyone call it: "
                "set BRIDGE_ALLOW_UNSIGNED_AGENT=1 as well if that is wanted",
            )
        )
    if s.bridge_agent == "retell":
        need("retell_api_key", "from Retell's dashboard, or BRIDGE_AGENT=echo to try without an agent")
        need("retell_agent_id", "the agent that answers, from Retell's dashboard")
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
