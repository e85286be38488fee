"""Labels that are exported from the start, so that a rule of Prometheus sees the first of each kind too."""

# Why calls and requests are refused; the bounds of callers add theirs.
REFUSALS = (
    "account_sid",
    "agent",
    "call_live",
    "call_over",
    "call_sid",
    "draining",
    "fault",
    "full",
    "media_format",
    "no_session",
    "not_answered",
    "not_claimed",
    "signature",
    "token",
    "token_of_another_call",
    "token_replaced",
    "too_many_streams",
    "upgrade_signature",
)
# Why messages of calls are ignored, by the side that sent them.
IGNORED = {
    "caller": (
        "bad_sid",
        "before_start",
        "binary",
        "empty_audio",
        "missing_field",
        "not_base64",
        "not_json",
        "not_object",
        "other_stream",
        "other_track",
        "second_start",
        "too_many_marks",
        "unknown_event",
    ),
    "agent": (
        "answer_to_a_peer_that_does_not_read",
        "audio_before_its_format",
        "binary",
        "empty_audio",
        "function_of_the_service",
        "mark_name_too_long",
        "missing_field",
        "not_base64",
        "not_json",
        "not_object",
        "repeated_tool_call",
        "too_many_keys",
        "transfer_not_allowed",
        "unknown_audio",
        "unknown_function",
        "unknown_type",
        "void_audio",
    ),
}
# Why an agent is not tried.
PASSED_OVER = ("failing", "full")
