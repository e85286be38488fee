"""The file of ``bridge retell-agent``: its errors, all at once, and its keys against those of the SDK."""

import copy
import re
import tomllib
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from retell.types import (
    AgentCreateParams,
    AgentUpdateParams,
    LlmCreateParams,
    LlmUpdateParams,
    llm_create_params,
)
from retell_rest import assert_typed
from typing_extensions import get_type_hints as get_marked_hints
from typing_extensions import is_typeddict

from bridge.retell_agent.api import known_models
from bridge.retell_agent.file import EXAMPLE, AgentFileError, check_agent_file, read_agent_file
from bridge.retell_agent.models import (
    LANGUAGES,
    Agent,
    Llm,
    ResponseEngine,
    is_removable,
    keys,
    tables_of,
    tag,
)

AGENT, ENGINE, LLM = keys(Agent), keys(ResponseEngine), keys(Llm)
TOOLS = {tag(tool): keys(tool) for tool in tables_of(LLM["general_tools"].annotation)}
GOOD: dict[str, Any] = {
    "agent": {"agent_name": "Reception", "voice_id": "11labs-Adrian"},
    "llm": {"start_speaker": "agent"},
}
TOOL = {"type": "custom", "name": "look_up", "url": "https://example.com/look-up"}
TRANSFER = {
    "type": "transfer_call",
    "name": "transfer",
    "transfer_destination": {"type": "predefined", "number": "+15555550100"},
    "transfer_option": {"type": "cold_transfer"},
}


