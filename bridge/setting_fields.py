"""The variables of the process: each with its default, its bounds and what it does."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from bridge.agents.max_calls import MaxCallsOf
from bridge.agents.setting_types import (
    Announcement,
    CallerId,
    Fallback,
    Host,
    HttpUrl,
    Refusal,
    Seconds,
    Switch,
)
from bridge.setting_region import DEFAULT_API
from bridge.setting_values import (
    AccountSid,
    AgentNames,
    ApiKeySid,
    ConnectionOverrides,
    NodeName,
    NumberPrefixes,
    PagePassword,
    StateDirectory,
    StoreUrl,
    TwilioPlace,
    WebhookSecrets,
    WebhookUrl,
    Workers,
)


class SettingFields(BaseModel):
    """
    The fields of `bridge.settings.Settings`.

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
    bridge_answer_url: WebhookUrl = Field(
        "",
        description="your own webhook, which says for each call who takes it and with which values: an https URL, or "
        "an http one on this machine",
    )
    bridge_answer_agents: AgentNames = Field(
        "",
        description="agents that only that webhook names, with commas between; their settings are checked at start",
    )
    bridge_webhook_secret: WebhookSecrets = Field(
        SecretStr(""),
        description="signs the requests to your webhooks by Standard Webhooks: whsec_ and the base64 of 24 to 64 "
        "random bytes. During a rotation: the new and the old one with a comma between",
    )
    bridge_events_url: WebhookUrl = Field(
        "",
        description="your own webhook, which gets an event for each call that starts and ends, and what was said: an "
        "https URL, or an http one on this machine",
    )
    bridge_events_secret: WebhookSecrets = Field(
        SecretStr(""),
        description="signs the events, in the form of BRIDGE_WEBHOOK_SECRET; by default that one does",
    )
    bridge_fallback: Fallback = Field(
        "say:We are sorry, nobody can take your call at the moment. Please try again later.",
        description="what callers get when no agent is available: say:TEXT, dial:+E164NUMBER or hangup",
    )
    bridge_announce: Announcement = Field(
        "",
        description="what callers hear before the agent, e.g. that the call is recorded; a route may have another text",
    )
    bridge_caller_id: CallerId = Field(
        "",
        description="the E.164 number that a dialled party is shown where the caller has none, as from a browser, a "
        "SIP phone or anonymously; the Twilio account owns it or has verified it. By default the called number",
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
        DEFAULT_API, description="Twilio's REST API, which ends or transfers a call for an agent"
    )
    twilio_region: TwilioPlace = Field(
        "",
        description="the region that processes the calls, e.g. ie1: its REST API is asked. The auth token and the API "
        "key are those of the region",
    )
    twilio_edge: TwilioPlace = Field(
        "", description="the edge by which that API is reached; by default the region's own, e.g. dublin"
    )
    twilio_api_key_sid: ApiKeySid = Field(
        "", description="an API key (SK and 32 hex digits), used for the REST API in place of the auth token"
    )
    twilio_api_key_secret: SecretStr = Field(SecretStr(""), description="the secret of TWILIO_API_KEY_SID")
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
    bridge_tls_key_password: SecretStr = Field(
        SecretStr(""), description="the password of BRIDGE_TLS_KEY, if that is encrypted"
    )
    bridge_metrics_token: SecretStr = Field(
        SecretStr(""),
        description="the bearer token of /metrics; without one only requests from this machine that no proxy "
        "forwards are answered",
    )
    bridge_api_token: SecretStr = Field(
        SecretStr(""),
        description="the bearer token of /calls, the records of calls; without one there is no /calls",
    )
    bridge_page_password: PagePassword = Field(
        SecretStr(""),
        description="the password of the page at /, at least 12 characters. Without one the page is there with "
        "signatures off only, for this machine: [page.md](page.md)",
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
    bridge_keep_h: float = Field(
        24.0,
        gt=0,
        le=8760,
        description="hours for which the records of finished calls are kept, sealed and without what was said, at "
        "most of the last 1000; for which flight records are kept; and for which an event that BRIDGE_EVENTS_URL does "
        "not take is tried again",
    )
    bridge_record_dir: str = Field(
        "",
        description="a directory for stereo recordings of the calls; without it none are made: "
        "[recordings.md](recordings.md)",
    )
    bridge_record_format: Literal["wav", "opus"] = Field(
        "wav",
        description="opus: a recording becomes an Ogg Opus file of a third of the size once its call is over; needs "
        "voice-bridge[opus]",
    )
    bridge_record_keep_h: float = Field(
        168.0, gt=0, le=876_000, description="hours after which a recording is deleted"
    )
    bridge_record_twilio: Switch = Field(
        False, description="1: Twilio records the calls, in your account and at its price"
    )
    bridge_state_dir: StateDirectory = Field(
        "",
        description="the directory of that file, and of flight records. By default systemd's STATE_DIRECTORY, else "
        "voice-bridge in the user's state directory",
    )
    bridge_max_calls: int = Field(
        500, ge=1, le=100_000, description="live and admitted calls; beyond it callers hear the busy tone"
    )
    bridge_max_calls_of: MaxCallsOf = Field(
        "",
        description="the most calls of an agent at once, over all processes of the store, e.g. "
        "retell-sip=20,openai=100; beyond it the next agent of the chain takes the call",
    )
    bridge_caller_calls_max: int = Field(
        0, ge=0, le=1000, description="the most calls of one number at once, over all processes; 0: no bound"
    )
    bridge_caller_per_hour: int = Field(
        0,
        ge=0,
        le=1000,
        description="the most calls of one number within an hour, over all processes; 0: no bound",
    )
    bridge_anonymous_per_hour: int = Field(
        0,
        ge=0,
        le=1000,
        description="the most calls within an hour of all callers without a number together (who withhold it, or call "
        "from a browser or a SIP phone), which the two bounds above leave out; 0: no bound",
    )
    bridge_numbers_file: str = Field(
        "", description="a TOML file with numbers that may not call, and with numbers without bounds"
    )
    bridge_day_minutes: int = Field(
        0,
        ge=0,
        le=10_000_000,
        description="the most minutes of all calls on one day, by UTC, over all processes: beyond it running calls go "
        "on, and new callers are refused; 0: no bound",
    )
    bridge_refusal: Refusal = Field(
        "say:We are sorry, your call cannot be taken at the moment. Please try again later.",
        description="what callers get who may not call, by these bounds or the file: as BRIDGE_FALLBACK, or reject, "
        "which costs nothing",
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

    bridge_log_numbers: Switch = Field(
        False, description="1: the log has whole phone numbers; 0: with their middle left out"
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
