"""The table of each agent in each kind of trouble: its cases, and why the other cells are empty."""

from __future__ import annotations

from agent_troubles import (
    AGENTS,
    DIALLED,
    REALTIME,
    RETELL,
    TABLES,
    TROUBLES,
    WITH_ERRORS,
    WITHOUT_ERRORS,
    Case,
    assemblyais_error_and_close,
    at_api,
    at_socket,
    cartesias_error_and_close,
    deepgrams_error_alone,
    elevenlabs_error_alone,
    elevenlabs_error_and_close,
    lives_error_and_close,
    realtime_error_and_close,
    realtime_fails,
    reset,
    retell_sends_opus,
    says,
    send_too_much,
    starting,
    talking,
    with_format,
)
from live import API_KEY

from bridge.agents.succession import FailureKind
from bridge.standins.agent.faults import Faults
from bridge.standins.agent.protocols.protocol import Account

NO_CREDIT = {
    "type": "insufficient_quota",
    "code": "insufficient_quota",
    "message": "You exceeded your quota.",
}
FAULT = {"type": "server_error", "code": None, "message": "Sorry about that."}
TOO_FAST = {"type": "tokens", "code": "rate_limit_exceeded", "message": "Please try again in 20s."}
PCM = {"type": "audio/pcm", "rate": 24000}
LATE = {"options": {"faults": Faults(ready_delay_s=30.0)}, "settings": {"BRIDGE_AGENT_CONNECT_S": "0.5"}}
REFUSES = {"options": {"faults": Faults(fail_ready=True)}}
NEEDS_NAME = {"account": Account(key=API_KEY, required_variables=frozenset({"name"}))}

QUOTA, KEY, REFUSED = FailureKind.QUOTA, FailureKind.CREDENTIALS, FailureKind.REFUSED
SERVER, LIMIT, LOST = FailureKind.SERVER, FailureKind.SESSION_LIMIT, FailureKind.LOST

