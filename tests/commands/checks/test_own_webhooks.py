"""The user's own webhooks, as `bridge check` finds them."""

from __future__ import annotations

import pytest
from check_setup import rest, start
from haproxy import free_port

__all__ = ["rest", "start"]

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CASES = pytest.mark.parametrize(
    ("subject", "names", "meanwhile"),
    [
        ("answer webhook", ("BRIDGE_ANSWER_URL", "BRIDGE_WEBHOOK_SECRET"), "the routes decide"),
        ("events webhook", ("BRIDGE_EVENTS_URL", "BRIDGE_EVENTS_SECRET"), "events wait in the store"),
    ],
)


@CASES
async def test_webhook_that_nobody_serves(start, subject, names, meanwhile):
    setup = await start()
    url = f"http://127.0.0.1:{free_port()}/webhook"
    (line,) = await setup.faults(**dict(zip(names, (url, SECRET), strict=True)))
    assert line.startswith(f"warning  {subject}: 127.0.0.1:")
    assert f"refuses connections, and {meanwhile}" in line


@CASES
async def test_webhook_that_is_there_can_be_reached(start, subject, names, meanwhile):
    setup = await start()
    url = f"{setup.live.url}/webhook"
    found = await setup.check(**dict(zip(names, (url, SECRET), strict=True)))
    (line,) = [str(finding) for finding in found if finding.subject == subject]
    assert line == f"ok       {subject}: can be reached"
