"""Settings that are JSON with placeholders, written as a text or kept in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, BeforeValidator

from bridge.agents.agent import CallInfo, Resources
from bridge.agents.setting_types import TemplateText
from bridge.agents.template import fill_json
from bridge.agents.toml_file import where_it_begins


def filled(template: str, resources: Resources, call: CallInfo) -> Any:
    """
    The value of a setting for one call; an empty setting is an empty object.

    A value of the call can add nothing but its own characters.
    """
    if not template:
        return {}
    return orjson.loads(fill_json(template, {**resources.values, **call.placeholders}.get))


def unfilled(template: str) -> Any:
    """
    The value of a setting with an empty text for each placeholder, for checks at start.

    Raises:
        ValueError: It is not JSON, or so deep that it cannot be written again.
    """
    try:
        value = orjson.loads(fill_json(template, lambda name: ""))
        # As deep as it is within a message.
        orjson.dumps([[value]])
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    except orjson.JSONEncodeError as error:
        raise ValueError(f"cannot be written as JSON: {error}") from None
    return value


def _object(template: str) -> str:
    if not isinstance(unfilled(template), dict):
        raise ValueError("must hold a JSON object")
    return template


def _content(path: Any) -> Any:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        # Without the path, which may be a secret in the wrong variable.
        raise ValueError(f"must be a JSON file: {error.strerror}{where_it_begins(path)}") from None
    except UnicodeDecodeError:
        raise ValueError("must be a file of UTF-8 text") from None


# A JSON object.
JsonObject = Annotated[TemplateText, AfterValidator(_object)]
# The variable names a file; the setting is its content, any JSON value that `unfilled` takes.
JsonFile = Annotated[TemplateText, BeforeValidator(_content)]
# Likewise, and a JSON object.
JsonObjectFile = Annotated[JsonFile, AfterValidator(_object)]
