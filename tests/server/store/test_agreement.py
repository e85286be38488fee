"""Processes agree on each call: who opens its session, who has its socket, and how it ended."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bridge.agents.sessions import Session
from bridge.call.ends import Outcome
from bridge.metrics import Metrics
from bridge.seal import Seal
from bridge.server.store import agreement as agreement_module
from bridge.server.store.agreement import (
    KEPT_S,
    Agreement,
    Record,
    Stage,
)
from bridge.server.store.breaker import Breaker, StoreUnavailableError
from bridge.server.store.memory import MemoryStore
from bridge.server.store.version import VERSION_KEY, StoreTooNewError

CALL = "CA" + "1" * 32
SESSION = Session(("one", "two"), {"access_token": "canary-credential"}, {"name": "canary-value"})
MEDIA_ID = "a" * 32
OTHER_MEDIA_ID = "b" * 32
DATA = Path(__file__).parents[2] / "data"


class Slow(MemoryStore):
    """A store that hangs while ``gate`` is not set."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self, key):
        await self.gate.wait()
        return await super().read(key)


@pytest.fixture
def store() -> Slow:
    return Slow()


def process(store: MemoryStore, *secrets: str, lease_s: float = 10) -> Agreement:
    return Agreement(store, Breaker(store, Metrics()), Seal(secrets or ["auth"]), lease_s, 60)


async def claimed(agreement: Agreement, media_id: str = MEDIA_ID, attempt: int = 0) -> str | None:
    answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
    agreement.claim(CALL, attempt, media_id, answer.set_result)
    return await answer


async def ended(agreement: Agreement, outcome: Outcome, attempt: int = 0, **more: str) -> None:
    agreement.end(CALL, attempt, outcome, **more)
    await agreement.settled()


async def admitted(agreement: Agreement, attempt: int = 0, media_id: str = MEDIA_ID) -> None:
    assert await agreement.admit(CALL, attempt) is None
    assert await agreement.offer(CALL, attempt, media_id, SESSION) is None


# Admission


async def test_second_process_waits_for_the_session_of_the_first(store):
    a, b = process(store), process(store)
    assert await a.admit(CALL, 0) is None
    waiting = asyncio.ensure_future(b.admit(CALL, 0))
    assert await a.offer(CALL, 0, MEDIA_ID, SESSION) is None
    record = await waiting
    assert (record.stage, record.media_id, record.owner) == (Stage.ADMITTED, MEDIA_ID, a.owner)
    assert Session.of(record.session) == SESSION


async def test_of_many_processes_one_opens_the_session(store):
    processes = [process(store) for _ in range(20)]
    tasks = [asyncio.ensure_future(one.admit(CALL, 0)) for one in processes]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    (first,) = done
    assert first.result() is None
    opener = processes[tasks.index(first)]
    await opener.offer(CALL, 0, MEDIA_ID, SESSION)
    records = [record for record in await asyncio.gather(*tasks) if record is not None]
    assert [record.owner for record in records] == [opener.owner] * 19


async def test_lease_of_a_dead_process_is_taken_over(store):
    a, b = process(store, lease_s=0), process(store)
    assert await a.admit(CALL, 0) is None
    assert await b.admit(CALL, 0) is None
    # The dead one was only slow.
    assert await a.offer(CALL, 0, MEDIA_ID, SESSION) is not None
    assert await b.offer(CALL, 0, "b" * 32, SESSION) is None


async def test_released_lease_is_taken_at_once(store):
    a, b = process(store), process(store)
    assert await a.admit(CALL, 0) is None
    a.release(CALL)
    assert await asyncio.wait_for(b.admit(CALL, 0), 5) is None
    await a.settled()


async def test_process_takes_its_own_lease_again(store):
    a = process(store)
    assert await a.admit(CALL, 0) is None
    assert await asyncio.wait_for(a.admit(CALL, 0), 5) is None


async def test_admitted_call_of_a_dead_process_is_opened_again_when_its_time_is_over(store, monkeypatch):
    a, b = process(store), process(store)
    await admitted(a)
    assert (await b.admit(CALL, 0)).stage == Stage.ADMITTED
    now = agreement_module.time.time()
    monkeypatch.setattr(agreement_module.time, "time", lambda: now + 71)
    assert await b.admit(CALL, 0) is None


@pytest.mark.parametrize("outcome", list(Outcome))
async def test_only_an_unavailable_agent_is_followed_by_another(store, outcome):
    a, b = process(store), process(store)
    await ended(a, outcome)
    record = await b.admit(CALL, 1)
    assert (record is None) == (outcome in (Outcome.DIALLED, Outcome.AGENT_LOST))
    assert await b.admit(CALL, 0) is not None or record is None


# Claims


