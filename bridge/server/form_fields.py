"""The fields of a posted form, and the shapes of Twilio's IDs in them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

from multidict import MultiDict

FORM_FIELDS_MAX = 500
CALL_SID = re.compile(r"CA[0-9a-f]{32}")
ACCOUNT_SID = re.compile(r"AC[0-9a-f]{32}")


def fields_of(body: bytes) -> MultiDict[str]:
    """
    Read a form, with empty and repeated fields.

    Raises:
        ValueError: It is none, or has more than `FORM_FIELDS_MAX` fields.
    """
    pairs = parse_qsl(
        body.decode("ascii"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX, errors="strict"
    )
    return MultiDict(pairs)
