"""
The file that describes a Retell agent, as models: the range of each setting and its trade-off.

Names, ranges and defaults are Retell's, as retell-sdk 6.2 types and documents them. A setting that the file leaves
out keeps its value at Retell. A setting that may be None is removed by ``false``, since TOML has no null.
"""

from __future__ import annotations

import re
from types import NoneType
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

# fmt: off
LANGUAGES = (
    "en-US", "en-IN", "en-GB", "en-AU", "en-NZ", "de-DE", "es-ES", "es-419", "hi-IN", "fr-FR", "fr-CA", "ja-JP",
    "pt-PT", "pt-BR", "zh-CN", "ru-RU", "it-IT", "ko-KR", "nl-NL", "nl-BE", "pl-PL", "tr-TR", "vi-VN", "ro-RO",
    "bg-BG", "ca-ES", "th-TH", "da-DK", "fi-FI", "el-GR", "hu-HU", "id-ID", "no-NO", "sk-SK", "sv-SE", "lt-LT",
    "lv-LV", "cs-CZ", "ms-MY", "af-ZA", "ar-SA", "az-AZ", "bs-BA", "cy-GB", "fa-IR", "fil-PH", "gl-ES", "he-IL",
    "hr-HR", "hy-AM", "is-IS", "kk-KZ", "kn-IN", "mk-MK", "mr-IN", "ne-NP", "sl-SI", "sr-RS", "sw-KE", "ta-IN",
    "ur-IN", "yue-CN", "uk-UA",
)
# fmt: on


class Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def _key(description: str, **limits: Any) -> Any:
    """Declare a setting that the file may leave out; ``repr=False`` hides values that may be secret from messages."""
    return Field(None, description=description, **limits)


def _number(low: float, high: float | None, description: str) -> Any:
    span = f"{low:.9g} or more" if high is None else f"{low:.9g} to {high:.9g}"
    return _key(f"Retell takes {span}, {description}", ge=low, le=high)


def check_url(value: Any, *schemes: str) -> Any:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        is_good = parts.scheme in schemes and parts.hostname and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or re.search(r"[\s\x00-\x20]", value):
        raise ValueError(
            f"does not begin with {' or '.join(f'{name}://' for name in schemes)} and name a host"
        )
    return value


def _check_schema(value: Any) -> Any:
    if not isinstance(value, dict) or value.get("type") != "object":
        raise ValueError('is not a table with type = "object"')
    properties, required = value.get("properties"), value.get("required", [])
    if not isinstance(properties, dict):
        raise ValueError("has no table properties")
    if not isinstance(required, list) or not all(isinstance(n, str) and n in properties for n in required):
        raise ValueError("requires a property that it does not have")
    return value


def _check_texts(value: Any) -> Any:
    is_texts = isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
    if not is_texts or not value:
        raise ValueError("is not a list of texts")
    if len(set(value)) < len(value):
        raise ValueError("has a value twice")
    return value


def _check_languages(value: Any) -> Any:
    if value == "multi":
        raise PydanticCustomError(
            "sentence",
            '"multi" is gone since 2026-07-31: name the languages, as ["en-US", "es-ES"]; each one more costs accuracy',
        )
    languages = _check_texts(value if isinstance(value, list) else [value])
    if unknown := sorted(set(languages) - set(LANGUAGES)):
        raise ValueError(f"has an unknown language, {', '.join(unknown)}")
    return languages


Ambience = Literal[
    "coffee-shop", "convention-hall", "summer-outdoor", "mountain-outdoor", "static-noise", "call-center"
]
Denoising = Literal["no-denoise", "noise-cancellation", "noise-and-background-speech-cancellation"]
Storage = Literal["everything", "everything_except_pii", "basic_attributes_only"]
Text = Annotated[str, Field(pattern=r"\S")]
Word = Annotated[str, Field(pattern=r"^\S+$")]
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
PhoneNumber = Annotated[str, Field(pattern=r"^(\+[1-9][0-9]{6,14}|\{\{.+\}\})$")]
Texts = Annotated[list[str], BeforeValidator(_check_texts)]
Languages = Annotated[list[str], BeforeValidator(_check_languages)]
HttpUrl = Annotated[str, BeforeValidator(lambda value: check_url(value, "https", "http"))]
SocketUrl = Annotated[str, BeforeValidator(lambda value: check_url(value, "wss", "ws"))]
Schema = Annotated[dict[str, Any], BeforeValidator(_check_schema)]


