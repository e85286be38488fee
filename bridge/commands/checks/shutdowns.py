"""
Models that their vendors shut down.

Sources: the types of openai 3.57.0 (2027-01-20), and OpenAI's page of deprecations (the previews).
"""

from __future__ import annotations

import datetime
from typing import NamedTuple


class Shutdown(NamedTuple):
    """The day from which on a model does not answer, and the vendor's replacement."""

    day: datetime.date
    replacement: str


LEGACY_DAY = datetime.date(2027, 1, 20)
PREVIEW_DAY = datetime.date(2026, 5, 7)

SHUTDOWNS = {
    "gpt-realtime": Shutdown(LEGACY_DAY, "gpt-realtime-2.1"),
    "gpt-realtime-2025-08-28": Shutdown(LEGACY_DAY, "gpt-realtime-2.1"),
    "gpt-realtime-mini": Shutdown(LEGACY_DAY, "gpt-realtime-2.1-mini"),
    "gpt-realtime-mini-2025-12-15": Shutdown(LEGACY_DAY, "gpt-realtime-2.1-mini"),
    "gpt-4o-realtime-preview": Shutdown(PREVIEW_DAY, "gpt-realtime-2.1"),
    "gpt-4o-mini-realtime-preview": Shutdown(PREVIEW_DAY, "gpt-realtime-2.1-mini"),
}
