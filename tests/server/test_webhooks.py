"""The webhooks with a scripted agent, signed by the test's own arithmetic."""

import asyncio
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from live import until
from webhook_bench import (
    ACCOUNT,
    BASE,
    CALL,
    FALLBACK,
    OTHER_CALL,
    RINGING,
    SETTINGS,
    STREAM,
    Bench,
    parameters_of,
    sign,
    twilio,
    verbs,
)

from bridge.agents.agent import CallInfo, SessionError
from bridge.call.ends import ENDS, Outcome, Why
from bridge.http.messages import Request
from bridge.server.registry import Phase
from bridge.twilio.tokens import ResumeState, Tokens

TRANSFERRED = ["Dial", "Hangup"]
# Callbacks of calls with a media socket.
MEDIA_RECORDS = [record for record in Outcome if record is not Outcome.DIALLED]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


# What is let in


@pytest.mark.parametrize("path", ["voice", "resume", "voice_status", "stream_status"])
@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"x_twilio_signature": None}, 403),
        ({"x_twilio_signature": ""}, 403),
        ({"x_twilio_signature": "x" * 28}, 403),
        ({"x_twilio_signature": sign(BASE + "/other", RINGING)}, 403),
        ({"x_twilio_signature": (sign(BASE + "/voice", RINGING),) * 2}, 403),
        ({"content_type": None}, 415),
        ({"content_type": "application/json"}, 415),
        ({"content_type": "multipart/form-data; boundary=x"}, 415),
        ({"content_type": ("application/x-www-form-urlencoded", "text/plain")}, 415),
    ],
)
async def test_request_that_is_not_twilios_is_refused(bench, path, changes, status):
    response = await getattr(bench.webhooks, path)(twilio("/voice", RINGING, **changes))
    assert response.status == status
    assert bench.asked == []


@pytest.mark.parametrize(
    "body", [b"CallSid=\xff", b"CallSid=%ff", b"&".join(b"a=1" for _ in range(501)), "CallSid=é".encode()]
)
async def test_body_that_is_no_form_is_a_bad_request(bench, body):
    request = twilio("/voice", RINGING)
    response = await bench.webhooks.voice(Request("POST", "/voice", "", request.headers, body, request.peer))
    assert response.status == 400


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([("AccountSid", ACCOUNT)], "call_sid"),
        ([("CallSid", "CA123"), ("AccountSid", ACCOUNT)], "call_sid"),
        ([("CallSid", "CA" + "A" * 32), ("AccountSid", ACCOUNT)], "call_sid"),
        ([("CallSid", CALL + "\n"), ("AccountSid", ACCOUNT)], "call_sid"),
        ([("CallSid", CALL), ("CallSid", OTHER_CALL), ("AccountSid", ACCOUNT)], "call_sid"),
        ([("CallSid", CALL), ("CallSid", CALL), ("AccountSid", ACCOUNT)], "call_sid"),
        ([("CallSid", CALL + "CallStatusringing"), ("AccountSid", ACCOUNT)], "call_sid"),
        ([("CallSid", CALL)], "account_sid"),
        ([("CallSid", CALL), ("AccountSid", "AC" + "9" * 32)], "account_sid"),
        ([("CallSid", CALL), ("AccountSid", ACCOUNT), ("AccountSid", "AC" + "9" * 32)], "account_sid"),
    ],
)
async def test_signed_request_of_another_call_is_refused(bench, pairs, reason):
    response = await bench.webhooks.voice(twilio("/voice", pairs))
    assert response.status == 403
    assert bench.refused(reason) == 1
    assert bench.asked == []


async def test_form_split_elsewhere_under_the_same_signature_is_refused(bench):
    whole = [("CallSid", CALL), ("CallStatus", "ringing"), ("AccountSid", ACCOUNT)]
    split = [("CallSid", CALL + "CallStatusringing"), ("AccountSid", ACCOUNT)]
    signature = sign(BASE + "/voice", whole)
    assert signature == sign(BASE + "/voice", split)
    assert (await bench.webhooks.voice(twilio("/voice", split, x_twilio_signature=signature))).status == 403


async def test_forwarded_and_host_headers_change_nothing(bench):
    response = await bench.webhooks.voice(
        twilio(
            "/voice", RINGING, host="evil.example", x_forwarded_host="evil.example", x_forwarded_proto="http"
        )
    )
    assert b"evil" not in response.body
    assert b'url="wss://voice.example.com/bridge/media/' in response.body


async def test_without_signatures_the_call_sid_is_still_checked():
    bench = Bench(BRIDGE_VALIDATE_SIGNATURES="0", BRIDGE_ALLOW_UNSIGNED_AGENT="1", BRIDGE_AGENT="retell")
    assert verbs(await bench.webhooks.voice(twilio("/voice", RINGING, x_twilio_signature=None))) == STREAM
    bad = [("CallSid", "x"), ("AccountSid", ACCOUNT)]
    assert (await bench.webhooks.voice(twilio("/voice", bad, x_twilio_signature=None))).status == 403


# /voice


