"""A TLS transport that is resumed delivers what it has read already, and the start-up test notices if not."""

from __future__ import annotations

import asyncio

import pytest

from _codec import resume


async def test_self_test_passes_with_the_installed_aiofastnet():
    await resume.self_test()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_self_test_fails_where_the_transport_forgets_what_it_has_read(monkeypatch):
    monkeypatch.setattr(resume, "resume_reading", lambda transport: transport.resume_reading())
    monkeypatch.setattr(resume, "_TEST_S", 0.2)
    with pytest.raises(RuntimeError, match="does not resume TLS"):
        await resume.self_test()


class Plain(asyncio.Transport):
    is_reading_now = False

    def resume_reading(self) -> None:
        self.is_reading_now = True


async def test_plain_transport_is_resumed_and_nothing_more():
    transport = Plain()
    resume.resume_reading(transport)
    assert transport.is_reading_now
