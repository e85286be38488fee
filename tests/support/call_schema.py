"""The published schema of a call's record as the judge of documents."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

SCHEMA = Path(__file__).parents[2] / "docs" / "call-record.schema.json"


@cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(_closed(schema))


def _closed(schema: Any) -> Any:
    """The schema without room for fields that a later release may add: the bridge writes what is described."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(one) for name, one in schema.items()}
    if "required" in schema and "properties" in schema:
        closed["additionalProperties"] = False
    return closed


def problems(document: dict[str, Any]) -> list[str]:
    """What the schema objects to; nothing for a document that fits."""
    return [f"{error.json_path}: {error.message}" for error in _validator().iter_errors(document)]