async def test_token_is_used_once_over_all_processes(store):
    a, b = process(store), process(store)
    await admitted(a)
    assert await claimed(b) is None
    assert await claimed(a) == "call_live"
    assert await claimed(b) == "call_live"
    assert await a.is_taken(CALL)
    assert not await b.is_taken(CALL)


async def test_one_of_many_claims_at_once_wins(store):
    processes = [process(store) for _ in range(10)]
    await admitted(processes[0])
    assert (await asyncio.gather(*map(claimed, processes))).count(None) == 1


async def test_token_of_another_admission_is_refused(store):
    a, b = process(store), process(store)
    await admitted(a)
    assert await claimed(b, "b" * 32) == "token_replaced"
    await ended(a, Outcome.AGENT_LOST)
    assert await claimed(b) == "call_over"
    await admitted(b, 1, "b" * 32)
    assert await claimed(a) == "token_replaced"
    assert await claimed(a, "b" * 32, 1) is None


async def test_call_that_the_store_does_not_know_is_taken(store):
    a = process(store)
    assert await claimed(a) is None
    assert (await a.find(CALL)).stage == Stage.LIVE


@pytest.mark.parametrize(
    ("before", "is_entered"),
    [
        (None, True),
        # The store was away when the media socket opened at this process.
        (Record(Stage.ADMITTED, 1, "opener"), True),
        (Record(Stage.OVER, 0, "opener", outcome="dialled"), True),
        (Record(Stage.LIVE, 1, "opener"), False),
        (Record(Stage.OVER, 1, "opener", outcome="ended"), False),
        (Record(Stage.ADMITTED, 2, "opener"), False),
    ],
)
async def test_live_call_is_entered_again_only_where_the_store_knows_less(store, before, is_entered):
    a = process(store)
    if before is not None:
        key = f"call:{CALL}"
        await store.write(key, Seal(["auth"]).seal(key, asdict(before)), 60, 0)
    await a.enter_again(CALL, 1, MEDIA_ID)
    found = await a.find(CALL)
    assert found == (Record(Stage.LIVE, 1, a.owner, 0.0, MEDIA_ID) if is_entered else before)


async def test_opener_cannot_end_a_call_that_was_entered_again(store):
    a, b = process(store), process(store)
    await admitted(a)
    await b.enter_again(CALL, 0, MEDIA_ID)
    await ended(a, Outcome.ENDED)
    record = await a.find(CALL)
    assert (record.stage, record.owner) == (Stage.LIVE, b.owner)


# A new stream


@pytest.mark.parametrize("outcome", [None, Outcome.CALLER_LOST, Outcome.HANDED_OVER])
async def test_call_that_lost_its_socket_is_admitted_again_by_any_process(store, outcome):
    a, b = process(store), process(store)
    await admitted(a)
    assert await claimed(a) is None
    if outcome is not None:
        await ended(a, outcome)
    assert await b.readmit(CALL, 1, OTHER_MEDIA_ID, SESSION) is None
    record = await a.find(CALL)
    assert (record.stage, record.attempt, record.owner) == (Stage.ADMITTED, 1, b.owner)
    assert record.is_successor
    # What the former owner writes of its end is dropped.
    await ended(a, Outcome.CALLER_LOST)
    assert await claimed(a, OTHER_MEDIA_ID, 1) is None
    assert (await b.find(CALL)).owner == a.owner
    assert await claimed(b, OTHER_MEDIA_ID, 1) == "call_live"


@pytest.mark.parametrize("outcome", [Outcome.ENDED, Outcome.TRANSFERRED, Outcome.AGENT_LOST, Outcome.DIALLED])
async def test_call_that_ended_otherwise_is_not_admitted_again(store, outcome):
    a, b = process(store), process(store)
    await admitted(a)
    await ended(a, outcome)
    record = await b.readmit(CALL, 1, OTHER_MEDIA_ID, SESSION)
    assert record.outcome == outcome.value


async def test_of_many_processes_one_admits_the_new_stream(store):
    processes = [process(store) for _ in range(10)]
    await admitted(processes[0])
    await claimed(processes[0])
    ids = [f"{n:032x}" for n in range(10)]
    found = await asyncio.gather(
        *(one.readmit(CALL, 1, media_id, SESSION) for one, media_id in zip(processes, ids, strict=True))
    )
    assert found.count(None) == 1
    assert {record.media_id for record in found if record is not None} == {ids[found.index(None)]}


@pytest.mark.parametrize("stage", Stage)
async def test_record_that_the_version_before_sealed_is_read(store, stage):
    sealed = json.loads((DATA / "sealed_before_new_streams.json").read_text())["records"][stage]
    call_sid = "CA" + "0" * 32
    assert await store.write(f"call:{call_sid}", sealed, 60, 0)
    agreement = process(store)
    record = await agreement.find(call_sid)
    assert (record.stage, record.attempt, record.owner, record.is_successor) == (stage, 1, "former", False)
    assert await agreement.readmit(call_sid, 2, MEDIA_ID, SESSION) is None


