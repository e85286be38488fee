"""Flight records of calls on real sockets: each end replays equal, and the bad ones are in a file."""

from __future__ import annotations

import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import MethodType
from typing import Any, NamedTuple

import orjson
import pytest
from click.testing import CliRunner
from live import AUTH_TOKEN, DEADLINE_S, Live, soon, until
from live_raw import raw_stream

from bridge.call.ends import ENDS, Why
from bridge.call.flight import PURPOSE
from bridge.call.flight_call import FlightCall
from bridge.call.replay import events_of, replay
from bridge.cli import main
from bridge.seal import Seal
from bridge.server.agent_chain import SESSIONS_AGAIN
from bridge.server.records.flights import FlightFiles
from bridge.twilio.rest import TwilioApi

FRAME = bytes(range(160))
WITH_OPENAI = {"agent": {"protocol": "openai"}, "BRIDGE_TRANSFER_TO": "+4930"}


async def agent_ends(live, caller, session) -> None:
    await session.send_audio(FRAME)
    await session.send_call_ended()


async def agent_hangs_up(live, caller, session) -> None:
    await session.send_function_call("hang_up", {})


async def agent_transfers(live, caller, session) -> None:
    await session.send_function_call("transfer_call", {"to_number": "+493012345678"})


async def agent_vanishes(live, caller, session) -> None:
    live.refuse_sessions()
    session.abort()


async def agent_breaks_the_protocol(live, caller, session) -> None:
    # So does each session that takes over.
    for _ in range(1 + SESSIONS_AGAIN):
        session = await live.agent.next_session(DEADLINE_S)
        await soon(session.opened.wait())
        session._transport.write(b"\x83\x00")


async def caller_stops(live, caller, session) -> None:
    await caller.send_media(FRAME)
    await caller.send_stop()


async def caller_vanishes(live, caller, session) -> None:
    caller.abort()


async def caller_breaks_the_protocol(live, caller, session) -> None:
    caller._open_socket().transport.write(b"\x83\x80\x00\x00\x00\x00")


async def twilio_says_completed(live, caller, session) -> None:
    assert (await caller.post_status("completed")).status == 204


async def process_drains(live, caller, session) -> None:
    live.server._live.end_all()


async def tick_fails(live, caller, session) -> None:
    def on_tick(self, now):
        raise RuntimeError("canary-of-a-fault")

    live.caller_legs[0]._on_tick = MethodType(on_tick, live.caller_legs[0])


async def nothing(live, caller, session) -> None: ...


class Way(NamedTuple):
    """How an end comes about once both sides are open."""

    act: Callable[[Any, Any, Any], Awaitable[None]]
    settings: dict[str, Any] | None = None


WAYS = {
    Why.AGENT_ENDED: Way(agent_ends),
    Why.AGENT_HUNG_UP: Way(agent_hangs_up, WITH_OPENAI),
    Why.AGENT_TRANSFERRED: Way(agent_transfers, WITH_OPENAI),
    Why.CALLER_STOPPED: Way(caller_stops),
    Why.CALL_COMPLETED: Way(twilio_says_completed),
    Why.CALLER_LOST: Way(caller_vanishes),
    Why.AGENT_LOST: Way(agent_vanishes),
    Why.TIME_LIMIT: Way(nothing, {"BRIDGE_CALL_MAX_S": 0.3}),
    Why.SILENT_CALLER: Way(nothing, {"BRIDGE_CALLER_NO_AUDIO_S": 0.4}),
    Why.CALLER_VIOLATION: Way(caller_breaks_the_protocol),
    Why.AGENT_VIOLATION: Way(agent_breaks_the_protocol),
    Why.DRAINED: Way(process_drains),
    Why.FAULT: Way(tick_fails),
}
# Their calls have no `start`, and so no name for a file.
BEFORE_START = {Why.NO_START, Why.REFUSED}