async def test_parameters_of_the_webhooks_url_are_values_of_the_call(bench):
    await bench.webhooks.voice(twilio("/voice", RINGING, query="tenant=a%20b&tenant=c&empty="))
    (call,) = bench.asked
    found = {name: text for name, text in call.values.items() if name.startswith("param.")}
    assert found == {"param.tenant": "c", "param.empty": ""}


async def test_voice_opens_one_session_and_answers_its_stream(bench):
    response = await bench.voice()
    assert verbs(response) == STREAM
    assert bench.asked == [
        CallInfo(CALL, "+15551234567", "", {f"form.{name}": text for name, text in RINGING}, "fake")
    ]
    token = bench.tokens.open_media(parameters_of(response))
    assert (token.call_sid, token.session) == (
        CALL,
        {
            "agents": ["fake"],
            "credentials": {"call_id": "id1", "access_token": "x"},
            "values": {},
            "route": "fake",
        },
    )
    root = ElementTree.fromstring(response.body)
    media = root.find("./Connect/Stream").attrib
    assert media["url"] == f"wss://voice.example.com/bridge/media/{token.media_id}"
    assert media["statusCallback"] == BASE + "/stream/status"
    assert re.fullmatch("[0-9a-f]{32}", token.media_id)
    redirect = root.find("Redirect")
    assert redirect.attrib == {"method": "POST"}
    url, _, state = redirect.text.partition("#")[0].partition("?s=")
    assert url == BASE + "/voice/resume"
    assert bench.tokens.open_resume(state).call_sid == CALL


async def test_same_call_again_gets_the_same_session_and_a_fresh_token(bench):
    first, second = await bench.voice(), await bench.voice()
    assert len(bench.asked) == 1
    assert parameters_of(first) != parameters_of(second)
    tokens = [bench.tokens.open_media(parameters_of(answer)) for answer in (first, second)]
    times = [at for token in tokens for at in (token.webhook_at, token.answered_at)]
    assert times[0] > 0 and times == sorted(times)
    assert len({repr(replace(token, webhook_at=0, answered_at=0)) for token in tokens}) == 1


async def test_same_call_in_parallel_gets_one_session(bench):
    bench.gate.clear()
    asked = [asyncio.create_task(bench.voice()) for _ in range(100)]
    await asyncio.sleep(0.01)
    bench.gate.set()
    tokens = [bench.tokens.open_media(parameters_of(response)) for response in await asyncio.gather(*asked)]
    assert len(bench.asked) == 1
    assert len({token.media_id for token in tokens}) == 1


async def test_voice_of_a_live_call_opens_nothing_new(bench):
    call = await bench.go_live()
    assert verbs(await bench.voice()) == STREAM
    assert len(bench.asked) == 1
    assert bench.calls.find(CALL).call is call


@pytest.mark.parametrize("record", MEDIA_RECORDS)
async def test_voice_of_a_call_that_is_over_does_what_is_left_of_it(bench, record):
    await bench.go_live()
    bench.calls.finish(CALL, record, 0.0, "+14155550100")
    assert verbs(await bench.voice()) == (TRANSFERRED if record is Outcome.TRANSFERRED else ["Hangup"])
    assert len(bench.asked) == 1


async def test_full_is_busy_for_new_calls_only(bench):
    for n in range(3):
        await bench.go_live(f"CA{n:032x}")
    response = await bench.voice()
    assert b'<Reject reason="busy" />' in response.body
    assert verbs(response) == ["Reject"]
    assert bench.refused("full") == 1
    assert verbs(await bench.voice(f"CA{0:032x}")) == STREAM


async def test_draining_gives_new_calls_the_fallback_and_known_ones_their_stream(bench):
    await bench.voice(OTHER_CALL)
    bench.calls.stop_admitting()
    assert verbs(await bench.voice()) == FALLBACK
    assert bench.refused("draining") == 1
    assert verbs(await bench.voice(OTHER_CALL)) == STREAM


async def test_draining_process_answers_new_calls_while_another_one_takes_their_sockets(bench):
    bench.calls.stop_admitting()
    bench.has_other = True
    assert verbs(await bench.voice()) == STREAM
    assert bench.refused("draining") == 0


@pytest.mark.parametrize(
    "error", [SessionError("status 500"), ValueError("an internal fault"), KeyError("x")]
)
async def test_no_session_is_answered_with_the_fallback_and_may_be_tried_again(bench, logs, error):
    def fail() -> dict[str, str]:
        raise error

    bench.answer = fail
    assert verbs(await bench.voice()) == FALLBACK
    bench.answer = dict
    assert verbs(await bench.voice()) == STREAM
    assert len(logs.faults()) == (not isinstance(error, SessionError))
    logs.records.clear()


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [("hangup", ["Hangup"]), ("dial:+15551234567", ["Dial", "Hangup"]), ("say:x", FALLBACK)],
)
async def test_fallback_is_the_operators(rule, wanted):
    bench = Bench(BRIDGE_FALLBACK=rule)
    bench.calls.stop_admitting()
    assert verbs(await bench.voice()) == wanted


