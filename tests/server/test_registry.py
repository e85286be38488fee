"""The registry of CallSids: each is admitted once, claimed once and remembered within bounds."""

import asyncio
from dataclasses import replace

import pytest
from call_script import LIMITS

from bridge.agents.agent import SessionError
from bridge.agents.sessions import Session
from bridge.call.ends import Outcome, Why
from bridge.call.state import Call
from bridge.server import registry as calls_module
from bridge.server.registry import Admission, Entry, Phase, Registry

SID = "CA" + "0" * 32
OTHER_SID = "CA" + "1" * 32
SESSION = Session(("agent",), {"call_id": "abc"})
CLAIM_S = 60.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Sessions:
    """An agent service whose answers the test releases."""

    def __init__(self) -> None:
        self.opened = 0
        self.cancelled = 0
        self.answer: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()

    async def open(self) -> Admission:
        self.opened += 1
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


class CallsObserver:
    """Reports a call's end to the registry, as the server does."""

    def __init__(self, calls: Registry, call_sid: str, record: Outcome) -> None:
        self.calls, self.call_sid, self.record = calls, call_sid, record

    def on_call_bridged(self, call: Call) -> None: ...
    def on_agent_replaced(self, call: Call, old: object, new: object, detail: str) -> None: ...
    def on_caller_kept(self, call: Call, kept: object, lost_s: float, detail: str) -> None: ...
    def on_twilio_asked(self, call: Call) -> None: ...
    def on_fault(self, call: Call, fault: Exception) -> None:
        raise fault

    def on_call_closed(self, call: Call) -> None:
        call.close_caller()
        self.calls.finish(self.call_sid, self.record, 0.0)


def make_call() -> Call:
    return Call(LIMITS, CallsObserver(Registry(1, 1), "", Outcome.ENDED), 0.0)


async def some_session() -> Admission:
    return Admission(SESSION)


async def admit(calls: Registry, call_sid: str = SID, clock: Clock | None = None) -> Entry:
    return await calls.admit(call_sid, f"id-of-{call_sid}", some_session, clock or Clock())


@pytest.fixture
def calls() -> Registry:
    return Registry(10, CLAIM_S)


# Admission


async def test_admitted_call_is_known_with_its_session(calls):
    known = await admit(calls)
    assert calls.find(SID) is known
    assert (known.phase, known.session, known.until) == (Phase.ADMITTED, SESSION, 1000 + CLAIM_S)
    assert (calls.admitted, calls.live) == (1, 0)


async def test_a_hundred_requests_at_once_open_one_session(calls):
    sessions = Sessions()
    asked = [asyncio.create_task(calls.admit(SID, f"id{n}", sessions.open, Clock())) for n in range(100)]
    await asyncio.sleep(0)
    assert calls.is_being_admitted(SID)
    assert calls.admitted == 1
    sessions.answer.set_result(Admission(SESSION))
    known = await asyncio.gather(*asked)
    assert sessions.opened == 1
    assert {id(one) for one in known} == {id(calls.find(SID))}
    assert known[0].media_id == "id0"
    assert not calls.is_being_admitted(SID)


async def test_failure_reaches_all_who_wait_and_the_next_request_tries_again(calls):
    sessions = Sessions()
    asked = [asyncio.create_task(calls.admit(SID, "id", sessions.open, Clock())) for _ in range(3)]
    await asyncio.sleep(0)
    sessions.answer.set_exception(SessionError("status 500"))
    assert [str(error) for error in await asyncio.gather(*asked, return_exceptions=True)] == [
        "status 500"
    ] * 3
    assert calls.find(SID) is None
    assert calls.admitted == 0
    assert (await admit(calls)).phase is Phase.ADMITTED


