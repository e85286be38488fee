"""What the log says of refused requests, and how often."""

import pytest
from multidict import MultiDict
from structlog.testing import capture_logs
from twilio.request_validator import RequestValidator
from webhook_bench import Bench

from bridge.http.messages import Request
from bridge.metrics import Metrics
from bridge.server.refusal_hints import NO_FORM, NOT_A_FORM, OTHER_ACCOUNT, OTHER_KEY
from bridge.server.refusals import SHOWN_CHARS, Refusals
from bridge.twilio.signature import Signatures

CALL_SID = "CA" + "0" * 32
MEDIA = "/media/" + "0" * 32
FORM = MultiDict(CallSid=CALL_SID, From="+15550100")


class Scene:
    def __init__(self, is_checked: bool = True) -> None:
        self.now = 0.0
        self.metrics = Metrics()
        signatures = Signatures(["auth"], "https://voice.example.com", "wss://voice.example.com")
        account_sid = "AC" + 32 * "a"
        self.refusals = Refusals(signatures, self.metrics, is_checked, lambda: self.now, account_sid)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def request(path: str = "/voice", method: str = "POST", **headers: str) -> Request:
    by_name = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return Request(method, path, "s=secret-state", by_name, b"", "192.0.2.1")


def signed(url: str, form: MultiDict[str]) -> str:
    return RequestValidator("auth").compute_signature(url, form)


def test_wrong_signature_is_told_with_all_that_the_check_used(scene):
    with capture_logs() as lines:
        response = scene.refusals.webhook(
            request(
                host="10.0.0.1",
                x_forwarded_host="a.example",
                x_forwarded_proto="http",
                x_twilio_signature="x",
            ),
            "signature",
            FORM,
        )
    assert response.status == 403
    assert lines == [
        {
            "event": "request refused",
            "log_level": "warning",
            "reason": "signature",
            "others": 0,
            "path": "/voice",
            "peer": "192.0.2.1",
            "host": "10.0.0.1",
            "forwarded_host": "a.example",
            "forwarded_proto": "http",
            "has_signature": True,
            "checked_url": "https://voice.example.com/voice",
            "call_sid": CALL_SID,
            "hint": OTHER_KEY,
        }
    ]


def test_public_url_that_twilio_signed_for_is_named(scene):
    signature = signed("https://tunnel.example/voice?s=secret-state", FORM)
    with capture_logs() as lines:
        scene.refusals.webhook(
            request(host="tunnel.example", x_twilio_signature=signature), "signature", FORM
        )
    assert "set PUBLIC_URL=https://tunnel.example, or correct the webhook" in lines[0]["hint"]


def test_upgrade_says_so_too(scene):
    signature = signed(f"wss://tunnel.example{MEDIA}", MultiDict())
    with capture_logs() as lines:
        scene.refusals.upgrade(
            request(MEDIA, "GET", host="tunnel.example", x_twilio_signature=signature), MEDIA
        )
    assert lines[0]["checked_url"] == f"wss://voice.example.com{MEDIA}"
    assert "was made with PUBLIC_URL=https://tunnel.example: give all processes" in lines[0]["hint"]


@pytest.mark.parametrize("host", ["evil.example/\nx", "a" * 300, "", "a:99999", "a:1:2", "[::1"])
def test_host_of_a_wrong_shape_is_not_tried(scene, host):
    with capture_logs() as lines:
        scene.refusals.webhook(request(host=host, x_twilio_signature="x"), "signature", FORM)
    assert lines[0]["hint"] == OTHER_KEY
    assert len(lines[0]["host"]) <= SHOWN_CHARS


@pytest.mark.parametrize(
    ("header", "value", "prefix"),
    [
        ("x-forwarded-prefix", "/a/b", "/a/b"),
        ("x-forwarded-uri", "/a/voice?s=secret-state", "/a"),
        ("x-original-url", "/a/voice", "/a"),
        ("x-envoy-original-path", "/a/voice", "/a"),
        ("x-forwarded-prefix", "/a\nb", None),
        ("x-forwarded-prefix", "/" + 300 * "a", None),
        ("x-original-uri", "/another/path", None),
    ],
)
def test_prefix_that_a_proxy_has_taken_away_is_tried_by_its_own_word(scene, header, value, prefix):
    signature = signed(f"https://voice.example.com{prefix}/voice?s=secret-state", FORM)
    with capture_logs() as lines:
        scene.refusals.webhook(request(x_twilio_signature=signature, **{header: value}), "signature", FORM)
    hint = lines[0]["hint"]
    assert f"set PUBLIC_URL=https://voice.example.com{prefix}," in hint if prefix else hint == OTHER_KEY