def problems(tables: dict[str, Any], models: frozenset[str] = frozenset()) -> list[str]:
    with pytest.raises(AgentFileError) as caught:
        check_agent_file(tables, models)
    return caught.value.problems


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Give the good file with one more value; a path may lead into a table."""
    tables = copy.deepcopy(GOOD)
    *parents, name = path.split(".")
    at = tables
    for parent in parents:
        at = at.setdefault(parent, {})
    at[name] = value
    return tables


# Wrong files and their messages


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (
            "agent.end_call_after_silence_ms",
            5000,
            "agent.end_call_after_silence_ms: 5000 is below 10000: Retell takes 10000 or more, by default 600000 "
            "(10 min); short hangs up on callers who look something up, long pays for dead lines",
        ),
        (
            "agent.interruption_sensitivity",
            1.5,
            "agent.interruption_sensitivity: 1.5 is above 1: Retell takes 0 to 1, by default 1; high stops at a "
            "cough or an echo, low talks over the caller, 0 is never interrupted",
        ),
        (
            "agent.language",
            "multi",
            'agent.language: "multi" is gone since 2026-07-31: name the languages, as ["en-US", "es-ES"]; each one '
            "more costs accuracy",
        ),
    ],
)
def test_value_is_reported_with_its_range_and_its_trade_off(path, value, sentence):
    assert problems(with_value(path, value)) == [sentence]


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("agent.responsiveness", -0.1, "-0.1 is below 0"),
        ("agent.responsiveness", True, "true is not a number"),
        ("agent.responsiveness", "1", "'1' is not a number"),
        ("agent.responsiveness", float("nan"), "nan is not a number"),
        ("agent.responsiveness", float("inf"), "inf is not a number"),
        ("agent.backchannel_frequency", 1.01, "is above 1: Retell takes 0 to 1, by default 0.8"),
        ("agent.enable_backchannel", "yes", "'yes' is neither true nor false"),
        ("agent.enable_backchannel", 1, "1 is neither true nor false"),
        ("agent.backchannel_words", "yeah", "is not a list of texts"),
        ("agent.backchannel_words", [], "is not a list of texts"),
        ("agent.backchannel_words", ["yeah", 1], "is not a list of texts"),
        ("agent.backchannel_words", ["yeah", "yeah"], "has a value twice"),
        ("agent.ambient_sound", "office", "coffee-shop, convention-hall, summer-outdoor"),
        ("agent.ambient_sound", "office", "an office is call-center"),
        ("agent.ambient_sound", True, "is not one of its values"),
        ("agent.ambient_sound_volume", 2.1, "is above 2"),
        ("agent.voice_speed", 0.4, "is below 0.5: Retell takes 0.5 to 2"),
        ("agent.begin_message_delay_ms", 5001, "is above 5000"),
        ("agent.begin_message_delay_ms", 1.5, "is not a whole number"),
        ("agent.end_call_after_silence_ms", 10000.0, "is not a whole number"),
        ("agent.max_call_duration_ms", 59_999, "is below 60000: Retell takes 60000 to 7200000"),
        ("agent.max_call_duration_ms", 7_200_001, "is above 7200000"),
        ("agent.reminder_trigger_ms", 0, "is below 1"),
        ("agent.reminder_max_count", -1, "is below 0"),
        ("agent.language", "en", "has an unknown language, en"),
        ("agent.language", [], "is not a list of texts"),
        ("agent.language", ["en-US", "xx-XX"], "has an unknown language, xx-XX"),
        ("agent.language", ["en-US", "multi"], "has an unknown language, multi"),
        ("agent.language", 1, "is not a list of texts"),
        ("agent.agent_name", " ", "is empty"),
        ("agent.agent_name", 1, "is not text"),
        ("agent.voice_id", "a b", "is not of that form"),
        ("agent.voice_id", False, "false is not text"),
        ("agent.webhook_url", "example.com", "does not begin with https:// or http:// and name a host"),
        ("agent.webhook_url", "https://", "name a host"),
        ("agent.webhook_url", "https://a b", "name a host"),
        ("agent.webhook_url", "https://a:x", "name a host"),
        ("agent.webhook_url", True, "name a host"),
        ("agent.stt_mode", "custom", "it is fast or accurate"),
        ("llm.start_speaker", "caller", "it is agent or user"),
        ("llm.begin_message", True, "is not text"),
        ("llm.begin_after_user_silence_ms", -1, "is below 0"),
        ("llm.model_config.temperature", 1.1, "is above 1"),
        ("llm.model_config.primary", {"model": "x", "tier": "slow"}, "it is standard, fast or ultrafast"),
        ("llm.model_config.primary.tier", "fast", "llm.model_config.primary.model: is missing"),
        ("llm.model_config", 1, "llm.model_config: is not a table"),
        ("llm.default_dynamic_variables", {"name": 1}, "default_dynamic_variables.name: is not text"),
        ("llm.general_tools", {}, "is not a list of tables"),
        ("llm.general_tools", [1], "general_tools[0]: is not a table"),
        ("llm.general_tools", [{}], "general_tools[0].type: is missing: it is end_call"),
        ("llm.general_tools", [{"type": "mcp"}], "'mcp' is not one of its values"),
        ("llm.general_tools", [{"type": "end_call"}], "general_tools[0].name: is missing"),
        (
            "llm.general_tools",
            [{"type": "end_call", "name": "a b"}],
            "general_tools[0].name: 'a b' is not of",
        ),
        ("llm.general_tools", [TOOL, TOOL], "general_tools[1].name: 'look_up' is the name of two tools"),
        ("llm.general_tools", [{**TOOL, "url": "x"}], "general_tools[0].url: 'x' does not begin"),
        ("llm.general_tools", [{**TOOL, "timeout_ms": 999}], "is below 1000: Retell takes 1000 to 600000"),
        ("llm.general_tools", [{**TOOL, "max_retry": 6}], "is above 5"),
        ("llm.general_tools", [{**TOOL, "method": "get"}], "it is GET, POST"),
        (
            "llm.general_tools",
            [{**TOOL, "timeout": 1}],
            "general_tools[0].timeout: unknown key",
        ),
        ("llm.general_tools", [{**TOOL, "timeout": 1}], "did you mean timeout_ms?"),
        ("llm.general_tools", [{**TOOL, "parameters": {"type": "string"}}], "is not a table with type"),
        ("llm.general_tools", [{**TOOL, "parameters": {"type": "object"}}], "has no table properties"),
        (
            "llm.general_tools",
            [{**TOOL, "parameters": {"type": "object", "properties": {}, "required": ["day"]}}],
            "requires a property that it does not have",
        ),
        (
            "llm.general_tools",
            [{**TRANSFER, "transfer_destination": {"type": "predefined", "number": "0301234"}}],
            "transfer_destination.number: '0301234' is not of that form: + and the country's code",
        ),
        (
            "llm.general_tools",
            [{**TRANSFER, "transfer_option": {"type": "warm_transfer"}}],
            "transfer_option.type: 'warm_transfer' is not one of its values",
        ),
    ],
)
def test_wrong_value_is_one_problem_that_names_it(path, value, words):
    (sentence,) = problems(with_value(path, value))
    assert sentence.startswith(path.partition(".")[0] + ".")
    assert path.split(".")[1] in sentence
    assert words in sentence


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("llm_websocket_url", "llm_websocket_url: belongs under [response_engine]"),
        ("agent.llm_websocket_url", "agent.llm_websocket_url: belongs under [response_engine]"),
        ("voice_id", "voice_id: belongs under [agent]"),
        ("agent.begin_message", "agent.begin_message: belongs under [llm]"),
        ("agent.general_prompt", "agent.general_prompt: belongs under [llm]"),
        ("agent.general_tools", "agent.general_tools: belongs under [llm]"),
        ("llm.responsiveness", "llm.responsiveness: belongs under [agent]"),
        ("agent.audio_encoding", "agent.audio_encoding: does not exist on an agent"),
        ("agent.sample_rate", "agent.sample_rate: does not exist on an agent"),
        ("audio_websocket_protocol", "audio_websocket_protocol: does not exist on an agent"),
        ("agent.voice", "agent.voice: is voice_id under [agent]"),
        ("llm.model_temperature", "is out of date at Retell: temperature under [llm.model_config]"),
        (
            "agent.interuption_sensitivity",
            "unknown key; did you mean interruption_sensitivity?",
        ),
        ("agent.colour", "agent.colour: unknown key (--example shows the known ones"),
        ("agents", "agents: unknown key; did you mean agent?"),
    ],
)
def test_unknown_key_is_reported_where_it_belongs(path, words):
    (sentence,) = problems(with_value(path, 1))
    assert words in sentence


def test_all_problems_are_reported_at_once():
    lines = problems(
        {"agent": {"voice": "x", "responsiveness": 2, "volume": -1}, "llm": {"model": ""}, "x": 1}
    )
    assert [line.partition(":")[0] for line in lines] == [
        "agent.voice",
        "agent.responsiveness",
        "agent.volume",
        "llm.model",
        "x",
    ]


def test_problems_within_tools_have_the_path_of_the_file():
    tools = [1, TOOL, {**TOOL, "custom": 1, "headers": {"custom": 1}}]
    assert [line.partition(": ")[0] for line in problems(with_value("llm.general_tools", tools))] == [
        "llm.general_tools[0]",
        "llm.general_tools[2].custom",
        "llm.general_tools[2].headers.custom",
        "llm.general_tools[2].name",
    ]


def test_section_that_is_no_table_is_reported():
    assert problems({"agent": 1}) == ["agent: is not a table: it is written [agent]"]


@pytest.mark.parametrize(
    ("engine", "has_llm", "words"),
    [
        ({"llm_id": "llm_1"}, True, "response_engine.llm_id: excludes [llm]"),
        ({"llm_websocket_url": "wss://a"}, True, "response_engine.llm_websocket_url: excludes [llm]"),
        (
            {"llm_id": "llm_1", "llm_websocket_url": "wss://a"},
            False,
            "llm_id and llm_websocket_url exclude each",
        ),
        ({}, False, "response_engine: is empty"),
        ({"llm_websocket_url": "https://a"}, False, "does not begin with wss:// or ws://"),
        ({"llm_id": "llm_1", "type": "retell-llm"}, False, "response_engine.type: is not needed"),
    ],
)
def test_agent_has_one_engine(engine, has_llm, words):
    (sentence,) = problems({"response_engine": engine} | ({"llm": {}} if has_llm else {}))
    assert words in sentence


@pytest.mark.parametrize("path", ["llm.model", "llm.model_config.primary.model"])
def test_model_is_one_that_the_sdk_knows(path):
    models = known_models()
    assert len(models) > 10
    assert check_agent_file(with_value(path, sorted(models)[0]), models).llm is not None
    (sentence,) = problems(with_value(path, "gpt-5-minii"), models)
    assert sentence.startswith(f"{path}: 'gpt-5-minii' is not a model that Retell offers: gpt-5-mini")


def test_model_that_is_said_twice_differently_is_reported():
    tables = with_value("llm.model", "gpt-5")
    tables["llm"]["model_config"] = {"primary": {"model": "gpt-5-mini"}}
    (sentence,) = problems(tables)
    assert sentence.startswith("llm.model: is not llm.model_config.primary.model")


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({"Authorization": ["canary-7f3a"]}, "headers.Authorization: is not text: headers of the request"),
        (["canary-7f3a"], "headers: is not a table: headers of the request"),
    ],
)
def test_values_of_headers_are_never_reported(headers, sentence):
    assert problems(with_value("llm.general_tools", [{**TOOL, "headers": headers}])) == [
        f"llm.general_tools[0].{sentence}"
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[agent\n", "is not TOML"),
        (b"[agent]\nvolume = \n", "line 2"),
        (b"[agent]\nagent_name = '\xff'\n", "cannot be read as UTF-8 text"),
    ],
)
def test_file_that_cannot_be_read_is_reported(tmp_path, content, words):
    (tmp_path / "agent.toml").write_bytes(content)
    with pytest.raises(AgentFileError, match=words):
        read_agent_file(tmp_path / "agent.toml")


def test_file_of_an_editor_that_marks_utf8_is_read(tmp_path):
    (tmp_path / "agent.toml").write_bytes(b'\xef\xbb\xbf[agent]\nagent_name = "Empf\xc3\xa4nger"\n')
    assert read_agent_file(tmp_path / "agent.toml").agent == {"agent_name": "Empfänger"}


# Valid files


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("agent.interruption_sensitivity", (0, 0.5, 1)),
        ("agent.end_call_after_silence_ms", (10_000, 600_000)),
        ("agent.max_call_duration_ms", (60_000, 7_200_000)),
        ("agent.begin_message_delay_ms", (0, 5000)),
        ("agent.ambient_sound_volume", (0, 2)),
        ("agent.reminder_trigger_ms", (1, 10_000.5)),
        ("agent.language", ("en-US", ["en-US", "es-ES"])),
        ("llm.begin_message", ("", "Hello.")),
        ("llm.general_tools", ([], [TOOL, TRANSFER])),
    ],
)
def test_limits_themselves_are_right(path, values):
    section, name = path.split(".")
    for value in values:
        assert getattr(check_agent_file(with_value(path, value)), section)[name] == value


@pytest.mark.parametrize(
    "path",
    [
        "agent.ambient_sound",
        "agent.backchannel_words",
        "agent.webhook_url",
        "llm.begin_message",
        "llm.general_tools",
    ],
)
def test_false_takes_a_value_away(path):
    section, name = path.split(".")
    assert getattr(check_agent_file(with_value(path, False)), section)[name] is None


@pytest.mark.parametrize(
    ("engine", "kind"),
    [
        ({"llm_id": "llm_1"}, "retell-llm"),
        ({"llm_websocket_url": "wss://llm.example.com/retell"}, "custom-llm"),
        ({"conversation_flow_id": "flow_1"}, "conversation-flow"),
    ],
)
def test_engine_gets_the_type_that_its_key_says(engine, kind):
    file = check_agent_file({"response_engine": engine})
    assert file.engine == {"type": kind, **engine}
    assert_typed(AgentCreateParams, {"voice_id": "x", "response_engine": file.engine})


def test_what_only_a_new_agent_needs_is_reported_only_then():
    file = check_agent_file({"agent": {"agent_name": "Reception"}})
    assert file.missing(new_agent=False, new_llm=False) == []
    assert [line.partition(":")[0] for line in file.missing(new_agent=True, new_llm=True)] == [
        "agent.voice_id",
        "response_engine",
    ]
    (sentence,) = check_agent_file({"llm": {}}).missing(new_agent=False, new_llm=True)
    assert sentence.startswith("llm.start_speaker: is missing")


@pytest.mark.parametrize(
    ("agent", "llm", "words"),
    [
        ({"interruption_sensitivity": 0}, {}, "no caller can ever interrupt"),
        ({"end_call_after_silence_ms": 10_000}, {}, "under 20 s hangs up"),
        ({"reminder_trigger_ms": 700_000}, {}, "the call ends before it"),
        ({"enable_backchannel": False, "backchannel_frequency": 1}, {}, "have no effect"),
        ({"ambient_sound": False, "ambient_sound_volume": 1}, {}, "has no effect"),
        ({}, {"begin_message": "", "start_speaker": "agent"}, "waits for the caller"),
    ],
)
def test_surprising_value_is_noted(agent, llm, words):
    (note,) = check_agent_file({"agent": agent, "llm": llm}).notes
    assert words in note


# The example


def test_example_passes_without_a_note_and_makes_a_new_agent():
    file = read_agent_file(EXAMPLE, known_models())
    assert file.notes == ()
    assert file.missing(new_agent=True, new_llm=True) == []
    assert file.llm is not None
    assert_typed(LlmCreateParams, file.llm)
    assert_typed(
        AgentCreateParams, {**file.agent, "response_engine": {"type": "retell-llm", "llm_id": "llm_1"}}
    )


def test_what_the_example_comments_out_passes_too():
    lines = EXAMPLE.read_text("utf-8").splitlines()
    setting = [
        line.removeprefix("# ")
        for line in lines
        if line.startswith(("# [[", "# ")) and (line.startswith("# [[") or line.split()[2:3] == ["="])
    ]
    assert len(setting) > 10
    kept = [line for line in lines if line and not line.startswith("#")]
    at = kept.index("[llm]")
    agent = [line for line in setting if line.split()[0] in AGENT]
    llm = [line for line in setting if line.split()[0] == "model"]
    tool = setting[setting.index("[[llm.general_tools]]") :]
    text = "\n".join([*kept[:at], *agent, "[llm]", *llm, *kept[at + 1 :], *tool])
    file = check_agent_file(tomllib.loads(text), known_models())
    assert file.agent["ambient_sound"] == "call-center"
    assert file.llm is not None
    assert_typed(LlmCreateParams, file.llm)


# Against the SDK's types


def literals(hint: Any) -> list[str]:
    """Give the texts of a type's literals."""
    if get_origin(hint) is Literal:
        return [value for value in get_args(hint) if isinstance(value, str)]
    return [text for part in get_args(hint) if part is not NoneType for text in literals(part)]


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [(AGENT, (AgentCreateParams, AgentUpdateParams)), (LLM, (LlmCreateParams, LlmUpdateParams))],
)
def test_every_key_exists_in_the_sdk(fields, kinds):
    for kind in kinds:
        assert fields.keys() <= kind.__annotations__.keys()