class Over:
    """
    The calls that are over.

    Attributes:
        flights: Their records.
        files: Where those of bad ends are written.
    """

    def __init__(self) -> None:
        self.flights: list[dict[str, Any]] = []
        self.files: FlightFiles | None = None

    async def written(self, live: Live) -> list[Path]:
        """The files, once none waits to be written."""
        assert self.files is not None
        await self.files.find("")
        folder = live.server._settings.state_dir / "flights"
        return sorted(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def over(monkeypatch) -> Over:
    over = Over()
    on_over = FlightFiles.on_over

    def noted(files: FlightFiles, call: FlightCall) -> None:
        over.files = files
        over.flights.append(record_of(call))
        on_over(files, call)

    monkeypatch.setattr(FlightFiles, "on_over", noted)
    return over


def record_of(call: FlightCall) -> dict[str, Any]:
    return orjson.loads(orjson.dumps(call.flight(time.time())))


def names_of(call: FlightCall) -> list[str]:
    """The events so far."""
    return [event.name for event in events_of(record_of(call))]


def test_each_end_has_a_way():
    assert WAYS.keys() | BEFORE_START == set(Why)


@pytest.mark.parametrize("why", WAYS)
async def test_end_is_replayed_with_the_same_commands_and_a_bad_one_is_in_a_file(
    live_server, over, logs, monkeypatch, why
):
    async def change(api, call_sid, form):
        pass

    monkeypatch.setattr(TwilioApi, "_change", change)
    way = WAYS[why]
    live = await live_server(**(way.settings or {}))
    async with live.bridged() as (caller, session):
        await way.act(live, caller, session)
        await soon(caller.closed.wait())
        await until(lambda: live.is_idle)
    if why is Why.FAULT:
        assert logs.faults()
        logs.records.clear()
    [flight] = over.flights
    assert flight["why"] == why.value
    assert flight["call_sid"] == caller.call_sid
    assert [event.name for event in events_of(flight)][:2] == ["on_start", "on_agent_open"]
    assert replay(flight) is None
    files = await over.written(live)
    assert len(files) == ENDS[why].is_bad
    for path in files:
        assert path.name.startswith(caller.call_sid)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert Seal([AUTH_TOKEN]).open(PURPOSE, path.read_text(), None) == flight
        found = CliRunner().invoke(main, ["replay", str(path)], env={"TWILIO_AUTH_TOKEN": AUTH_TOKEN})
        assert found.exit_code == 0, found.output
        assert "with the same commands" in found.output


@pytest.mark.parametrize("why", BEFORE_START)
async def test_end_without_a_start_is_replayed_too_and_is_in_no_file(live_server, over, why):
    live = await live_server(limits={"start_s": 0.3})
    async with live.answered() as caller:
        if why is Why.REFUSED:
            await caller.open_stream(parameters={"token": "forged"})
            await soon(caller.closed.wait())
        else:
            async with raw_stream(live, caller, start=False) as socket:
                assert await soon(socket.close_code()) == 1008
        await until(lambda: live.is_idle)
    [flight] = over.flights
    assert flight["why"] == why.value
    assert replay(flight) is None
    assert await over.written(live) == []


async def test_call_that_goes_on_with_another_agent_at_another_socket_is_one_record(live_server, over):
    live = await live_server(BRIDGE_AGENT="retell,echo", limits={"grace_s": 5.0})
    async with live.bridged() as (caller, session):
        await session.send_audio(FRAME)
        await until(lambda: caller.received)
        caller.abort()
        await until(lambda: "on_caller_lost" in names_of(live.open_calls[0]))
        assert (await caller.go_on()).verbs == ["Connect", "Redirect"]
        await until(lambda: "on_caller_back" in names_of(live.open_calls[0]))
        session.abort()
        await until(lambda: "agent 2" in record_of(live.open_calls[0])["agents"])
        [call] = live.open_calls
        await caller.send_media(FRAME)
        await until(lambda: caller.received_audio and caller.received_audio[-1] == FRAME)
        await caller.send_stop()
        await until(lambda: live.is_idle)
    [flight] = over.flights
    assert flight["agents"] == {"agent 1": "retell", "agent 2": "echo"}
    # Twilio's question about the lost socket is an event of the same name.
    names = dict.fromkeys(names_of(call))
    wanted = ["on_first_audio", "on_caller_lost", "on_caller_back", "on_agent_lost", "on_stop"]
    assert [name for name in names if name in wanted] == wanted
    assert replay(flight) is None


async def test_without_an_auth_token_no_file_is_written(live_server, over):
    live = await live_server(TWILIO_AUTH_TOKEN="", BRIDGE_VALIDATE_SIGNATURES=0, BRIDGE_AGENT="echo")
    async with live.answered(auth_token="") as caller:
        await caller.open_stream()
        caller.abort()
        await until(lambda: live.is_idle)
    assert await over.written(live) == []