CASES: list[Case] = [
    at_api("quota", 402),
    at_socket("quota", AGENTS, 402, QUOTA),
    talking(
        "quota",
        ("elevenlabs",),
        "This request exceeds your quota limit.",
        QUOTA,
        lambda session: session.exceed_quota(),
    ),
    talking(
        "quota",
        REALTIME,
        "error code insufficient_quota: You exceeded your quota.",
        QUOTA,
        realtime_fails(NO_CREDIT),
    ),
    talking(
        "quota",
        ("openai-live",),
        "error code insufficient_quota: This is insufficient_quota.",
        QUOTA,
        lambda session: session.send_error("insufficient_quota", "insufficient_quota"),
    ),
    talking("quota", TABLES, "error: No credit.", QUOTA, says("error", "no_credit", "No credit.")),
    talking(
        "quota",
        ("assemblyai",),
        "error: Too many calls.",
        QUOTA,
        lambda session: session.send_error("concurrency_exceeded", "Too many calls."),
    ),
    at_api("bad key", 401),
    at_socket("bad key", AGENTS, 401, KEY),
    talking(
        "bad key", ("elevenlabs",), "close 3000 Denied.", KEY, lambda session: session.close(3000, "Denied.")
    ),
    talking(
        "bad key",
        REALTIME,
        "error code invalid_api_key, type invalid_request_error: Incorrect API key.",
        KEY,
        lambda session: session.send_error(
            "invalid_api_key", "Incorrect API key.", kind="invalid_request_error"
        ),
    ),
    talking(
        "bad key",
        ("openai-live",),
        "error code invalid_api_key, type invalid_request_error: This is invalid_api_key.",
        KEY,
        lambda session: session.send_error("invalid_api_key", "invalid_request_error"),
    ),
    talking("bad key", TABLES, "error: Who is this?", KEY, says("error", "bad_key", "Who is this?")),
    at_api("server error", 500),
    at_socket("server error", AGENTS, 500, LOST),
    talking(
        "server error",
        (*RETELL, *WITHOUT_ERRORS),
        "close 1011 no llm",
        LOST,
        lambda session: session.close(1011, "no\nllm"),
    ),
    talking(
        "server error",
        ("assemblyai",),
        "error: The LLM failed.",
        SERVER,
        lambda session: session.send_error("internal_error", "The LLM failed."),
    ),
    talking(
        "server error",
        ("cartesia",),
        "error: The LLM failed.",
        LOST,
        lambda session: session.send_error("internal_error", "The LLM failed.", fatal=True),
    ),
    talking(
        "server error",
        ("elevenlabs",),
        "error 1011 llm_error The LLM failed.",
        SERVER,
        lambda session: session.send_error("llm_error", 1011, "The LLM failed."),
    ),
    talking(
        "server error",
        ("deepgram",),
        "Error INTERNAL_SERVER_ERROR: Something broke.",
        SERVER,
        lambda session: session.send_error("INTERNAL_SERVER_ERROR", "Something broke."),
    ),
    talking(
        "server error",
        REALTIME,
        "error type server_error: Sorry about that.",
        SERVER,
        realtime_fails(FAULT, FAULT),
    ),
    talking(
        "server error",
        ("openai-live",),
        "session closed: connection_lost",
        LOST,
        lambda session: session.send_closed("connection_lost"),
    ),
    talking("server error", TABLES, "error: Oops.", SERVER, says("error", "server", "Oops.", 1011)),
    at_api("rate limit", 429, "asks to retry in 30 s", **{"Retry-After": "30"}),
    at_socket("rate limit", AGENTS, 429, LOST),
    talking(
        "rate limit",
        REALTIME,
        # To the end of the detail: the bridge does not wait to see whether audio follows.
        "error code rate_limit_exceeded, type tokens: Please try again in 20s.'",
        QUOTA,
        realtime_fails(TOO_FAST),
    ),
    talking(
        "rate limit",
        ("openai-live",),
        "error code rate_limit_exceeded, type tokens: This is rate_limit_exceeded., and no audio after it",
        QUOTA,
        lambda session: session.send_error("rate_limit_exceeded", "tokens"),
    ),
    talking(
        "error then ordinary close",
        ("deepgram",),
        "Error FAILED_TO_THINK: No LLM answered.",
        SERVER,
        lambda session: session.send_error("FAILED_TO_THINK", "No LLM answered."),
    ),
    talking(
        "error then ordinary close",
        ("elevenlabs",),
        "error 1011 llm_error The LLM failed.",
        SERVER,
        elevenlabs_error_and_close,
    ),
    talking(
        "error then ordinary close",
        REALTIME,
        "error code internal_error, type server_error: Something broke., then close 1000",
        SERVER,
        realtime_error_and_close,
    ),
    talking(
        "error then ordinary close",
        ("openai-live",),
        "error code internal_error, type server_error: This is internal_error., then close 1000",
        SERVER,
        lives_error_and_close,
    ),
    talking(
        "error then ordinary close",
        TABLES,
        "error: Hm., then close 1000",
        SERVER,
        says("trouble", "hm", "Hm.", 1000),
    ),
    talking("error then ordinary close", ("assemblyai",), "error: Hm.", LOST, assemblyais_error_and_close),
    talking(
        "error then ordinary close",
        ("cartesia",),
        "error: Hm., then close 1000",
        SERVER,
        cartesias_error_and_close,
    ),
    talking(
        "error and silence",
        ("deepgram",),
        "Error FAILED_TO_THINK: No LLM answered.",
        SERVER,
        deepgrams_error_alone,
    ),
    talking(
        "error and silence",
        ("elevenlabs",),
        "error 1011 llm_error The LLM failed.",
        SERVER,
        elevenlabs_error_alone,
    ),
    talking(
        "error and silence",
        REALTIME,
        "error code internal_error, type server_error: Something broke., and no audio after it",
        SERVER,
        lambda session: session.send_error("internal_error", "Something broke."),
    ),
    talking(
        "error and silence",
        ("openai-live",),
        "error code internal_error, type server_error: This is internal_error., and no audio after it",
        SERVER,
        lambda session: session.send_error("internal_error", "server_error"),
    ),
    talking(
        "error and silence",
        TABLES,
        "error: Hm., and no audio after it",
        SERVER,
        says("trouble", "hm", "Hm."),
    ),
    talking(
        "error and silence",
        ("assemblyai",),
        "error: Hm.",
        LOST,
        lambda session: session.send_error("hm", "Hm."),
    ),
    talking(
        "error and silence",
        ("cartesia",),
        "error: Hm., and no audio after it",
        SERVER,
        lambda session: session.send_error("hm", "Hm.", fatal=False),
    ),
    at_api("refused settings", 422),
    at_socket("refused settings", AGENTS, 400, REFUSED),
    starting("refused settings", ("deepgram",), "Error INVALID_SETTINGS: the settings", REFUSED, **REFUSES),
    starting("refused settings", ("elevenlabs",), "error 1008 override_error no", REFUSED, **REFUSES),
    starting(
        "refused settings",
        ("elevenlabs",),
        "close 1008 Missing required dynamic variables in first message: {'name'}",
        REFUSED,
        options=NEEDS_NAME,
    ),
    starting(
        "refused settings",
        REALTIME,
        "error code session_update_failed, type invalid_request_error: The session could not be updated.",
        REFUSED,
        **REFUSES,
    ),
    starting(
        "refused settings",
        ("openai-live",),
        "error code session_start_failed, type invalid_request_error: The session could not be started.",
        REFUSED,
        **REFUSES,
    ),
    starting("refused settings", TABLES, "error: The settings are refused.", REFUSED, **REFUSES),
    starting("refused settings", WITH_ERRORS, "error: the session is refused", REFUSED, **REFUSES),
    talking(
        "wrong format",
        ("retell",),
        "it sends audio of opus at 48000 Hz, and no audio after it",
        REFUSED,
        retell_sends_opus,
    ),
    starting(
        "wrong format",
        ("elevenlabs",),
        "pcm_44100",
        REFUSED,
        prepare=with_format("announced_format", "pcm_44100"),
    ),
    talking(
        "wrong format",
        ("deepgram",),
        "Error USER_AUDIO_FORMAT: Not what was declared.",
        REFUSED,
        lambda session: session.send_error("USER_AUDIO_FORMAT", "Not what was declared."),
    ),
    starting(
        "wrong format",
        REALTIME,
        "it confirms input audio as audio/pcm instead of audio/pcmu",
        REFUSED,
        prepare=with_format("confirmed_format", PCM),
    ),
    starting(
        "wrong format",
        ("openai-live",),
        "the session's audio is {'type': 'audio/pcm', 'rate': 24000}",
        REFUSED,
        prepare=with_format("confirmed_format", PCM),
    ),
    # The message says no more: its format is not one of the table's.
    starting(
        "wrong format",
        TABLES,
        "detail='error message'",
        REFUSED,
        prepare=with_format("announced_format", "opus"),
    ),
    # Its refusal is one of the format.
    starting("wrong format", ("assemblyai",), "error: the session is refused", REFUSED, **REFUSES),
    starting(
        "wrong format",
        ("cartesia",),
        "detail='error message'",
        REFUSED,
        prepare=with_format("confirmed_format", "pcm_16000"),
    ),
    talking(
        "session limit",
        ("elevenlabs",),
        "error 1000 max_duration_exceeded The conversation exceeds its maximum duration.",
        LIMIT,
        lambda session: session.reach_limit(),
    ),
    talking(
        "session limit",
        ("deepgram",),
        "Error MAXIMUM_SESSION_LENGTH_REACHED: The session has reached its maximum length.",
        LIMIT,
        lambda session: session.reach_limit(),
    ),
    talking(
        "session limit",
        REALTIME,
        "error code session_expired, type invalid_request_error: Your session hit the maximum duration.",
        LIMIT,
        lambda session: session.send_expired(),
    ),
    talking(
        "session limit",
        REALTIME,
        "close 1001",
        LIMIT,
        lambda session: session.close(1001),
    ),
    talking(
        "session limit",
        ("openai-live",),
        "session closed: expired",
        LIMIT,
        lambda session: session.send_closed("expired"),
    ),
    talking("session limit", TABLES, "error: An hour.", LIMIT, says("error", "too_old", "An hour.", 1000)),
    talking(
        "session limit",
        ("assemblyai",),
        "error: Three hours.",
        LIMIT,
        lambda session: session.send_error("session_expired", "Three hours."),
    ),
    talking("reset in mid-sentence", AGENTS, "no close frame", LOST, reset),
    talking("over-long message", AGENTS, "1009", LOST, send_too_much),
    starting(
        "never ready",
        ("elevenlabs", "deepgram", *REALTIME, "openai-live", *WITH_ERRORS),
        "not ready within 0.5 s",
        LOST,
        **LATE,
    ),
    # Without an announcement.
    starting(
        "never ready",
        TABLES,
        "not ready within 0.5 s",
        LOST,
        prepare=with_format("announced_format", None),
        settings=LATE["settings"],
    ),
]

NO_ERRORS = "no document of its vendor names a message for an error: where it fails, it closes"
NO_LIMIT = "no document of its vendor names a message for its longest call: it ends as a finished call does"
NO_FORMAT = "its audio is binary: nothing states a format"
AT_ONCE = "its socket takes audio as soon as it is open"
DIALS = "Twilio dials it: audio and what becomes of the call do not pass the bridge"
OF_API = {case.trouble for case in CASES if case.rest is not None}
# Cells without a case: why the service cannot be in this trouble.
CANNOT = {
    **{
        (agent, trouble): reason
        for agent in (*RETELL, *WITHOUT_ERRORS)
        for trouble, reason in (
            ("error then ordinary close", NO_ERRORS),
            ("error and silence", NO_ERRORS),
            ("session limit", NO_LIMIT),
            ("never ready", AT_ONCE),
        )
    },
    **{(agent, "wrong format"): NO_FORMAT for agent in ("retell-web", *WITHOUT_ERRORS)},
    ("retell-twilio", "wrong format"): "its messages state no format",
    ("cartesia", "session limit"): NO_LIMIT,
    **{(agent, trouble): DIALS for agent in DIALLED for trouble in TROUBLES if trouble not in OF_API},
}
