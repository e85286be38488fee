"""A call as one JSON document: ``docs/call-record.schema.json`` describes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from bridge.call.ends import ENDS
from bridge.call.hearing import Hearing
from bridge.call.record import MOST_KEPT, AgentRecord, CallRecord, Series
from bridge.call.state import Call
from bridge.call.turns import Side, Turn
from bridge.metrics import Traffic

# Raised where a field changes or goes; a new field is no new version.
VERSION = 1
# As `bridge.call.leg.Leg.how_closed` has it.
CLOSE_FRAME = re.compile(r"(bridge|peer) ([0-9]{4})(?: (.*))?", re.DOTALL)


def document(
    call: Call, call_sid: str, record: CallRecord, traffic: Traffic, now: float, unix_now: float
) -> dict[str, Any]:
    """
    All that is known of a call, over or not, as values that JSON has.

    Args:
        call_sid: Its CallSid; empty if nothing shows it.
        record: With the ends of both sides noted.
        now: The present moment by the call's clock, and ``unix_now`` by the Unix time.
    """
    stats = call.stats
    began = call.started_at if call.started_at is not None else call.opened_at
    bridged_s = call.was_bridged_s(now)
    times = {
        "socket": call.opened_at,
        "start": call.started_at,
        "agent_open": now - bridged_s if bridged_s else None,
        "first_word": _later(call.started_at, stats.first_agent_audio_s),
        "ended": now if call.why is not None else None,
    }
    return {
        "version": VERSION,
        "call_sid": call_sid,
        "stream_sid": record.stream_sid,
        "attempt": record.attempt,
        "from": record.from_number,
        "to": record.to_number,
        "route": record.route,
        "agents": [_agent(agent) for agent in record.agents],
        "times": {
            "webhook": _time(record.webhook_at or None),
            "answered": _time(record.answered_at or None),
            **{name: _time(_later(unix_now - now, at)) for name, at in times.items()},
        },
        "duration_s": round(now - call.opened_at, 3),
        "agent_connect_s": _rounded(stats.agent_connect_s),
        "first_agent_audio_s": _rounded(stats.first_agent_audio_s),
        "frames": {
            "from_caller": traffic.from_caller,
            "to_agent": traffic.to_agent,
            "from_agent": traffic.from_agent,
            "to_caller": traffic.to_caller,
        },
        "drops": {
            "to_agent": traffic.dropped_to_agent,
            "to_caller": traffic.dropped_to_caller,
            "full": traffic.overflowed_to_agent + traffic.overflowed_to_caller,
            "cleared": traffic.cleared_to_caller,
            "lost_audio_s": round(record.lost_audio_s, 3),
            "ignored": stats.ignored,
        },
        "interrupts": _series(stats.interrupted, began, traffic.interrupts),
        "turns": _turns(call.hearing, began),
        "gaps": {side.value: _series(gaps, began, gaps.count) for side, gaps in call.hearing.gaps.items()},
        "marks": {"count": stats.marks.count, "last": [round(at - began, 3) for at in stats.marks.last]},
        "keys": traffic.dtmf,
        "transcript": [
            {"at_s": round(at - began, 3), "speaker": said.speaker.value, "text": said.text}
            for at, said in call.conversation.utterances()
        ],
        "recording": _recording(record),
        "end": _end(call, record),
        "notes": _notes(call),
    }


def without_texts(document: dict[str, Any]) -> dict[str, Any]:
    """A document without what was said."""
    return {**document, "transcript": []}


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a list of calls shows of a document."""
    agents, times, end = document["agents"], document["times"], document["end"] or {}
    return {
        **{name: document[name] for name in ("call_sid", "attempt", "from", "to", "route")},
        "agent": agents[-1]["name"] if agents else "",
        "agents_lost": max(0, len(agents) - 1),
        "start": times["start"],
        "ended": times["ended"],
        "duration_s": document["duration_s"],
        "first_agent_audio_s": document["first_agent_audio_s"],
        "interrupts": document["interrupts"]["count"],
        # Not there in a document of an earlier release.
        "wait_p50_ms": document.get("turns", {}).get("waits", {}).get("p50_ms"),
        "dropped": document["drops"]["to_agent"] + document["drops"]["to_caller"],
        "why": end.get("why"),
        "outcome": end.get("outcome"),
    }


