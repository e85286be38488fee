"""
The keys of the file that describes a Retell agent: what each may be, and what it trades for what.

Names, ranges and defaults are Retell's, as retell-sdk 6.2 types and documents them.
"""

from __future__ import annotations

import math
from typing import Any

from bridge.retell_agent.checks import (
    Key,
    choice,
    leaf,
    number,
    switch,
    table,
    text,
    text_map,
    texts,
    url,
    variants,
)

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


def _language(path: str, value: Any) -> list[str]:
    if value == "multi":
        return [
            f'{path}: "multi" is gone since 2026-07-31: name the languages, as ["en-US", "es-ES"]; each one more '
            "costs accuracy"
        ]
    several = texts("one of these, or a list of them", of=LANGUAGES)
    return several.check(path, value if isinstance(value, list) else [value])


_SHARE = "by default 1"
AGENT: dict[str, Key] = {
    "agent_name": text("the name in Retell's dashboard, and what the agent is found by"),
    "voice_id": text("one of the voices in Retell's dashboard", pattern=r"\S+"),
    "voice_speed": number(0.5, 2, f"{_SHARE}; fast sounds hurried, and is hard to follow on a phone"),
    "voice_temperature": number(0, 2, f"{_SHARE}; high sounds livelier and less alike from call to call"),
    "volume": number(0, 2, f"{_SHARE}; loud distorts on a phone line"),
    "fallback_voice_ids": texts(
        "voices of other providers, for when that of voice_id is down", removable=True
    ),
    "language": Key(_language),
    "interruption_sensitivity": number(
        0, 1, f"{_SHARE}; high stops at a cough or an echo, low talks over the caller, 0 is never interrupted"
    ),
    "responsiveness": number(
        0,
        1,
        f"{_SHARE}; high cuts in on callers who pause to think, low leaves a silence after every sentence",
    ),
    "enable_backchannel": switch(
        '"uh-huh" while the caller speaks; lively, and in the way where a line echoes'
    ),
    "backchannel_frequency": number(0, 1, "by default 0.8; often sounds attentive, and soon like a tic"),
    "backchannel_words": texts("words that the voice says well, in the agent's language", removable=True),
    "ambient_sound": choice(
        (
            "coffee-shop",
            "convention-hall",
            "summer-outdoor",
            "mountain-outdoor",
            "static-noise",
            "call-center",
        ),
        "false for none; an office is call-center; all fill silence, and make words harder to understand",
        removable=True,
    ),
    "ambient_sound_volume": number(0, 2, f"{_SHARE}; loud drowns quiet voices"),
    "begin_message_delay_ms": number(
        0, 5000, "by default 0; long lets the caller get ready, and sounds like a dead line", whole=True
    ),
    "end_call_after_silence_ms": number(
        10_000,
        math.inf,
        "by default 600000 (10 min); short hangs up on callers who look something up, long pays for dead lines",
        whole=True,
    ),
    "max_call_duration_ms": number(
        60_000,
        7_200_000,
        "by default 3600000 (1 h); it bounds what a call can cost, and ends it in the middle of a sentence",
        whole=True,
    ),
    "reminder_trigger_ms": number(
        1, math.inf, "by default 10000 (10 s); short nags callers who think, long leaves them alone"
    ),
    "reminder_max_count": number(0, math.inf, f"{_SHARE}; 0 for never", whole=True),
    "allow_user_dtmf": switch("whether keys that the caller presses count"),
    "boosted_keywords": texts("names and words that the recognition should expect", removable=True),
    "denoising_mode": choice(
        ("no-denoise", "noise-cancellation", "noise-and-background-speech-cancellation"),
        "by default noise-cancellation; more takes away other people's voices, and at times the caller's",
    ),
    "stt_mode": choice(("fast", "accurate"), "by default fast; accurate answers later"),
    "data_storage_setting": choice(
        ("everything", "everything_except_pii", "basic_attributes_only"),
        "by default everything; less protects callers, and leaves less to find faults with",
    ),
    "webhook_url": url(
        ("https", "http"), "where Retell reports this agent's calls; false for none", removable=True
    ),
    "webhook_timeout_ms": number(1, math.inf, "by default 10000 (10 s)", whole=True),
}


def _schema_fault(value: Any) -> str | None:
    if not isinstance(value, dict) or value.get("type") != "object":
        return 'is no table with type = "object"'
    properties, required = value.get("properties"), value.get("required", [])
    if not isinstance(properties, dict):
        return "has no table properties"
    if not isinstance(required, list) or not all(isinstance(n, str) and n in properties for n in required):
        return "requires what is none of its properties"
    return None