async def test_what_a_caller_claims_to_be_stays_out_of_the_twiml(bench):
    pairs = [*RINGING[:3], ("From", '"/><Dial>1</Dial>')]
    response = await bench.webhooks.voice(twilio("/voice", pairs))
    assert b"Dial" not in response.body
    assert bench.asked[0].from_number == '"/><Dial>1</Dial>'


# /voice/resume


RESUMED = {
    Outcome.ENDED: ["Hangup"],
    Outcome.CALLER_LOST: STREAM,
    Outcome.AGENT_LOST: FALLBACK,
    Outcome.HANDED_OVER: STREAM,
    Outcome.TRANSFERRED: TRANSFERRED,
}


@pytest.mark.parametrize("record", MEDIA_RECORDS)
async def test_resume_is_answered_by_the_record(bench, record):
    await bench.go_live()
    bench.calls.finish(CALL, record, 0.0, "+14155550100")
    assert verbs(await bench.resume()) == RESUMED[record]


@pytest.mark.parametrize("why", [why for why in Why if ENDS[why].outcome is not None])
async def test_resume_after_each_end(bench, why):
    (await bench.go_live()).end(why, 1.0)
    call = bench.calls.find(CALL).call
    if call is not None:
        call.on_tick(1000.0)
        call.on_twilio_answered(1001.0)
    assert verbs(await bench.resume()) == RESUMED[ENDS[why].outcome]


async def test_resume_of_an_unknown_call_gets_the_fallback(bench):
    assert verbs(await bench.resume()) == FALLBACK


async def test_resume_of_a_call_whose_socket_was_never_accepted_gets_another_stream(bench):
    media_id = bench.tokens.open_media(parameters_of(await bench.voice())).media_id
    token = bench.tokens.open_media(parameters_of(await bench.resume()))
    assert token.media_id != media_id
    entry = bench.calls.find(CALL)
    assert (entry.phase, entry.media_id, bench.calls.admitted) == (Phase.ADMITTED, token.media_id, 1)


async def test_resume_of_a_live_call_proves_that_its_socket_is_gone(bench):
    call = await bench.go_live()
    assert verbs(await bench.resume()) == STREAM
    assert call.why is Why.CALLER_LOST


async def test_resume_while_the_last_words_play_hangs_up(bench):
    call = await bench.go_live()
    call.end(Why.AGENT_ENDED, 1.0)
    assert bench.calls.find(CALL).phase is Phase.LIVE
    assert verbs(await bench.resume()) == ["Hangup"]


async def test_resume_with_a_state_that_is_not_this_calls_gives_the_fallback_and_touches_nothing(bench):
    call = await bench.go_live()
    good = bench.tokens.seal_resume(ResumeState(CALL, 0, 0, []))
    media = bench.tokens.seal_media(bench.tokens.open_media(parameters_of(await bench.voice())))["token"]
    others = Tokens(["other"], 60).seal_resume(ResumeState(CALL, 0, 0, []))
    another = bench.tokens.seal_resume(ResumeState(OTHER_CALL, 0, 0, []))
    for state in (another, others, media, good[:-2], f"{good}&s={good}", "", "x", "%ff"):
        assert verbs(await bench.resume(state=state)) == FALLBACK
    assert call.why is None


async def test_call_that_ends_while_its_session_is_opened_hangs_up_and_frees_its_place(bench):
    bench.gate.clear()
    asking = asyncio.ensure_future(bench.voice())
    await until(lambda: bench.asked)
    await bench.webhooks.voice_status(twilio("/voice/status", [*RINGING[:2], ("CallStatus", "canceled")]))
    bench.gate.set()
    assert verbs(await asking) == ["Hangup"]
    assert bench.calls.admitted == 0


# Status callbacks


@pytest.mark.parametrize("status", ["completed", "busy", "failed", "no-answer", "canceled"])
async def test_status_of_a_call_that_is_over_tears_it_down(bench, status):
    call = await bench.go_live()
    request = twilio("/voice/status", [*RINGING[:2], ("CallStatus", status)])
    assert (await bench.webhooks.voice_status(request)).status == 204
    assert call.why is Why.CALL_COMPLETED
    assert verbs(await bench.resume()) == ["Hangup"]


async def test_status_of_an_admitted_call_frees_its_place(bench):
    await bench.voice()
    request = twilio("/voice/status", [*RINGING[:2], ("CallStatus", "completed")])
    await bench.webhooks.voice_status(request)
    assert bench.calls.admitted == 0


@pytest.mark.parametrize("status", ["ringing", "in-progress", "answered", "", "Completed"])
async def test_status_of_a_running_call_changes_nothing(bench, status):
    call = await bench.go_live()
    request = twilio("/voice/status", [*RINGING[:2], ("CallStatus", status)])
    assert (await bench.webhooks.voice_status(request)).status == 204
    assert call.why is None


async def test_status_of_an_unknown_call_is_taken(bench):
    for name in ("voice_status", "stream_status"):
        request = twilio("/x", [*RINGING[:2], ("CallStatus", "completed"), ("StreamEvent", "stream-error")])
        assert (await getattr(bench.webhooks, name)(request)).status == 204
    assert bench.calls.find(CALL) is None
