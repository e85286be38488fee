"""Admissions: the route of a call goes with it, whatever the clock and the other routes say later."""

from xml.etree import ElementTree

import pytest
from webhook_bench import CALL, RINGING, SETTINGS, STREAM, Bench, parameters_of, twilio, verbs

from bridge.agents.agent import SessionError
from bridge.agents.routing import Route
from bridge.call.ends import Outcome
from bridge.http.messages import Response

DAY = Route(name="day", agents=["media"], fallback="say:Guten Tag", language="de-DE", caller_id="+4930123456")
NIGHT = Route(name="night", agents=["sip"], fallback="dial:+4930999999")
NOBODY = Route(name="nobody", agents=["media"])


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def bench() -> Bench:
    return bench_of(DAY)


def bench_of(fitting: Route) -> Bench:
    bench = Bench()
    bench.sessions.fitting = fitting
    bench.sessions.routes = {route.name: route for route in (DAY, NIGHT, NOBODY, fitting)}
    bench.sessions.dialled = {"sip"}
    return bench


async def ask(bench: Bench, path: str, query: str = "", **fields: str) -> Response:
    form = {**dict(RINGING), "To": "+14155550100", "CallStatus": "in-progress", **fields}
    handler = {
        "/voice": bench.webhooks.voice,
        "/voice/resume": bench.webhooks.resume,
        "/voice/dialled": bench.webhooks.dialled,
    }[path]
    return await handler(twilio(path, list(form.items()), query=query))


def query_of(response: Response) -> str:
    """The query of the URL that Twilio asks next."""
    root = ElementTree.fromstring(response.body)
    dial = root.find("Dial")
    url = dial.get("action") if dial is not None else root.findtext("Redirect")
    return url.partition("?")[2].partition("#")[0]


def say_of(response: Response) -> tuple[str | None, str | None]:
    say = ElementTree.fromstring(response.body).find("Say")
    return say.text, say.get("language")


async def test_fallback_is_that_of_the_route_in_its_language(bench):
    bench.calls.stop_admitting()
    assert say_of(await ask(bench, "/voice")) == ("Guten Tag", "de-DE")


async def test_route_without_a_fallback_has_the_operators():
    bench = bench_of(NOBODY)
    bench.calls.stop_admitting()
    assert say_of(await ask(bench, "/voice")) == ("Sorry", None)


async def test_fallback_that_dials_shows_the_number_of_the_route():
    bench = bench_of(DAY.model_copy(update={"fallback": "dial:+4930999999", "language": ""}))
    bench.calls.stop_admitting()
    (dial,) = ElementTree.fromstring((await ask(bench, "/voice")).body).iter("Dial")
    assert (dial.text, dial.get("callerId")) == ("+4930999999", "+4930123456")


async def test_announcement_is_that_of_the_route_in_its_language():
    bench = bench_of(DAY.model_copy(update={"announce": "Wir zeichnen auf."}))
    for _ in range(2):
        response = await ask(bench, "/voice")
        assert verbs(response) == ["Say", *STREAM]
        assert say_of(response) == ("Wir zeichnen auf.", "de-DE")


async def test_announcement_is_heard_once_and_by_everybody():
    bench = bench_of(DAY.model_copy(update={"announce": "Wir zeichnen auf.", "agents": ["sip", "media"]}))
    dialled = await ask(bench, "/voice")
    assert verbs(dialled) == ["Dial"]
    # Nobody answers, and the next agent has a media socket.
    first = await ask(bench, "/voice/dialled", query_of(dialled), DialCallStatus="busy")
    assert verbs(first) == ["Say", *STREAM]
    assert verbs(await ask(bench, "/voice/resume", query_of(first))) == STREAM


async def test_route_without_an_announcement_has_the_operators_in_its_language():
    bench = Bench(bridge_announce="We record.")
    bench.sessions.fitting = DAY
    bench.sessions.routes = {DAY.name: DAY}
    assert say_of(await ask(bench, "/voice")) == ("We record.", None)


async def test_language_of_an_announcement_is_not_that_of_the_operators_fallback():
    bench = bench_of(NOBODY.model_copy(update={"announce": "Moin.", "language": "de-DE"}))
    bench.calls.stop_admitting()
    assert say_of(await ask(bench, "/voice")) == ("Sorry", None)


async def test_token_and_state_carry_the_route(bench):
    response = await ask(bench, "/voice")
    assert verbs(response) == STREAM
    assert bench.tokens.open_media(parameters_of(response)).session["route"] == "day"
    assert bench.tokens.open_resume(query_of(response).removeprefix("s=")).route == "day"


async def test_call_has_its_fallback_also_when_its_hours_end_meanwhile(bench):
    query = query_of(await ask(bench, "/voice"))
    bench.sessions.fitting = NIGHT
    bench.calls.finish(CALL, Outcome.AGENT_LOST, 0.0)
    assert say_of(await ask(bench, "/voice/resume", query)) == ("Guten Tag", "de-DE")


async def test_call_has_its_fallback_also_at_another_process(bench):
    query = query_of(await ask(bench, "/voice"))
    other = bench_of(NIGHT)
    assert say_of(await ask(other, "/voice/resume", query)) == ("Guten Tag", "de-DE")


async def test_call_of_a_dialled_agent_has_its_fallback_too(bench):
    bench.sessions.fitting = DAY.model_copy(update={"agents": ["sip"]})
    query = query_of(await ask(bench, "/voice"))
    bench.sessions.fitting = NIGHT
    assert say_of(await ask(bench, "/voice/dialled", query, DialCallStatus="busy")) == ("Guten Tag", "de-DE")


async def test_new_stream_and_the_next_agent_keep_the_route(bench):
    bench.sessions.fitting = DAY.model_copy(update={"agents": ["media", "sip", "sip"]})
    first = await ask(bench, "/voice")
    bench.sessions.fitting = NIGHT
    again = await ask(bench, "/voice/resume", query_of(first))
    assert bench.tokens.open_media(parameters_of(again)).session["route"] == "day"
    bench.calls.finish(CALL, Outcome.AGENT_LOST, 0.0)
    dialled = await ask(bench, "/voice/resume", query_of(again))
    assert bench.tokens.open_resume(query_of(dialled).removeprefix("s=")).route == "day"


async def test_call_whose_route_a_reload_has_removed_has_the_one_that_fits(bench):
    query = query_of(await ask(bench, "/voice"))
    bench.sessions.routes.clear()
    bench.sessions.fitting = NOBODY
    bench.calls.finish(CALL, Outcome.AGENT_LOST, 0.0)
    assert say_of(await ask(bench, "/voice/resume", query)) == ("Sorry", None)


async def test_log_names_the_route_of_a_call_that_gets_the_fallback(bench, logs):
    def refuse() -> dict[str, str]:
        raise SessionError("status 500")

    bench.answer = refuse
    await ask(bench, "/voice")
    (line,) = [line for line in logs.lines if "call gets the fallback" in line]
    assert "route='day'" in line