class Agent(Table):
    agent_name: Text = _key("the name in Retell's dashboard, and what the agent is found by")
    voice_id: Word = _key("one of the voices in Retell's dashboard")
    voice_speed: float = _number(
        0.5, 2, "by default 1; fast sounds hurried, and is hard to follow on a phone"
    )
    voice_temperature: float = _number(
        0, 2, "by default 1; high sounds livelier and less alike from call to call"
    )
    volume: float = _number(0, 2, "by default 1; loud distorts on a phone line")
    fallback_voice_ids: Texts | None = _key("voices of other providers, for when that of voice_id is down")
    language: Languages = _key(f"one of these, or a list of them: {', '.join(LANGUAGES)}")
    interruption_sensitivity: float = _number(
        0,
        1,
        "by default 1; high stops at a cough or an echo, low talks over the caller, 0 is never interrupted",
    )
    responsiveness: float = _number(
        0,
        1,
        "by default 1; high cuts in on callers who pause to think, low leaves a silence after every sentence",
    )
    enable_backchannel: bool = _key(
        '"uh-huh" while the caller speaks; lively, and in the way where a line echoes'
    )
    backchannel_frequency: float = _number(
        0, 1, "by default 0.8; often sounds attentive, and soon like a tic"
    )
    backchannel_words: Texts | None = _key("words that the voice says well, in the agent's language")
    ambient_sound: Ambience | None = _key(
        "false for none; an office is call-center; all fill silence, and make words harder to understand"
    )
    ambient_sound_volume: float = _number(0, 2, "by default 1; loud drowns quiet voices")
    begin_message_delay_ms: int = _number(
        0, 5000, "by default 0; long lets the caller get ready, and sounds like a dead line"
    )
    end_call_after_silence_ms: int = _number(
        10_000,
        None,
        "by default 600000 (10 min); short hangs up on callers who look something up, long pays for dead lines",
    )
    max_call_duration_ms: int = _number(
        60_000,
        7_200_000,
        "by default 3600000 (1 h); it bounds what a call can cost, and ends it in the middle of a sentence",
    )
    reminder_trigger_ms: float = _number(
        1, None, "by default 10000 (10 s); short nags callers who think, long leaves them alone"
    )
    reminder_max_count: int = _number(0, None, "by default 1; 0 for never")
    allow_user_dtmf: bool = _key("whether keys that the caller presses count")
    boosted_keywords: Texts | None = _key("names and words that the recognition should expect")
    denoising_mode: Denoising = _key(
        "by default noise-cancellation; more takes away other people's voices, and at times the caller's"
    )
    stt_mode: Literal["fast", "accurate"] = _key("by default fast; accurate answers later")
    data_storage_setting: Storage = _key(
        "by default everything; less protects callers, and leaves less to find faults with"
    )
    webhook_url: HttpUrl | None = _key("where Retell reports this agent's calls; false for none")
    webhook_timeout_ms: int = _number(1, None, "by default 10000 (10 s)")


class _Tool(Table):
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="1 to 64 of a-z, A-Z, 0-9, _ and -")
    description: Text = _key("tells the model what the tool does and when to use it")


class _SpeakingTool(_Tool):
    speak_during_execution: bool = _key("whether it says something meanwhile")
    execution_message_description: Text = _key("what it says meanwhile, or how")
    execution_message_type: Literal["prompt", "static_text"] = _key("by default prompt")


class EndCall(_SpeakingTool):
    type: Literal["end_call"]


class PressDigit(_Tool):
    type: Literal["press_digit"]
    delay_ms: int = _number(0, 5000, "by default 1000; short presses before the menu has been read")


class Predefined(Table):
    type: Literal["predefined"]
    number: PhoneNumber = Field(description="+ and the country's code, or a {{variable}}")
    extension: str = _key("digits, * and #", pattern=r"^([0-9*#]+|\{\{.+\}\})$")


class Inferred(Table):
    type: Literal["inferred"]
    prompt: Text = Field(description="tells the model how to find the number")


