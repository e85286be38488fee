"""Reads the table of an agent, with every problem in it at once: the place, what is wrong, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from bridge.agents.described import AUDIO_HERE, Description
from bridge.agents.places import Path
from bridge.agents.setting_types import number_words
from bridge.agents.table_request import Text
from bridge.agents.template import names_in, unknown_names

Kind = TypeVar("Kind", bound=BaseModel)
# A place within the table, and a sentence.
TableProblem = tuple[tuple[str | int, ...], str]
# The same of a table that contradicts itself, and the keys that this is about.
Contradiction = tuple[tuple[str | int, ...], str, set[str]]
# What a value must be, by pydantic's name of the error.
WORDS = {
    "string_type": "must be a text in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list: [ ... ]",
    "dict_type": "must be a table: { ... }",
    "model_type": "must be a table: { ... }",
    "model_attributes_type": "must be a table: { ... }",
    "too_short": "must not be empty",
}
# What a text must match, by the pattern.
PATTERNS = {
    r"^wss?://": "must begin with wss:// or ws://",
    r"^https?://": "must begin with https:// or http://",
}
# Other systems' names of the encodings.
ENCODINGS = {
    **dict.fromkeys(("ulaw", "mu-law", "mu_law", "pcmu", "audio/pcmu", "g711_ulaw", "ulaw_8000"), "mulaw"),
    **dict.fromkeys(("a-law", "pcma", "audio/pcma", "g711_alaw"), "alaw"),
    **dict.fromkeys(("pcm", "linear16", "s16le", "pcm_s16le", "l16", "audio/pcm"), "pcm16"),
}


def read_description(content: object) -> tuple[Description | None, list[TableProblem]]:
    """Return the agent of a table, or None and all problems."""
    if not isinstance(content, dict):
        return None, [((), WORDS["model_type"])]
    return read_checked(Description, content, _contradictions, {"url": "wss://h"})


def read_checked(
    kind: type[Kind],
    content: Mapping[str, Any],
    contradictions: Callable[[Kind], Iterable[Contradiction]],
    least: Mapping[str, Any],
) -> tuple[Kind | None, list[TableProblem]]:
    """
    Read a table by its model; None comes with all problems.

    Args:
        contradictions: Finds what is wrong in a table that the model takes.
        least: The keys that every table has, each with a good value.
    """
    described, problems = read_model(kind, content)
    if described is not None:
        problems = [(place, text) for place, text, _ in contradictions(described)]
        return (None if problems else described), problems
    # What is right beside a wrong key can still contradict itself.
    wrong = {str(place[0]) for place, _ in problems if place}
    for rest in (
        _without(content, [place for place, _ in problems]),
        {key: value for key, value in content.items() if key not in wrong},
    ):
        described, _ = read_model(kind, {**least, **rest})
        if described is not None:
            found = contradictions(described)
            return None, [*problems, *((place, text) for place, text, keys in found if not keys & wrong)]
    return None, problems


def _without(content: Mapping[str, Any], places: Iterable[tuple[str | int, ...]]) -> dict[str, Any]:
    """A copy of a table without the keys at these places, those of tables within it too."""
    rest = dict(content)
    for place in places:
        table: Any = rest
        for key in place[:-1]:
            within = table.get(key)
            table[key] = dict(within) if isinstance(within, dict) else {}
            table = table[key]
        if place:
            table.pop(place[-1], None)
    return rest


def read_model(kind: type[Kind], content: Mapping[str, Any]) -> tuple[Kind | None, list[TableProblem]]:
    """Read a table by its model; None comes with what the model refuses, in words."""
    try:
        return kind.model_validate(content), []
    except ValidationError as error:
        items = error.errors(include_url=False)
        return None, [(_place(item), _words(kind, item)) for item in items]


def _place(item: ErrorDetails) -> tuple[str | int, ...]:
    return tuple(key for key in item["loc"] if key != "[key]")


def _words(root: type[BaseModel], item: ErrorDetails) -> str:
    kind, context, given = item["type"], item.get("ctx", {}), item["input"]
    # A table that contradicts itself has no place within.
    key = str(item["loc"][-1]) if item["loc"] else ""
    field = _model_at(root, item["loc"]).model_fields.get(key)
    match kind:
        case "extra_forbidden":
            return _unknown_key(root, item["loc"])
        case "missing":
            return f"is missing: {field.description}" if field and field.description else "is missing"
        case "value_error":
            return str(context["error"])
        case "string_pattern_mismatch":
            return PATTERNS.get(context["pattern"], f"must match {context['pattern']}")
        case "literal_error":
            near = _nearest(given, context["expected"]) if isinstance(given, str) else ""
            return f"must be {context['expected']}{near}"
        case "multiple_of":
            return f"must be a multiple of {context['multiple_of']:g}"
    return number_words(kind, context) or WORDS.get(kind, item["msg"])


def _nearest(given: str, expected: str) -> str:
    known = [text.strip("'") for text in expected.replace(" or ", ", ").split(", ")]
    near = ENCODINGS.get(given.lower())
    found = [near] if near in known else difflib.get_close_matches(given, known, n=1)
    return f"; did you mean {found[0]!r}?" if found and len(known) > 1 else ""


def _unknown_key(root: type[BaseModel], place: tuple[str | int, ...]) -> str:
    known = [field.alias or name for name, field in _model_at(root, place).model_fields.items()]
    near = difflib.get_close_matches(str(place[-1]), known, n=1)
    return (
        f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known: {', '.join(sorted(known))}"
    )


def _model_at(root: type[BaseModel], place: tuple[str | int, ...]) -> type[BaseModel]:
    """The model of the table in which a key is wrong or missing."""
    model = root
    for key in place[:-1]:
        field = model.model_fields.get(str(key))
        models = list(_models_in(field.annotation)) if field is not None else []
        model = models[0] if models else model
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


# What contradicts itself


def _contradictions(described: Description) -> Iterator[Contradiction]:
    yield from _of_audio(described)
    yield from _of_formats(described)
    yield from _of_ids(described)
    yield from _of_keys(described)
    replied = described.session.names if described.session is not None else frozenset[str]()
    yield from unknown_in(described.placed_texts, replied)
    if described.url.startswith("{") and not described.is_url_of_reply:
        yield ("url",), "must begin with wss:// or ws://, or be one placeholder, e.g. {session.url}", {"url"}


def _of_audio(described: Description) -> Iterator[Contradiction]:
    keys = {"binary", "to_agent", "from_agent"}
    for is_binary, is_there, key, needed in (
        (
            described.is_binary_to_agent,
            bool(described.to_agent),
            "to_agent",
            "the message with one frame to the agent, with {audio} in it once",
        ),
        (
            described.is_binary_from_agent,
            described.from_agent is not None,
            "from_agent",
            "the place of the base64 text in the agent's messages, e.g. { path = 'audio', equal = { type = 'audio' } }",
        ),
    ):
        if is_binary and is_there:
            yield (key,), f"must not be there with binary = {_toml(described.binary)}", keys
        elif not is_binary and not is_there:
            yield (key,), f"is missing: {needed}; or binary = true", keys
    count = described.to_agent.count(AUDIO_HERE)
    if described.to_agent and count != 1:
        yield (
            ("to_agent",),
            f"must have {{audio}} in it once, where the base64 text stands; it has it {count} times",
            keys,
        )
    if described.json_in_binary and described.is_binary_from_agent:
        yield ("json_in_binary",), "contradicts binary: a binary message has either JSON or audio", keys


def _toml(value: bool | str) -> str:
    return repr(value) if isinstance(value, str) else str(value).lower()


def _of_formats(described: Description) -> Iterator[Contradiction]:
    ways = [
        ("to_agent", described.to_agent_encoding, described.to_agent_rate, described.to_agent_format),
        ("from_agent", described.from_agent_encoding, described.from_agent_rate, described.from_agent_format),
    ]
    named = set()
    for way, encoding, rate, found in ways:
        if found.encoding != "pcm16" and found.sample_rate_hz != 8000:
            key = f"{way}_rate" if rate else f"{way}_encoding" if encoding else "sample_rate"
            keys = {"encoding", "sample_rate", f"{way}_rate", f"{way}_encoding"}
            if key not in named:
                yield (key,), f"{found.encoding} has a rate of 8000; others need encoding = 'pcm16'", keys
            named.add(key)


def _of_ids(described: Description) -> Iterator[Contradiction]:
    place = described.from_agent
    if place is None:
        for key in described.ids:
            yield (key,), "needs from_agent: it is read from the messages with audio", {key, "from_agent"}
        return
    valued = [path for shape in (place.equal, place.absent_or_equal) for path in shape if shape[path].values]
    places = [place.path, *valued, *dict.fromkeys(described.ids.values())]
    for n, path in enumerate(places):
        for other in places[:n]:
            if path == other:
                yield ("from_agent",), f"{path.text} is used twice", {"from_agent", *described.ids}
            elif _is_within(path, other) or _is_within(other, path):
                words = f"{path.text} and {other.text} cannot both be used: one is in the other"
                yield ("from_agent",), words, {"from_agent", *described.ids}


def _is_within(one: Path, other: Path) -> bool:
    return len(one.steps) > len(other.steps) and one.steps[: len(other.steps)] == other.steps


def _of_keys(described: Description) -> Iterator[Contradiction]:
    if described.dtmf and described.keys:
        yield ("keys",), "must not be there with dtmf: keys are sent one by one or together", {"dtmf", "keys"}
    if described.on_ready and described.ready is None:
        yield ("on_ready",), "needs ready; without it use first", {"on_ready", "ready"}
    if described.item is not None and not described.heard:
        yield ("item",), "needs heard, the message that names it", {"item", "heard"}
    reports = ("error", "trouble", "warning")
    if described.error_text is not None and not any(getattr(described, key) for key in reports):
        yield ("error_text",), "needs error, trouble or warning", {"error_text", *reports}
    if described.error_kinds and not (described.error or described.trouble):
        yield ("error_kinds",), "needs error or trouble", {"error_kinds", *reports}


def unknown_in(texts: Iterable[Text], replied: frozenset[str]) -> Iterator[Contradiction]:
    """
    Placeholders that mean nothing.

    Args:
        replied: The names that the reply of the table's session fills.
    """
    for key, template, known in texts:
        place = tuple(int(part) if part.isdecimal() else part for part in key.split(".", 2))
        # Which of a session's values there are is not known while that is wrong.
        is_of_session = any(name.startswith("session.") for name in names_in([template]))
        about = {"session"} if is_of_session else set[str]()
        wanted = known if replied else known - {"session."}
        yield from ((place, text, about) for text in unknown_names([template], wanted))
        yield from ((place, text, about) for text in _unreplied(template, replied, known))


def _unreplied(template: str, replied: frozenset[str], known: frozenset[str]) -> Iterator[str]:
    if not replied or "session." not in known:
        return
    for name in sorted(names_in([template])):
        if name.startswith("session.") and name not in replied:
            available = ", ".join(f"{{{one}}}" for one in sorted(replied))
            yield f"unknown placeholder {{{name}}}; session.reply has {available}"
