"""What the user's own webhook answers about a call: who takes it, and with which values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from bridge.agents.json_dialogue import worded
from bridge.agents.sessions import VALUES_BYTES
from bridge.agents.setting_types import E164, NOT_XML

# Each agent may take half of the time that is left for a session.
AGENTS_MOST = 8
VALUES_MOST = 64
VALUE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Source: Twilio, <Say>.
SAY_CHARS = 4096
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}")
# Source: Twilio, error 13251: below 255 characters, and below 1024 for the headers behind "?".
SIP_ADDRESS = re.compile(r"sips?:[!#-;=?-~]{1,128}@[A-Za-z0-9.-]{1,120}(:[0-9]{1,5})?(;[!#-;=@-~]+)?")
SIP_ADDRESS_CHARS = 254
SIP_HEADERS = re.compile(r"[!#-;=?-~]{1,1023}")
REJECTIONS = ("busy", "rejected")
# Of fields without effect, in a line of the log.
NAMED_MOST = 5


class BadAnswer(Exception):
    """
    The answer counts for nothing.

    Attributes:
        kind: A label of ``bridge_answers_total``.
    """

    def __init__(self, kind: str, problem: str) -> None:
        super().__init__(problem)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Answer:
    """
    Who takes a call. At most one of ``reject``, ``dial``, ``say`` and ``agents`` is set; without any the routes decide.

    Attributes:
        agents: Names in the order in which they are tried.
        values: Texts for ``{value.NAME}``, by name.
        dial: A phone number or a SIP address.
        say: Is said to the caller before the end of the call.
        language: Of ``say``; empty for Twilio's default.
        reject: The reason that the caller's network gets: ``busy`` or ``rejected``.
    """

    agents: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    dial: str = ""
    say: str = ""
    language: str = ""
    reject: str = ""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Answer:
        """
        The answer that ``dataclasses.asdict`` made these fields of, also after a way through JSON.

        Fields that another version has added are ignored.
        """
        answer = cls(**{name: fields[name] for name in cls.__slots__ if name in fields})
        return replace(answer, agents=tuple(answer.agents))


def read_answer(body: bytes, is_known: Callable[[str], bool]) -> tuple[Answer, list[str]]:
    """
    Read an answer. An empty body leaves the call to the routes.

    Args:
        is_known: Whether an agent of this name can be asked.

    Returns:
        The answer, and the names of the fields that have no effect: unknown ones, and those that contradict another.

    Raises:
        BadAnswer: A field is wrong, or an agent is unknown.
    """
    if not body.strip():
        return Answer(), []
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadAnswer("not_json", "is not JSON") from None
    if not isinstance(found, dict):
        raise BadAnswer("wrong", "must be an object")
    # What is null is as good as left out.
    given = {name: value for name, value in found.items() if value is not None}
    read = {name: reader(given[name]) for name, reader in _READERS.items() if name in given}
    verdicts = [name for name in ("reject", "dial", "say", "agents") if read.get(name)]
    used = {*verdicts[:1], "values"} | ({"language"} if verdicts[:1] == ["say"] else set())
    answer = Answer(**{name: value for name, value in read.items() if name in used})
    if unknown := [name for name in answer.agents if not is_known(name)]:
        raise BadAnswer("unknown_agent", f"agents: unknown agent {worded(unknown[0])}")
    idle = [name for name in given if name not in _READERS or (read.get(name) and name not in used)]
    return answer, [worded(name) for name in idle[:NAMED_MOST]]


def _agents(value: Any) -> tuple[str, ...]:
    is_list = isinstance(value, list) and 1 <= len(value) <= AGENTS_MOST
    if not is_list or not all(isinstance(name, str) for name in value):
        raise BadAnswer("wrong", f"agents: must be a list of 1 to {AGENTS_MOST} names")
    return tuple(value)


def _values(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > VALUES_MOST:
        raise BadAnswer("wrong", f"values: must be an object of at most {VALUES_MOST} values")
    texts: dict[str, str] = {}
    for name, one in value.items():
        if not VALUE_NAME.fullmatch(name):
            raise BadAnswer(
                "wrong", f"values: {worded(name)} must be a name of at most 64 letters, digits, - and _"
            )
        if isinstance(one, str):
            texts[name] = one
        elif isinstance(one, bool | int | float):
            texts[name] = orjson.dumps(one).decode()
        elif one is not None:
            raise BadAnswer("wrong", f"values.{name}: must be a text, a number, true or false")
    if sum(len(orjson.dumps({f"value.{name}": text})) for name, text in texts.items()) > VALUES_BYTES:
        raise BadAnswer("wrong", f"values: must have at most {VALUES_BYTES} bytes together, as JSON")
    return texts


def _dial(value: Any) -> str:
    if not isinstance(value, str) or not (E164.fullmatch(value) or _is_sip(value)):
        raise BadAnswer(
            "wrong", "dial: must be a number such as +14155550100, or an address such as sip:me@example.com"
        )
    return value


def _is_sip(text: str) -> bool:
    address, mark, headers = text.partition("?")
    return (
        len(address) <= SIP_ADDRESS_CHARS
        and bool(SIP_ADDRESS.fullmatch(address))
        and (not mark or bool(SIP_HEADERS.fullmatch(headers)))
    )


def _say(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > SAY_CHARS or NOT_XML.search(value):
        raise BadAnswer(
            "wrong", f"say: must be a text of at most {SAY_CHARS} characters, without control characters"
        )
    return value


def _language(value: Any) -> str:
    if not isinstance(value, str) or not LANGUAGE.fullmatch(value):
        raise BadAnswer("wrong", "language: must be a language such as de-DE")
    return value


def _reject(value: Any) -> str:
    if isinstance(value, bool):
        return "rejected" if value else ""
    if value not in REJECTIONS:
        raise BadAnswer("wrong", "reject: must be true, false, busy or rejected")
    return str(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "agents": _agents,
    "values": _values,
    "dial": _dial,
    "say": _say,
    "language": _language,
    "reject": _reject,
}