# Ends


async def test_end_is_known_to_all(store):
    a, b = process(store), process(store)
    await admitted(a)
    await claimed(b)
    await ended(b, Outcome.TRANSFERRED, transfer_to="+4930123")
    record = await a.find(CALL)
    assert (record.stage, record.outcome, record.transfer_to) == (Stage.OVER, "transferred", "+4930123")
    assert record.session == {}


async def test_first_end_of_an_attempt_stands(store):
    a, b = process(store), process(store)
    await ended(a, Outcome.ENDED)
    await ended(b, Outcome.AGENT_LOST)
    assert (await a.find(CALL)).outcome == "ended"


async def test_late_end_of_an_older_attempt_is_dropped(store):
    a, b = process(store), process(store)
    await ended(a, Outcome.DIALLED)
    await admitted(b, 1)
    await ended(a, Outcome.ENDED)
    assert (await a.find(CALL)).stage == Stage.ADMITTED
    await ended(b, Outcome.ENDED, 1)
    assert ((await a.find(CALL)).outcome, (await a.find(CALL)).attempt) == ("ended", 1)


async def test_opener_cannot_end_the_call_that_another_process_has(store):
    a, b = process(store), process(store)
    await admitted(a)
    await claimed(b)
    await ended(a, Outcome.ENDED)
    assert (await a.find(CALL)).stage == Stage.LIVE


async def test_what_follows_an_end_waits_until_it_is_written(store):
    a = process(store)
    store.gate.clear()
    a.end(CALL, 0, Outcome.ENDED)
    followed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    a.after_end(CALL, followed.set_result)
    await asyncio.sleep(0)
    assert not followed.done()
    store.gate.set()
    assert await asyncio.wait_for(followed, 5)
    assert (await a.find(CALL)).outcome == "ended"


# A store that is unavailable


async def test_nobody_waits_longer_than_the_bound_and_then_not_at_all(store):
    a = process(store)
    store.gate.clear()
    a.end(CALL, 0, Outcome.ENDED)
    followed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    a.after_end(CALL, followed.set_result)
    assert not await asyncio.wait_for(followed, 5)
    answers: list[str | bool | None] = []
    a.claim(CALL, 0, MEDIA_ID, answers.append)
    a.end(CALL, 0, Outcome.ENDED)
    a.after_end(CALL, answers.append)
    assert answers == [None, False]
    assert await a.admit(CALL, 0) is None
    assert await a.offer(CALL, 0, MEDIA_ID, SESSION) is None
    assert not await a.is_taken(CALL)
    with pytest.raises(StoreUnavailableError):
        await a.find(CALL)


async def test_claim_goes_on_when_the_store_does_not_answer(store):
    a = process(store)
    store.gate.clear()
    assert await asyncio.wait_for(claimed(a), 5) is None


# What is kept


async def test_nothing_personal_is_readable(store):
    await admitted(process(store))
    kept = await store.read(f"call:{CALL}")
    assert "canary" not in kept.text


async def test_record_of_another_secret_or_another_call_is_as_good_as_none(store):
    a = process(store)
    await admitted(a)
    assert await process(store, "other").find(CALL) is None
    kept = await store.read(f"call:{CALL}")
    await store.write("call:CA2", kept.text, 60, 0)
    assert await a.find("CA2") is None
    # A rotated auth token still opens.
    assert await process(store, "new", "auth").find(CALL) is not None


async def test_fields_of_another_version_are_ignored_and_missing_ones_have_defaults(store):
    seal = Seal(["auth"])
    key = f"call:{CALL}"
    await store.write(key, seal.seal(key, {"stage": "over", "outcome": "new", "added": [1]}), KEPT_S, 0)
    assert await process(store).find(CALL) == Record(outcome="new")


async def test_store_of_this_version_is_used_and_that_of_a_newer_one_refused(store):
    await process(store).start()
    await process(store).start()
    kept = await store.read(VERSION_KEY)
    assert kept.text == "1"
    await store.write(VERSION_KEY, "2", 60, kept.version)
    with pytest.raises(StoreTooNewError, match="install that version"):
        await process(store).start()


async def test_store_of_an_older_version_becomes_one_of_this_version(store, monkeypatch):
    await process(store).start()
    monkeypatch.setattr("bridge.server.store.version.MAJOR", 2)
    await process(store).start()
    monkeypatch.undo()
    with pytest.raises(StoreTooNewError):
        await process(store).start()


async def test_store_that_does_not_answer_does_not_hold_up_the_start(store):
    class Frozen(MemoryStore):
        async def write(self, key, text, ttl_s, after):
            await asyncio.Event().wait()

    await asyncio.wait_for(process(Frozen()).start(), 5)
