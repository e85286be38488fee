"""Retell's webhook: only its own signature over the raw body counts, and each event once."""

import hmac
import time

import pytest
from webhook_bench import BASE, Bench

from bridge.agents.vendors.retell import is_webhook_of_retell
from bridge.call.ends import Why
from bridge.http.messages import Request, Response
from bridge.server import retell_webhook

KEY = "key_test"
KNOWN_BODY = b'{"event":"call_started","call":{"call_id":"abc"}}'
KNOWN_MS = 1_700_000_000_000
KNOWN_SIGNATURE = "v=1700000000000,d=3ad46da7fc093c64685db60c479041346365e52523655af889c0eb59b1983b89"
ENDED = b'{"event":"call_ended","call":{"call_id":"id1"}}'


def sign(body: bytes, ms: int, key: str = KEY) -> str:
    return f"v={ms},d={hmac.new(key.encode(), body + str(ms).encode(), 'sha256').hexdigest()}"


@pytest.fixture
async def bench(monkeypatch) -> Bench:
    for name in ("RETELL_API_KEY", "PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    return Bench()


async def post(bench: Bench, body: bytes, signature: str | None = None) -> Response:
    now_ms = int(time.time() * 1000)
    headers = {"x-retell-signature": (sign(body, now_ms) if signature is None else signature,)}
    return await bench.retell.handle(Request("POST", "/retell/webhook", "", headers, body, "127.0.0.1"))


def test_known_vector():
    assert is_webhook_of_retell(KNOWN_BODY, KNOWN_SIGNATURE, KEY, KNOWN_MS)


@pytest.mark.parametrize(
    ("age_ms", "passes"), [(0, True), (300_000, True), (300_001, False), (-300_000, True), (-300_001, False)]
)
def test_signature_is_good_for_five_minutes(age_ms, passes):
    assert is_webhook_of_retell(KNOWN_BODY, KNOWN_SIGNATURE, KEY, KNOWN_MS + age_ms) is passes


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "v=1700000000000",
        KNOWN_SIGNATURE.upper(),
        KNOWN_SIGNATURE + "0",
        KNOWN_SIGNATURE + "\n",
        KNOWN_SIGNATURE[:-1] + "8",
        KNOWN_SIGNATURE.replace("v=17", "v=016"),
        KNOWN_SIGNATURE.replace("v=1700000000000", "v=1700000000001"),
        KNOWN_SIGNATURE.replace(",", ", "),
        "v=١,d=" + "0" * 64,
        sign(KNOWN_BODY, KNOWN_MS, "other"),
    ],
)
def test_other_signature_is_refused(signature):
    assert not is_webhook_of_retell(KNOWN_BODY, signature, KEY, KNOWN_MS)


def test_body_spelt_otherwise_is_refused():
    assert not is_webhook_of_retell(KNOWN_BODY.replace(b",", b", "), KNOWN_SIGNATURE, KEY, KNOWN_MS)


async def test_request_without_a_good_signature_is_refused(bench):
    call = await bench.go_live()
    old = sign(ENDED, int(time.time() * 1000) - 301_000)
    for signature in ("", "x", old, sign(ENDED, int(time.time() * 1000), "other")):
        assert (await post(bench, ENDED, signature)).status == 403
    assert call.why is None


async def test_without_a_key_nothing_is_taken(monkeypatch):
    bench = Bench(BRIDGE_VALIDATE_SIGNATURES="0", BRIDGE_AGENT="echo", RETELL_API_KEY="", PUBLIC_URL=BASE)
    assert (await post(bench, ENDED, sign(ENDED, int(time.time() * 1000), ""))).status == 403


async def test_end_of_a_live_call_lets_its_last_words_play(bench):
    call = await bench.go_live()
    assert (await post(bench, ENDED)).status == 204
    assert call.why is Why.AGENT_ENDED


@pytest.mark.parametrize(
    "body",
    [
        b'{"event":"call_started","call":{"call_id":"id1"}}',
        b'{"event":"call_analyzed","call":{"call_id":"id1"}}',
        b'{"event":"transcript_updated","call":{"call_id":"id1"}}',
        b'{"event":"call_ended","call":{"call_id":"another"}}',
        b'{"event":"call_ended","call":{"call_id":null}}',
        b'{"event":["call_ended"],"call":{"call_id":"id1"}}',
        b'{"event":{},"call":{"call_id":"id1"}}',
    ],
)
async def test_other_event_is_taken_and_ends_nothing(bench, body):
    call = await bench.go_live()
    assert (await post(bench, body)).status == 204
    assert call.why is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"x"',
        b"{}",
        b'{"event":"call_ended"}',
        b'{"event":"call_ended","call":"id1"}',
    ],
)
async def test_signed_nonsense_is_a_bad_request(bench, body):
    assert (await post(bench, body)).status == 400


async def test_replay_is_dropped_even_with_a_fresh_signature(bench):
    assert (await post(bench, ENDED)).status == 204
    call = await bench.go_live()
    assert (await post(bench, ENDED)).status == 204
    assert (await post(bench, ENDED, sign(ENDED, int(time.time() * 1000) - 1000))).status == 204
    assert call.why is None


async def test_memory_of_events_is_bounded(bench, monkeypatch):
    monkeypatch.setattr(retell_webhook, "REPLAYS_REMEMBERED", 3)
    for n in range(10):
        await post(bench, b'{"event":"call_started","call":{"call_id":"%d"}}' % n)
    assert bench.retell.remembered == 3
