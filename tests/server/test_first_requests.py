"""Wrong set-ups that settings cannot show are named by the log line of the first request, which says what to change."""

from __future__ import annotations

import contextlib

import pytest
from certificates import Tls
from live import AUTH_TOKEN, serving, until
from structlog.testing import capture_logs
from user_side import SECRET
from wrong_requests import BY_NAME
from wrong_senders import OTHER_TOKEN, answer_webhook

from bridge.server import refusals
from bridge.server.refusal_hints import NOT_HTTP, OF_START

TIMES = 3


@pytest.mark.parametrize("row", BY_NAME.values(), ids=BY_NAME)
async def test_first_request_is_one_line_that_says_what_to_change(monkeypatch, tmp_path, row):
    for name in ("LINE_EVERY_S", "SCANNERS_LINE_EVERY_S"):
        monkeypatch.setattr(refusals, name, 3600.0)
    async with contextlib.AsyncExitStack() as stack:
        settings = {"BRIDGE_WEBHOOK_SECRET": SECRET, **row.settings}
        if row.answer is not None:
            settings["BRIDGE_ANSWER_URL"] = await stack.enter_async_context(answer_webhook(**row.answer))
        tls = Tls(tmp_path) if row.has_tls else None
        live = await stack.enter_async_context(serving(tls=tls, limits=row.limits, **settings))
        lines = stack.enter_context(capture_logs())
        for _ in range(1 if row.is_of_a_call else TIMES):
            await row.send(live)

        def mine() -> list[dict[str, object]]:
            return [line for line in lines if line["event"] == row.event]

        await until(mine)
        [line] = mine()
        assert row.reason in str(line.get("reason") or line.get("kind"))
        assert row.todo in line["hint"]
        assert line["log_level"] == "warning"
        assert not [text for text in (AUTH_TOKEN, OTHER_TOKEN, SECRET) if text in str(lines)]


def test_each_hint_has_a_set_up():
    reasons = {row.reason for row in BY_NAME.values()}
    assert reasons >= NOT_HTTP.keys()
    # Agents are removed by a reload, after the start.
    assert OF_START.keys() - reasons == {"agent"}


def test_table_and_that_of_the_start_have_at_least_forty_set_ups_each():
    assert len(BY_NAME) >= 40
