"""The user's answer webhook, as `bridge check` finds it."""

from __future__ import annotations

from check_setup import rest, start
from haproxy import free_port

from bridge.commands.checks.answer_webhook import SUBJECT

__all__ = ["rest", "start"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


async def test_answer_webhook_that_nobody_serves(start):
    setup = await start()
    url = f"http://127.0.0.1:{free_port()}/answer"
    (line,) = await setup.faults(BRIDGE_ANSWER_URL=url, BRIDGE_WEBHOOK_SECRET=SECRET)
    assert line.startswith("warning  answer webhook: 127.0.0.1:")
    assert "refuses connections, and the routes decide" in line


async def test_answer_webhook_that_is_there_can_be_reached(start):
    setup = await start()
    url = f"{setup.live.url}/answer"
    found = await setup.check(BRIDGE_ANSWER_URL=url, BRIDGE_WEBHOOK_SECRET=SECRET)
    (line,) = [str(finding) for finding in found if finding.subject == SUBJECT]
    assert line == "ok       answer webhook: can be reached"