@pytest.mark.parametrize(
    ("reason", "form", "hint"),
    [
        ("signature", {}, NO_FORM),
        ("signature", {"AccountSid": "AC" + 32 * "b"}, OTHER_ACCOUNT),
        ("signature", {"AccountSid": "<script>"}, OTHER_KEY),
        ("account_sid", {"AccountSid": "AC" + 32 * "b"}, OTHER_ACCOUNT),
        ("account_sid", {"Other": "field"}, NOT_A_FORM),
    ],
)
def test_account_of_the_form_decides_what_to_change(scene, reason, form, hint):
    with capture_logs() as lines:
        scene.refusals.webhook(request(x_twilio_signature="x"), reason, MultiDict(form))
    assert lines[0]["hint"] == hint
    assert ("account_sid" in lines[0]) is (hint == OTHER_ACCOUNT)


def test_call_sid_of_a_wrong_shape_and_the_state_in_the_query_are_not_shown(scene):
    with capture_logs() as lines:
        scene.refusals.webhook(request(), "call_sid", MultiDict(CallSid="<script>"))
    assert "call_sid" not in lines[0]
    assert "secret-state" not in str(lines)


def test_flood_of_refusals_is_one_line_a_second_with_their_number(scene):
    with capture_logs() as lines:
        for n in range(500):
            scene.now = n / 100
            scene.refusals.webhook(request(), "signature")
            scene.refusals.upgrade(request(MEDIA, "GET"), MEDIA)
    webhooks = [line for line in lines if line["event"] == "request refused"]
    assert [line["others"] for line in webhooks] == [0, 99, 99, 99, 99]
    assert len(lines) == 10
    assert 'bridge_calls_refused_total{reason="signature"} 500.0' in scene.metrics.text().decode()


@pytest.mark.parametrize(
    ("path", "method", "status", "reason", "hint"),
    [
        ("/voice", "GET", 405, "method", "HTTP POST"),
        ("/voice/", "POST", 404, "path", "put https://voice.example.com/voice in"),
        ("/", "POST", 405, "path", "put https://voice.example.com/voice in"),
        (MEDIA, "GET", 404, "no_upgrade", "Upgrade"),
        ("/voice", "POST", 415, "not_a_form", "pass on the form"),
    ],
)
def test_request_of_twilios_that_goes_astray_says_what_to_change(scene, path, method, status, reason, hint):
    with capture_logs() as lines:
        for _ in range(3):
            scene.refusals.misdirected(request(path, method, x_twilio_signature="x"), path, status)
    [line] = lines
    assert (line["reason"], line["status"]) == (reason, status)
    assert hint in line["hint"]


def test_what_scanners_send_is_one_line_a_minute(scene):
    with capture_logs() as lines:
        for n in range(200):
            scene.now = float(n)
            scene.refusals.not_http("tls", "192.0.2.1")
    assert [(line["reason"], line["others"]) for line in lines] == [
        ("tls", others) for others in (0, 59, 59, 59)
    ]


def test_strangers_on_wrong_paths_leave_no_line(scene):
    with capture_logs() as lines:
        scene.refusals.misdirected(request("/wp-login.php", "GET"), "/wp-login.php", 404)
    assert lines == []


def test_nothing_is_said_of_a_check_that_is_off():
    scene = Scene(is_checked=False)
    with capture_logs() as lines:
        scene.refusals.webhook(request(), "call_sid", FORM)
    assert "checked_url" not in lines[0]


async def test_json_in_place_of_the_form_is_named_in_the_log():
    bench = Bench()
    with capture_logs() as lines:
        response = await bench.webhooks.voice(
            request(content_type="application/json", x_twilio_signature="x")
        )
    assert response.status == 415
    [line] = lines
    assert (line["reason"], line["path"]) == ("not_a_form", "/voice")
    assert "pass on the form" in line["hint"]
