"""The user's own webhooks: whether they can be reached. They are asked nothing."""

from __future__ import annotations

import ssl

from bridge.commands.checks.reach import reach
from bridge.commands.finding import Finding, ok, warning

ANSWER = "answer webhook"
EVENTS = "events webhook"
# What happens as long as a webhook cannot be reached.
MEANWHILE = {ANSWER: "the routes decide", EVENTS: "events wait in the store, at most BRIDGE_KEEP_H"}


async def check_own_webhook(subject: str, url: str, tls: ssl.SSLContext) -> list[Finding]:
    """Look at the name, port and certificate of a webhook, which no call needs."""
    reached = await reach(url, tls)
    if reached.fault:
        return [warning(subject, f"{reached.fault}, and {MEANWHILE[subject]}", reached.todo)]
    return [ok(subject, "can be reached")]
