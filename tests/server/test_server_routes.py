"""Routes in whole calls: the log names them, and their words are heard where no agent is left."""

from __future__ import annotations

from xml.etree import ElementTree

from live import until

ROUTES = """
[[route]]
name = "sales"
to = "+14155550100"
agents = ["retell"]
fallback = "say:Leider ist niemand da."
language = "de-DE"

[[route]]
name = "support"
to = "+14155550101"
hours = ["Mon-Sun 00:00-24:00"]
time_zone = "Europe/Berlin"
agents = ["echo"]
"""


async def test_log_of_a_call_names_its_route_from_its_first_to_its_last_line(live_server, tmp_path, logs):
    (tmp_path / "routes.toml").write_text(ROUTES)
    live = await live_server(BRIDGE_ROUTES_FILE=tmp_path / "routes.toml", BRIDGE_AGENT="echo")
    numbers = {"sales": "+14155550100", "support": "+14155550101", "default": "+14155550102"}
    for name, called in numbers.items():
        async with live.answered(called=called) as caller:
            await caller.open_stream()
            bridged = f"call_sid='{caller.call_sid}'"
            await until(lambda: [line for line in logs.lines if "call bridged" in line and bridged in line])  # noqa: B023
            call_sid = caller.call_sid
        await until(lambda: [line for line in logs.lines if "call ended" in line and call_sid in line])  # noqa: B023
        lines = [line for line in logs.lines if call_sid in line]
        assert [
            f"route='{name}'" in line for line in lines if "call bridged" in line or "call ended" in line
        ] == [
            True,
            True,
        ]


async def test_caller_whose_agent_is_lost_hears_the_words_of_the_route(live_server, tmp_path, logs):
    (tmp_path / "routes.toml").write_text(ROUTES)
    live = await live_server(BRIDGE_ROUTES_FILE=tmp_path / "routes.toml", BRIDGE_AGENT="echo")
    async with live.bridged() as (caller, session):
        live.refuse_sessions()
        session.abort()
        await caller.closed.wait()
        answer = await caller.follow_redirect()
        say = ElementTree.fromstring(answer.body).find("Say")
        assert (say.text, say.get("language")) == ("Leider ist niemand da.", "de-DE")