class ColdTransfer(Table):
    type: Literal["cold_transfer"] = Field(description="warm transfers are set up in Retell's dashboard")
    cold_transfer_mode: Literal["sip_refer", "sip_invite"] = _key("as the line's carrier allows")
    show_transferee_as_caller: bool = _key("only with sip_invite, where the carrier allows it")


class TransferCall(_SpeakingTool):
    type: Literal["transfer_call"]
    transfer_destination: Predefined | Inferred = Field(
        discriminator="type", description="where the call goes"
    )
    transfer_option: ColdTransfer = Field(description="warm transfers are set up in Retell's dashboard")


class CustomTool(_SpeakingTool):
    type: Literal["custom"]
    url: HttpUrl = Field(description="what Retell asks when the model uses the tool")
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = _key("by default POST")
    headers: dict[str, str] = _key("headers of the request", repr=False)
    query_params: dict[str, str] = _key("appended to the URL", repr=False)
    parameters: Schema = _key('a JSON Schema: type = "object", properties, required')
    args_at_root: bool = _key("whether the arguments are the body itself, not its args")
    response_variables: dict[str, str] = _key("names of variables and JSON paths in the answer", repr=False)
    speak_after_execution: bool = _key("whether it speaks when the answer is there")
    timeout_ms: int = _number(1000, 600_000, "by default 120000 (2 min); long leaves the caller in silence")
    max_retry: int = _number(0, 5, "by default 0; only where asking twice does no harm")


Tool = Annotated[EndCall | PressDigit | TransferCall | CustomTool, Field(discriminator="type")]


class PrimaryModel(Table):
    model: Word = Field(description="one of the models that Retell offers")
    tier: Literal["standard", "fast", "ultrafast"] = _key("by default standard; faster ones cost more")


class ModelConfig(Table):
    primary: PrimaryModel = _key("the model, and how it is served")
    temperature: float = _number(0, 1, "by default 0; high varies its words, and calls tools less reliably")


class Llm(Table):
    start_speaker: Literal["agent", "user"] = _key("user leaves callers in silence who wait for a greeting")
    begin_message: str | None = _key(
        'what the agent says first; "" waits for the caller, false lets the model make it up, which takes a moment'
    )
    begin_after_user_silence_ms: int | None = _number(
        0, None, "or false to wait for ever; for agents that let the caller speak first"
    )
    general_prompt: Text | None = _key("what the agent is and does; long ones answer later and cost more")
    general_tools: list[Tool] | None = _key(
        "other kinds are set up in Retell's dashboard, and then general_tools is left out here"
    )
    model: Word = _key("one of the models that Retell offers")
    # Pydantic uses the name ``model_config`` itself.
    config: ModelConfig = _key("settings of the model", alias="model_config")
    knowledge_base_ids: Texts | None = _key("ids of knowledge bases")
    default_dynamic_variables: dict[str, str] | None = _key("what {{variables}} stand for", repr=False)
    tool_call_strict_mode: bool = _key("exact arguments of tools, with the models that can")


class ResponseEngine(Table):
    llm_id: Id = _key("the id of a Retell LLM, llm_...")
    llm_websocket_url: SocketUrl = _key("your server; the begin message and the prompt are its own")
    conversation_flow_id: Id = _key("the id of a conversation flow")


class File(Table):
    agent: Agent = _key("it is written [agent]")
    response_engine: ResponseEngine = _key("it is written [response_engine]")
    llm: Llm = _key("it is written [llm]")


SECTIONS: dict[str, type[Table]] = {"agent": Agent, "response_engine": ResponseEngine, "llm": Llm}


def keys(table: type[Table]) -> dict[str, FieldInfo]:
    """Give the settings of a table by their names in the file."""
    return {field.alias or name: field for name, field in table.model_fields.items()}


def is_removable(field: FieldInfo) -> bool:
    """Say whether ``false`` removes the setting at Retell."""
    return NoneType in get_args(field.annotation)


def tag(table: type[Table]) -> str:
    """Give the ``type`` of a table that is one of several kinds."""
    return str(get_args(table.model_fields["type"].annotation)[0])


def tables_of(annotation: Any) -> list[type[Table]]:
    """Give the kinds of tables that a setting may have."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return [annotation]
    return [table for part in get_args(annotation) for table in tables_of(part)]