async def test_one_who_goes_away_does_not_disturb_the_others(calls):
    sessions = Sessions()
    first, second = (asyncio.create_task(calls.admit(SID, "id", sessions.open, Clock())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    sessions.answer.set_result(Admission(SESSION))
    assert (await second).session == SESSION
    assert sessions.cancelled == 0
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_work_is_cancelled_when_the_last_who_waits_goes_away(calls):
    sessions = Sessions()
    asked = [asyncio.create_task(calls.admit(SID, "id", sessions.open, Clock())) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.sleep(0)
    assert sessions.cancelled == 1
    assert calls.admitted == 0


async def test_request_does_not_join_work_that_is_being_cancelled(calls):
    leaving = asyncio.Event()

    async def slow_to_leave() -> dict[str, str]:
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            await leaving.wait()

    first = asyncio.create_task(calls.admit(SID, "id", slow_to_leave, Clock()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await admit(calls)).phase is Phase.ADMITTED
    leaving.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert calls.admitted == 1


async def test_close_before_the_work_began_leaves_nothing(calls):
    asked = asyncio.create_task(admit(calls))
    await asyncio.sleep(0)
    await calls.close()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert calls.admitted == 0


async def test_close_cancels_the_sessions_being_opened(calls):
    sessions = Sessions()
    asked = asyncio.create_task(calls.admit(SID, "id", sessions.open, Clock()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await calls.close()
    assert sessions.cancelled == 1
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_live_call_has_one_session_that_of_its_token(calls):
    await admit(calls)
    brought = replace(SESSION)
    calls.claim(SID, f"id-of-{SID}", brought, make_call())
    assert calls.find(SID).session is brought


# Limits


async def test_full_counts_live_and_admitted_and_being_admitted():
    calls = Registry(3, CLAIM_S)
    await admit(calls, SID)
    calls.claim(SID, f"id-of-{SID}", SESSION, make_call())
    await admit(calls, OTHER_SID)
    assert not calls.is_full
    sessions = Sessions()
    asked = asyncio.create_task(calls.admit("CA2", "id", sessions.open, Clock()))
    await asyncio.sleep(0)
    assert (calls.live, calls.admitted, calls.is_full) == (1, 2, True)
    calls.finish(SID, Outcome.ENDED, 0)
    assert not calls.is_full
    sessions.answer.set_result(Admission(SESSION))
    await asked
    assert calls.admitted == 2


async def test_call_that_another_process_admitted_is_taken_even_where_it_is_one_too_many():
    calls = Registry(1, CLAIM_S)
    assert calls.claim(SID, "id", SESSION, make_call()) is None
    assert calls.claim(OTHER_SID, "id", SESSION, make_call()) is None
    assert (calls.live, calls.room, calls.is_full) == (2, -1, True)


@pytest.mark.parametrize(("elsewhere", "is_full"), [(-1, True), (0, True), (1, False)])
async def test_full_process_admits_as_many_as_the_others_on_its_port_have_room_for(elsewhere, is_full):
    calls = Registry(1, CLAIM_S)
    calls.claim(SID, "id", SESSION, make_call())
    calls.room_elsewhere = lambda: elsewhere
    assert calls.is_full is is_full
    calls.claim(OTHER_SID, "id", SESSION, make_call())
    assert calls.is_full


async def test_process_with_room_is_full_where_the_others_are_over_their_limits_by_as_much():
    calls = Registry(1, CLAIM_S)
    calls.room_elsewhere = lambda: -1
    assert calls.is_full


# Claim


async def test_claim_counts_once_while_live_and_after(calls):
    known = await admit(calls)
    assert calls.claim(SID, known.media_id, SESSION, make_call()) is None
    assert (calls.live, calls.admitted, known.phase) == (1, 0, Phase.LIVE)
    assert calls.claim(SID, known.media_id, SESSION, make_call()) == "call_live"
    calls.finish(SID, Outcome.CALLER_LOST, 0)
    assert calls.claim(SID, known.media_id, SESSION, make_call()) == "call_over"


async def test_refused_claim_leaves_the_live_call_as_it_is(calls):
    call = make_call()
    known = await admit(calls)
    calls.claim(SID, known.media_id, SESSION, call)
    calls.claim(SID, "another", Session((), {}), make_call())
    assert calls.find(SID) is known
    assert known.call is call


async def test_claim_with_another_media_id_is_refused_and_uses_nothing_up(calls):
    known = await admit(calls)
    assert calls.claim(SID, "another", SESSION, make_call()) == "token_replaced"
    assert calls.claim(SID, known.media_id, SESSION, make_call()) is None


# Expiry


async def test_unclaimed_call_is_given_up_at_its_deadline(calls):
    clock = Clock()
    await admit(calls, SID, clock)
    clock.now += 30
    await admit(calls, OTHER_SID, clock)
    assert calls.on_tick(1000 + CLAIM_S - 0.1) == []
    assert calls.on_tick(1000 + CLAIM_S) == [SID]
    assert calls.find(SID).outcome is Outcome.ENDED
    assert calls.find(OTHER_SID).phase is Phase.ADMITTED
    assert calls.on_tick(1000 + 30 + CLAIM_S) == [OTHER_SID]
    assert calls.admitted == 0


async def test_renewed_call_has_the_whole_time_again(calls):
    clock = Clock()
    known = await admit(calls, SID, clock)
    await admit(calls, OTHER_SID, clock)
    calls.renew(known, 1050)
    assert calls.on_tick(1000 + CLAIM_S) == [OTHER_SID]
    assert calls.find(OTHER_SID).phase is Phase.OVER
    assert calls.on_tick(1050 + CLAIM_S - 0.1) == []
    assert calls.on_tick(1050 + CLAIM_S) == [SID]


async def test_live_call_is_not_renewed_and_never_given_up(calls):
    known = await admit(calls)
    calls.claim(SID, known.media_id, SESSION, make_call())
    calls.renew(known, 1050)
    assert calls.on_tick(1e9) == []
    assert calls.live_calls() == [known]


async def test_call_that_is_over_is_remembered_for_a_day_without_its_session(calls):
    known = await admit(calls)
    calls.claim(SID, known.media_id, SESSION, make_call())
    calls.finish(SID, Outcome.AGENT_LOST, 2000)
    assert (known.phase, known.outcome, known.session, known.call) == (
        Phase.OVER,
        Outcome.AGENT_LOST,
        Session(("agent",), {}),
        None,
    )
    calls.on_tick(2000 + 24 * 3600 - 1)
    assert calls.find(SID) is known
    calls.on_tick(2000 + 24 * 3600)
    assert calls.find(SID) is None


def test_a_day_and_a_hundred_thousand_calls_are_remembered():
    assert (calls_module.REMEMBERED_S, calls_module.REMEMBERED_CALLS) == (86400, 100_000)


async def test_memory_of_calls_that_are_over_is_bounded_the_oldest_goes(calls, monkeypatch):
    monkeypatch.setattr(calls_module, "REMEMBERED_CALLS", 5)
    sids = [f"CA{n:032x}" for n in range(50)]
    for n, sid in enumerate(sids):
        calls.claim(sid, "id", SESSION, make_call())
        calls.finish(sid, Outcome.ENDED, n)
    assert [sid for sid in sids if calls.find(sid)] == sids[-5:]


async def test_finish_of_an_unknown_or_finished_call_changes_nothing(calls):
    calls.finish(SID, Outcome.ENDED, 0)
    assert calls.find(SID) is None
    await admit(calls)
    calls.finish(SID, Outcome.AGENT_LOST, 0)
    calls.finish(SID, Outcome.ENDED, 1)
    assert calls.find(SID).outcome is Outcome.AGENT_LOST


# The end from outside


async def test_end_of_a_live_call_ends_the_call(calls):
    call = Call(LIMITS, CallsObserver(calls, SID, Outcome.ENDED), 0.0)
    known = await admit(calls)
    calls.claim(SID, known.media_id, SESSION, call)
    calls.end(SID, Why.CALL_COMPLETED, 5)
    assert call.why is Why.CALL_COMPLETED
    assert calls.live == 0


@pytest.mark.parametrize(
    ("why", "record"), [(Why.CALL_COMPLETED, Outcome.ENDED), (Why.CALLER_LOST, Outcome.CALLER_LOST)]
)
async def test_end_of_an_admitted_call_is_remembered_by_its_reason(calls, why, record):
    await admit(calls)
    calls.end(SID, why, 5)
    assert calls.find(SID).outcome is record
    assert calls.admitted == 0


async def test_end_of_an_unknown_call_and_of_one_that_is_over_changes_nothing(calls):
    calls.end(SID, Why.CALL_COMPLETED, 5)
    assert calls.find(SID) is None
    await admit(calls)
    calls.finish(SID, Outcome.AGENT_LOST, 0)
    calls.end(SID, Why.CALL_COMPLETED, 5)
    assert calls.find(SID).outcome is Outcome.AGENT_LOST