def live_summary(
    call: Call, call_sid: str, record: CallRecord, traffic: Traffic, now: float, unix_now: float
) -> dict[str, Any]:
    """What `summary` shows of the document of a live call, which need not be made, and its ``state``."""
    return {
        "call_sid": call_sid,
        "attempt": record.attempt,
        "from": record.from_number,
        "to": record.to_number,
        "route": record.route,
        "agent": record.agent.name,
        "agents_lost": max(0, len(record.agents) - 1),
        "start": _time(_later(unix_now - now, call.started_at)),
        "ended": None,
        "duration_s": round(now - call.opened_at, 3),
        "first_agent_audio_s": _rounded(call.stats.first_agent_audio_s),
        "interrupts": traffic.interrupts,
        "wait_p50_ms": _optional_ms(call.hearing.turns.wait_s(0.5)),
        "dropped": traffic.dropped_to_agent + traffic.dropped_to_caller,
        "why": None,
        "outcome": None,
        "state": call.state.value,
    }


def _agent(agent: AgentRecord) -> dict[str, Any]:
    return {
        "name": agent.name,
        "session_id": agent.session_id,
        "why_lost": agent.why_lost,
        "closed": _closed(agent.how_closed),
        "billed_s": _rounded(agent.billed_s),
    }


def _recording(record: CallRecord) -> dict[str, Any] | None:
    if not (record.recording or record.recording_sid):
        return None
    names = {"file": record.recording, "ended": record.recording_ended, "twilio_sid": record.recording_sid}
    return {name: text or None for name, text in names.items()}


def _end(call: Call, record: CallRecord) -> dict[str, Any] | None:
    if call.why is None:
        return None
    outcome = ENDS[call.why].outcome
    return {
        "why": call.why.value,
        "outcome": outcome.value if outcome is not None else None,
        "detail": call.detail,
        "caller_closed": _closed(record.caller_closed),
        "transferred_to": record.shown(call.transfer_to),
    }


def _closed(how: str) -> dict[str, Any] | None:
    """How a socket closed: by a close frame of this side, of the peer, or without one; None if it is not known."""
    if not how:
        return None
    if (found := CLOSE_FRAME.fullmatch(how)) is None:
        return {"by": None, "code": None, "reason": how}
    return {"by": found[1], "code": int(found[2]), "reason": (found[3] or "").strip()}


def _series(series: Series, began: float, count: int) -> dict[str, Any]:
    return {
        "count": count,
        "longest_ms": _ms(series.longest_s),
        "last": [{"at_s": round(at - began, 3), "ms": _ms(length_s)} for at, length_s in series.last],
    }


def _turns(hearing: Hearing, began: float) -> dict[str, Any]:
    turns, total = hearing.turns, hearing.turns.total()
    return {
        "count": turns.count,
        "waits": {
            "count": turns.waits.count,
            "p50_ms": _optional_ms(turns.wait_s(0.5)),
            "p95_ms": _optional_ms(turns.wait_s(0.95)),
            "longest_ms": _ms(turns.waits.longest_s),
        },
        **_sums(total),
        "last": [_turn(turn, began) for turn in turns.last],
    }


def _turn(turn: Turn, began: float) -> dict[str, Any]:
    spans = {
        "caller": (turn.caller_began, turn.caller_ended),
        "agent": (turn.agent_began, turn.agent_ended),
    }
    return {
        **{
            name: {"at_s": round(start - began, 3), "until_s": round(end - began, 3)}
            if start is not None and end is not None
            else None
            for name, (start, end) in spans.items()
        },
        "wait_ms": _optional_ms(turn.wait_s),
        **_sums(turn),
    }


def _sums(turn: Turn) -> dict[str, Any]:
    return {
        "caller_talk_s": round(turn.caller_talk_s, 3),
        "agent_talk_s": round(turn.agent_talk_s, 3),
        "overlap_s": round(turn.overlap_s, 3),
        "interrupts": {side.value: turn.interrupts[side] for side in Side},
        "vain_interrupts": {side.value: turn.vain_interrupts[side] for side in Side},
    }


def _notes(call: Call) -> list[str]:
    """What is only summed up, because the record has a bound."""
    hearing = call.hearing
    counts = {
        "interrupts": call.stats.interrupted.count,
        "turns": hearing.turns.count,
        **{f"gaps of the {side.value}": gaps.count for side, gaps in hearing.gaps.items()},
    }
    return [
        f"the {count - MOST_KEPT} oldest {what} are only {'summed up' if what == 'turns' else 'counted'}"
        for what, count in counts.items()
        if count > MOST_KEPT
    ]


def _later(since: float | None, seconds: float | None) -> float | None:
    return since + seconds if since is not None and seconds is not None else None


def _time(unix: float | None) -> str | None:
    if unix is None:
        return None
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(seconds: float | None) -> float | None:
    return round(seconds, 3) if seconds is not None else None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _optional_ms(seconds: float | None) -> float | None:
    return _ms(seconds) if seconds is not None else None
