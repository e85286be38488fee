"""The user's webhook that says who takes a call: whether it can be reached. It is asked nothing."""

from __future__ import annotations

import ssl

from bridge.commands.checks.reach import reach
from bridge.commands.finding import Finding, ok, warning
from bridge.settings import Settings

SUBJECT = "answer webhook"


async def check_answer_webhook(settings: Settings, tls: ssl.SSLContext) -> list[Finding]:
    """Look at its name, port and certificate; without it the routes decide."""
    reached = await reach(settings.bridge_answer_url, tls)
    if reached.fault:
        return [warning(SUBJECT, f"{reached.fault}, and the routes decide", reached.todo)]
    return [ok(SUBJECT, "can be reached")]