def test_every_key_of_an_engine_exists_in_the_sdk():
    kinds = get_args(get_type_hints(AgentCreateParams)["response_engine"])
    assert ENGINE.keys() == {name for kind in kinds for name in kind.__annotations__} - {"type", "version"}


def test_every_tool_and_its_keys_exist_in_the_sdk():
    kinds = {
        literals(get_type_hints(kind)["type"])[0]: kind for kind in get_args(llm_create_params.GeneralTool)
    }
    for name, tool in TOOLS.items():
        assert tool.keys() <= kinds[name].__annotations__.keys()
        marked = get_marked_hints(kinds[name], include_extras=True)
        required = {key for key, hint in marked.items() if "Required[" in str(hint)}
        assert {key for key, field in tool.items() if field.is_required()} == required


def test_removable_is_what_the_sdk_lets_be_null():
    for fields, kind in ((AGENT, AgentUpdateParams), (LLM, LlmUpdateParams)):
        hints = get_type_hints(kind)
        for name, field in fields.items():
            if is_removable(field):
                assert NoneType in get_args(hints[name]), name


def test_values_are_those_of_the_sdk():
    not_offered = {"stt_mode": {"custom"}}
    compared = 0
    for section, fields, kind in (("agent", AGENT, AgentCreateParams), ("llm", LLM, LlmCreateParams)):
        hints = get_type_hints(kind)
        for name in fields:
            if is_typeddict(hints[name]) or name in ("general_tools", "model", "model_config"):
                continue
            values = set(literals(hints[name]))
            compared += bool(values)
            if values and name != "language":
                (problem,) = problems(with_value(f"{section}.{name}", "nonsense"))
                sentence = re.search(r"it is ([^;]+);", problem)
                assert sentence and set(re.split(", | or ", sentence[1])) == values - not_offered.get(
                    name, set()
                )
    assert compared >= 6


def test_languages_are_all_in_the_sdk():
    assert set(LANGUAGES) <= set(literals(get_type_hints(AgentCreateParams)["language"]))
