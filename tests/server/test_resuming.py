"""What /voice/resume answers, at each of two processes with one store."""

from __future__ import annotations

import asyncio
from xml.etree import ElementTree

import pytest
from call_script import LIMITS, RecordingAgent, RecordingCaller, RecordingChain
from webhook_bench import CALL, FALLBACK, SETTINGS, STREAM, Bench, parameters_of, verbs

from bridge.agents.sessions import Session
from bridge.call.ends import Outcome, Why
from bridge.call.state import Call, State
from bridge.http.messages import Response
from bridge.server import resuming
from bridge.server.registry import Phase
from bridge.server.store.memory import MemoryStore
from bridge.server.store.store import Kept, StoreError
from bridge.twilio.tokens import MediaToken, ResumeState

HANGUP = ["Hangup"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def pair(store) -> tuple[Bench, Bench]:
    return Bench(store), Bench(store)


def token_of(bench: Bench, response: Response) -> MediaToken:
    assert verbs(response) == STREAM
    return bench.tokens.open_media(parameters_of(response))


def state_of(response: Response) -> str:
    """The state in the Redirect behind a stream."""
    return ElementTree.fromstring(response.body).find("Redirect").text.partition("?s=")[2].partition("#")[0]


async def live_at(bench: Bench, response: Response) -> Call:
    """The media socket of an answer opens at a process, where its agent is open too."""
    token = token_of(bench, response)
    call = Call(LIMITS, bench, 0.0)
    call.attach(RecordingCaller([]))
    call.call_sid = token.call_sid
    session = Session.of(token.session)
    assert bench.calls.claim(CALL, token.media_id, session, call, token.attempt) is None
    answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    bench.agreement.claim(CALL, token.attempt, token.media_id, answer.set_result)
    assert await answer is None
    call.on_start(RecordingChain([RecordingAgent([])]), 0.0)
    call.on_agent_open(0.0)
    return call


async def over(bench: Bench, outcome: Outcome, **more: str) -> None:
    bench.calls.finish(CALL, outcome, 0.0, **more)
    await bench.agreement.settled()


async def test_live_call_of_this_process_keeps_its_agent_for_the_new_stream():
    bench = Bench()
    first = await bench.voice()
    call = await live_at(bench, first)
    token = token_of(bench, await bench.resume(state=state_of(first)))
    assert (token.attempt, token.is_successor) == (1, True)
    assert token.session == {"agents": ["fake"], "credentials": {}, "values": {}, "route": "fake"}
    assert call.state is State.BRIDGED
    assert bench.announced == [(token.media_id, bench.agreement.owner)]
    assert len(bench.asked) == 1
    # The call is still the one of the first stream.
    assert bench.calls.find(CALL).phase is Phase.LIVE
    assert bench.calls.former(CALL, 1) is call


async def test_live_call_of_another_process_gets_a_stream_that_is_led_there(pair):
    a, b = pair
    first = await a.voice()
    call = await live_at(a, first)
    token = token_of(b, await b.resume(state=state_of(first)))
    assert (token.attempt, token.is_successor, token.session["credentials"]) == (1, True, {})
    assert b.announced == [(token.media_id, a.agreement.owner)]
    assert (len(a.asked), len(b.asked)) == (1, 0)
    assert a.calls.former(CALL, 1) is call


async def test_node_of_the_kept_agent_stays_in_the_path(store):
    a, b = Bench(store, BRIDGE_NODE="a"), Bench(store, BRIDGE_NODE="b")
    first = await a.voice()
    call = await live_at(a, first)
    second = await b.resume(state=state_of(first))
    assert token_of(b, second).media_id.startswith("a-")
    call.end(Why.CALLER_LOST, 1.0)
    await a.agreement.settled()
    await live_at(b, second)
    await over(b, Outcome.CALLER_LOST)
    assert token_of(b, await b.resume(state=state_of(second))).media_id.startswith("b-")


@pytest.mark.parametrize("outcome", [Outcome.CALLER_LOST, Outcome.HANDED_OVER])
async def test_call_that_was_lost_or_handed_over_gets_a_stream_anywhere(pair, outcome):
    a, b = pair
    first = await a.voice()
    await live_at(a, first)
    await over(a, outcome)
    token = token_of(b, await b.resume(state=state_of(first)))
    assert (token.attempt, token.is_successor) == (1, True)
    assert b.announced == []


@pytest.mark.parametrize(
    ("outcome", "wanted"),
    [
        (Outcome.ENDED, HANGUP),
        (Outcome.TRANSFERRED, ["Dial", "Hangup"]),
        (Outcome.AGENT_LOST, FALLBACK),
    ],
)
async def test_other_ends_are_the_same_anywhere(pair, outcome, wanted):
    a, b = pair
    first = await a.voice()
    await live_at(a, first)
    await over(a, outcome, transfer_to="+14155550100")
    for bench in (a, b):
        assert verbs(await bench.resume(state=state_of(first))) == wanted


async def test_dialled_agent_after_the_socket_is_dialled_by_any_process(pair):
    a, b = pair
    for bench in pair:
        bench.sessions.names = ("media", "sip")
        bench.sessions.dialled = {"sip"}
    first = await a.voice()
    await live_at(a, first)
    await over(a, Outcome.AGENT_LOST)
    dial = await b.resume(state=state_of(first))
    assert verbs(dial) == ["Dial"]
    # Twilio asks again, elsewhere.
    assert (await a.resume(state=state_of(first))).body == dial.body


async def test_asked_again_it_answers_the_same_stream_anywhere(pair):
    a, b = pair
    first = await a.voice()
    await live_at(a, first)
    answers = [await bench.resume(state=state_of(first)) for bench in (b, a, b)]
    assert len({token_of(a, answer).media_id for answer in answers}) == 1
    assert {a.tokens.open_resume(state_of(answer)).attempt for answer in answers} == {1}


async def test_asked_in_parallel_it_answers_one_stream(store):
    benches = [Bench(store) for _ in range(4)]
    first = await benches[0].voice()
    await live_at(benches[0], first)
    answers = await asyncio.gather(
        *(bench.resume(state=state_of(first)) for bench in benches for _ in range(25))
    )
    assert len({token_of(benches[0], answer).media_id for answer in answers}) == 1


async def test_third_stream_within_ten_minutes_is_the_fallback_and_a_later_one_is_not(pair, monkeypatch):
    now = 1_000_000.0
    monkeypatch.setattr(resuming.time, "time", lambda: now)
    a, b = pair
    answer = await a.voice()
    for n, waited_s in enumerate((0, 500, 101, 400, 101)):
        await live_at(b, answer)
        await over(b, Outcome.CALLER_LOST)
        now += waited_s
        asked = await a.resume(state=state_of(answer))
        # At 0, 500, 601, 1001 and 1101, 1202: each looks back over ten minutes.
        if n == 3:
            assert verbs(asked) == FALLBACK
            assert a.refused("too_many_streams") == 1
            now += 100
            asked = await a.resume(state=state_of(answer))
        answer = asked
        assert verbs(answer) == STREAM


async def test_hand_overs_do_not_count(pair):
    a, b = pair
    answer = await a.voice()
    for _ in range(5):
        await live_at(a, answer)
        await over(a, Outcome.HANDED_OVER)
        answer = await b.resume(state=state_of(answer))
    assert b.tokens.open_resume(state_of(answer)).reattached_at == []


async def test_late_request_of_an_earlier_stream_does_not_touch_the_new_one():
    bench = Bench()
    first = await bench.voice()
    await live_at(bench, first)
    await over(bench, Outcome.CALLER_LOST)
    second = await bench.resume(state=state_of(first))
    call = await live_at(bench, second)
    assert token_of(bench, await bench.resume(state=state_of(first))).attempt == 1
    assert (call.why, call._grace_until) == (None, None)


async def test_draining_process_answers_a_stream_only_if_another_one_is_there():
    bench = Bench()
    first = await bench.voice()
    await live_at(bench, first)
    bench.calls.stop_admitting()
    assert verbs(await bench.resume(state=state_of(first))) == FALLBACK
    bench.has_other = True
    assert verbs(await bench.resume(state=state_of(first))) == STREAM


async def test_draining_process_finds_the_next_agent_only_if_another_one_is_there():
    bench = Bench()
    bench.sessions.names = ("media", "sip")
    bench.sessions.dialled = {"sip"}
    first = await bench.voice()
    await live_at(bench, first)
    await over(bench, Outcome.AGENT_LOST)
    bench.calls.stop_admitting()
    assert verbs(await bench.resume(state=state_of(first))) == FALLBACK
    bench.has_other = True
    assert verbs(await bench.resume(state=state_of(first))) == ["Dial"]


async def test_new_stream_is_answered_and_taken_by_a_full_process(store):
    a, b = Bench(store), Bench(store, BRIDGE_MAX_CALLS="1")
    first = await a.voice()
    await live_at(a, first)
    await b.go_live("CA" + "7" * 32)
    second = await b.resume(state=state_of(first))
    await live_at(b, second)
    assert b.calls.live == 2


# Without the store, or without its memory


class Broken(MemoryStore):
    async def read(self, key: str) -> Kept | None:
        raise StoreError("no")


async def test_without_the_store_a_call_gets_a_stream_anywhere():
    a, b = Bench(), Bench(Broken())
    first = await a.voice()
    token = token_of(b, await b.resume(state=state_of(first)))
    assert (token.attempt, token.is_successor, token.session["agents"]) == (1, True, ["fake"])


async def test_call_that_a_store_does_not_know_gets_the_fallback():
    a, b = Bench(), Bench()
    first = await a.voice()
    assert verbs(await b.resume(state=state_of(first))) == FALLBACK


async def test_state_of_the_former_version_leads_to_the_chain_of_today(pair):
    a, b = pair
    await live_at(a, await a.voice())
    b.sessions.names = ("today",)
    text = b.tokens.seal_resume(ResumeState(CALL, 0, 0, []))
    assert token_of(b, await b.resume(state=text)).session["agents"] == ["today"]


async def test_fault_is_the_fallback(monkeypatch, logs):
    bench = Bench()
    first = await bench.voice()
    await live_at(bench, first)

    async def fail(*_: object) -> None:
        raise KeyError("an internal fault")

    monkeypatch.setattr(bench.agreement, "readmit", fail)
    assert verbs(await bench.resume(state=state_of(first))) == FALLBACK
    assert len(logs.faults()) == 1
    logs.records.clear()