_SPEAKS = {
    "speak_during_execution": switch("whether it says something meanwhile"),
    "execution_message_description": text("what it says meanwhile, or how"),
    "execution_message_type": choice(("prompt", "static_text"), "by default prompt"),
}
_NAMED = {
    "name": text("1 to 64 of a-z, A-Z, 0-9, _ and -", pattern=r"[A-Za-z0-9_-]{1,64}", required=True),
    "description": text("tells the model what the tool does and when to use it"),
}
_NUMBER = text(
    "+ and the country's code, or a {{variable}}", pattern=r"\+[1-9][0-9]{6,14}|\{\{.+\}\}", required=True
)
TOOLS: dict[str, dict[str, Key]] = {
    "end_call": {**_NAMED, **_SPEAKS},
    "press_digit": {
        **_NAMED,
        "delay_ms": number(
            0, 5000, "by default 1000; short presses before the menu has been read", whole=True
        ),
    },
    "transfer_call": {
        **_NAMED,
        **_SPEAKS,
        "transfer_destination": variants(
            {
                "predefined": {
                    "number": _NUMBER,
                    "extension": text("digits, * and #", pattern=r"[0-9*#]+|\{\{.+\}\}"),
                },
                "inferred": {"prompt": text("tells the model how to find the number", required=True)},
            },
            "where the call goes",
            required=True,
        ),
        "transfer_option": variants(
            {
                "cold_transfer": {
                    "cold_transfer_mode": choice(("sip_refer", "sip_invite"), "as the line's carrier allows"),
                    "show_transferee_as_caller": switch("only with sip_invite, where the carrier allows it"),
                }
            },
            "warm transfers are set up in Retell's dashboard",
            required=True,
        ),
    },
    "custom": {
        **_NAMED,
        **_SPEAKS,
        "url": url(("https", "http"), "what Retell asks when the model uses the tool", required=True),
        "method": choice(("GET", "POST", "PUT", "PATCH", "DELETE"), "by default POST"),
        "headers": text_map("headers of the request"),
        "query_params": text_map("appended to the URL"),
        "parameters": leaf(_schema_fault, 'a JSON Schema: type = "object", properties, required'),
        "args_at_root": switch("whether the arguments are the body itself, not its args"),
        "response_variables": text_map("names of variables and JSON paths in the answer"),
        "speak_after_execution": switch("whether it speaks when the answer is there"),
        "timeout_ms": number(
            1000, 600_000, "by default 120000 (2 min); long leaves the caller in silence", whole=True
        ),
        "max_retry": number(0, 5, "by default 0; only where asking twice does no harm", whole=True),
    },
}


def _tools(path: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        return [f"{path}: is no list of tables [[llm.general_tools]]"]
    told: list[str] = []
    names: set[str] = set()
    check = variants(
        TOOLS, "other kinds are set up in Retell's dashboard, and then general_tools is left out here"
    )
    for at, tool in enumerate(value):
        told += check.check(f"{path}[{at}]", tool)
        name = tool.get("name") if isinstance(tool, dict) else None
        if isinstance(name, str):
            if name in names:
                told.append(f"{path}[{at}].name: {name!r} is the name of two tools; each needs its own")
            names.add(name)
    return told


LLM: dict[str, Key] = {
    "start_speaker": choice(("agent", "user"), "user leaves callers in silence who wait for a greeting"),
    "begin_message": text(
        'what the agent says first; "" waits for the caller, false lets the model make it up, which takes a moment',
        pattern=r"(?s).*",
        removable=True,
    ),
    "begin_after_user_silence_ms": number(
        0,
        math.inf,
        "or false to wait for ever; for agents that let the caller speak first",
        whole=True,
        removable=True,
    ),
    "general_prompt": text(
        "what the agent is and does; long ones answer later and cost more", removable=True
    ),
    "general_tools": Key(_tools, removable=True),
    "model": text("one of the models that Retell offers", pattern=r"\S+"),
    "model_config": table(
        {
            "primary": table(
                {
                    "model": text("one of the models that Retell offers", pattern=r"\S+", required=True),
                    "tier": choice(
                        ("standard", "fast", "ultrafast"), "by default standard; faster ones cost more"
                    ),
                },
                "the model, and how it is served",
            ),
            "temperature": number(0, 1, "by default 0; high varies its words, and calls tools less reliably"),
        },
        "settings of the model",
    ),
    "knowledge_base_ids": texts("ids of knowledge bases", removable=True),
    "default_dynamic_variables": text_map("what {{variables}} stand for", removable=True),
    "tool_call_strict_mode": switch("exact arguments of tools, with the models that can"),
}

ENGINE: dict[str, Key] = {
    "llm_id": text("the id of a Retell LLM, llm_...", pattern=r"[A-Za-z0-9_-]+"),
    "llm_websocket_url": url(("wss", "ws"), "your server; the begin message and the prompt are its own"),
    "conversation_flow_id": text("the id of a conversation flow", pattern=r"[A-Za-z0-9_-]+"),
}

SECTIONS = {"agent": AGENT, "response_engine": ENGINE, "llm": LLM}

_AUDIO = (
    "does not exist on an agent: it belonged to a request that Retell withdrew; calls are mu-law, 8 kHz, and whoever "
    "opens the session says so"
)
WRONG_KEYS = {
    "audio_encoding": _AUDIO,
    "audio_websocket_protocol": _AUDIO,
    "sample_rate": _AUDIO,
    "model_temperature": "is out of date at Retell: temperature under [llm.model_config]",
    "model_high_priority": 'is out of date at Retell: tier = "fast" under [llm.model_config.primary]',
    "opt_out_sensitive_data_storage": "is out of date at Retell: data_storage_setting under [agent]",
    "enable_voicemail_detection": "is out of date at Retell: voicemail is set up in its dashboard",
    "type": "is not needed: the other key says it",
    "name": "is agent_name under [agent]",
    "voice": "is voice_id under [agent]",
    "prompt": "is general_prompt under [llm]",
    "tools": "is general_tools under [llm]",
}
