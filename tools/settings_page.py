"""Prints docs/settings.md from the settings' descriptions: ``python -m tools.settings_page > docs/settings.md``."""

from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from bridge.agents.directory import BUILT_IN, load_built_in
from bridge.setting_names import REMOVED
from bridge.settings import Settings

HEAD = """\
# Settings

<!-- Printed by `python -m tools.settings_page > docs/settings.md`. A test holds this page and the code equal. -->

Settings are environment variables. A `.env` file in the working directory may hold them too. Options of `bridge serve`
override the environment, and the environment overrides the file. An empty variable counts as unset. Names in `_S` have
seconds as values, names in `_MS` milliseconds.

`bridge serve` names every missing or wrong setting at once and exits with 2. It never prints the value of a secret, nor
a text that may be a secret in the wrong variable. A misspelled `BRIDGE_` name is an error too. Any other unknown
`BRIDGE_` name, and a misspelled setting of an agent in use, is a warning in the log."""

# The sections of the process's own settings.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Required": ("public_url", "twilio_account_sid", "twilio_auth_token", "bridge_agent"),
    "Who answers": (
        "bridge_routes_file",
        "bridge_agents_file",
        "bridge_answer_url",
        "bridge_answer_agents",
        "bridge_webhook_secret",
        "bridge_events_url",
        "bridge_events_secret",
        "bridge_fallback",
        "bridge_announce",
        "bridge_caller_id",
        "bridge_transfer_to",
        "retell_api_key",
        "twilio_api_url",
        "twilio_region",
        "twilio_edge",
        "twilio_api_key_sid",
        "twilio_api_key_secret",
        "bridge_connection_overrides",
    ),
    "Who may call": (
        "bridge_caller_calls_max",
        "bridge_caller_per_hour",
        "bridge_anonymous_per_hour",
        "bridge_numbers_file",
        "bridge_day_minutes",
        "bridge_refusal",
    ),
    "The process": (
        "host",
        "port",
        "bridge_tls_cert",
        "bridge_tls_key",
        "bridge_tls_key_password",
        "bridge_metrics_token",
        "bridge_api_token",
        "bridge_page_password",
        "bridge_workers",
        "bridge_node",
        "bridge_store",
        "bridge_transcripts",
        "bridge_keep_h",
        "bridge_state_dir",
        "bridge_max_calls",
        "bridge_max_calls_of",
        "bridge_http_connections",
        "bridge_drain_grace_s",
        "bridge_drain_s",
        "bridge_resume_linger_s",
        "bridge_log_format",
        "bridge_log_level",
        "bridge_log_numbers",
    ),
    "Recordings": (
        "bridge_record_dir",
        "bridge_record_format",
        "bridge_record_keep_h",
        "bridge_record_twilio",
    ),
    "Limits of a call": (
        "bridge_session_s",
        "bridge_agent_connect_s",
        "bridge_dial_s",
        "bridge_call_max_s",
        "bridge_caller_silence_s",
        "bridge_caller_no_audio_s",
        "bridge_agent_silence_s",
        "bridge_stall_s",
        "bridge_playout_max_s",
    ),
    "Sizes": (
        "bridge_hold_from_caller_ms",
        "bridge_hold_to_caller_ms",
        "bridge_held_bytes",
        "bridge_gather_ms",
        "bridge_caller_message_max_bytes",
        "bridge_agent_message_max_bytes",
        "bridge_control_per_s",
    ),
    "Development": ("bridge_validate_signatures", "bridge_allow_unsigned_agent"),
}

INTRODUCTIONS = {
    "Required": "With `BRIDGE_VALIDATE_SIGNATURES=0` none of them is.",
    "Who answers": "`BRIDGE_AGENT` takes a name, or several with commas between, which are tried in turn: "
    "[agents.md](agents.md).",
    "Recordings": "None are made by default: [recordings.md](recordings.md).",
    "Who may call": "All of it is off by default: [operations.md](operations.md#callers-who-call-too-often).",
}


def page() -> str:
    """Return the page."""
    blocks = [HEAD]
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(Settings.model_fields), "SECTIONS lists each setting once"
    for title, names in SECTIONS.items():
        blocks.append(f"## {title}")
        if title in INTRODUCTIONS:
            blocks.append(INTRODUCTIONS[title])
        fields = [(name, Settings.model_fields[name]) for name in names]
        rows = [_row(name, field, is_required=title == "Required") for name, field in fields]
        blocks.append(_table(["variable", "default", "values", "meaning"], rows))
    blocks += ["## Per agent", "Only those of the agents in use are read.", _agents()]
    blocks += ["## Removed", "These are ignored with a warning.", _removed()]
    return "\n\n".join(blocks) + "\n"


def _agents() -> str:
    fields: dict[str, FieldInfo] = {}
    users: dict[str, list[str]] = {}
    for agent in BUILT_IN:
        for name, field in load_built_in(agent).settings.model_fields.items():
            fields[name] = field
            users.setdefault(name, []).append(f"`{agent}`")
    rows = [
        [row[0], ", ".join(users[name]), *row[1:]]
        for name, row in ((name, _row(name, field)) for name, field in fields.items())
    ]
    return _table(["variable", "agents", "default", "values", "meaning"], rows)


def _removed() -> str:
    return _table(["variable", "always"], [[f"`{name.upper()}`", value] for name, value in REMOVED.items()])


def _row(name: str, field: FieldInfo, *, is_required: bool = False) -> list[str]:
    assert field.description, f"{name} has a description"
    default = "required" if is_required or field.is_required() else _text(field.default)
    return [f"`{name.upper()}`", default, _values(field), field.description]


def _text(default: object) -> str:
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if isinstance(default, float):
        return f"`{default:g}`"
    return "" if default == "" else f"`{int(default) if isinstance(default, bool) else default}`"


def _values(field: FieldInfo) -> str:
    if field.annotation is bool:
        return "`0`, `1`"
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(field.annotation) if choice)
    if field.annotation not in (int, float):
        return ""
    low = high = ""
    for bound in field.metadata:
        match bound:
            case Ge(ge=limit):
                low = f"from {limit}"
            case Gt(gt=limit):
                low = f"above {limit},"
            case Le(le=limit):
                high = f"up to {limit}"
            case Lt(lt=limit):
                high = f"below {limit}"
    return f"{low} {high}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201
