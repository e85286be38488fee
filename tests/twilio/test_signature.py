"""Signatures of Twilio's, with Twilio's own validator as the oracle, and what must not pass."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from twilio.request_validator import RequestValidator

from bridge.twilio.signature import Signatures

BASE = "https://voice.example.com"
STREAM_BASE = "wss://voice.example.com"
ID_PATH = "/media/" + "0" * 32
FORM = MultiDict([("CallSid", "CA1"), ("ToZip", ""), ("From", "+15551234567")])

TEXT = st.text(st.characters(codec="utf-8"), max_size=10)
FORMS = st.lists(st.tuples(st.sampled_from(["A", "a", "B", "Body", ""]) | TEXT, TEXT), max_size=8)


def signed(text: str, token: str = "auth", algorithm: str = "sha1") -> str:
    return base64.b64encode(hmac.new(token.encode(), text.encode(), algorithm).digest()).decode()


def make(*tokens: str, base: str = BASE, stream_base: str = STREAM_BASE) -> Signatures:
    return Signatures(tokens or ["auth"], base, stream_base)


# Webhooks


@pytest.mark.parametrize("signed_fragment", ["", "#rc=2&rp=ct,5xx"])
def test_overrides_in_the_url_are_good_whether_twilio_signs_them_or_not(signed_fragment):
    signature = signed(f"{BASE}/voice/resume?s=x{signed_fragment}" + "CallSidCA1From+15551234567ToZip")
    carrying = Signatures(["auth"], BASE, STREAM_BASE, "#rc=2&rp=ct,5xx")
    assert carrying.is_webhook("/voice/resume", "s=x", FORM, signature)
    assert make().is_webhook("/voice/resume", "s=x", FORM, signature) is (not signed_fragment)
    assert not carrying.is_webhook("/voice/resume", "s=y", FORM, signature)


def test_twilios_known_vector():
    form = MultiDict(
        CallSid="CA1234567890ABCDE",
        Caller="+14158675309",
        Digits="1234",
        From="+14158675309",
        To="+18005551212",
    )
    signatures = make("12345", base="https://mycompany.com")
    signature = "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    assert signatures.is_webhook("/myapp.php", "foo=1&bar=2", form, signature)
    form["Digits"] = "1235"
    assert not signatures.is_webhook("/myapp.php", "foo=1&bar=2", form, signature)


@given(FORMS, st.sampled_from(["", "s=abc", "s=%20+x"]))
def test_any_form_with_empty_and_repeated_values_is_judged_as_by_twilios_validator(pairs, query):
    form = MultiDict(pairs)
    url = f"{BASE}/voice" + (f"?{query}" if query else "")
    signature = RequestValidator("auth").compute_signature(url, form)
    assert make().is_webhook("/voice", query, form, signature)
    assert not make().is_webhook("/voice", query, MultiDict([*pairs, ("Extra", "x")]), signature)


@given(FORMS)
def test_signed_text_is_the_url_and_the_sorted_names_and_values(pairs):
    text = BASE + "/voice" + "".join(name + value for name, value in sorted(set(pairs)))
    assert make().is_webhook("/voice", "", MultiDict(pairs), signed(text))


@pytest.mark.parametrize("base", [BASE, "https://voice.example.com:8443", "https://h.example/bridge"])
def test_url_is_the_configured_one(base):
    signature = RequestValidator("auth").compute_signature(f"{base}/voice", FORM)
    assert make(base=base).is_webhook("/voice", "", FORM, signature)
    assert not make(base="https://other.example").is_webhook("/voice", "", FORM, signature)


@pytest.mark.parametrize(
    "url",
    [
        "http://voice.example.com/voice",
        "https://voice.example.com/voice/",
        "https://voice.example.com/voice?x=1",
        "https://voice.example.com:8443/voice",
        "https://VOICE.example.com/voice",
        "https://voice.example.com/voice/resume",
    ],
)
def test_signature_of_another_url_is_refused(url):
    signature = RequestValidator("auth").compute_signature(url, FORM)
    assert not make().is_webhook("/voice", "", FORM, signature)


def test_percent_encoding_of_the_query_is_untouched():
    signature = RequestValidator("auth").compute_signature(f"{BASE}/voice?s=%7b", FORM)
    assert make().is_webhook("/voice", "s=%7b", FORM, signature)
    assert not make().is_webhook("/voice", "s=%7B", FORM, signature)
    assert not make().is_webhook("/voice", "s={", FORM, signature)


@pytest.mark.parametrize(
    "signature", [None, "", " ", "x", "é" * 28, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", signed("", "auth")]
)
def test_missing_or_wrong_signature_is_refused(signature):
    assert not make().is_webhook("/voice", "", FORM, signature)
    assert not make().is_upgrade(ID_PATH, signature)


def test_signature_by_another_token_or_algorithm_is_refused():
    text = f"{BASE}/voice"
    assert make().is_webhook("/voice", "", MultiDict(), signed(text))
    assert not make().is_webhook("/voice", "", MultiDict(), signed(text, "other"))
    assert not make().is_webhook("/voice", "", MultiDict(), signed(text, algorithm="sha256"))
    assert not make().is_webhook("/voice", "", MultiDict(), signed(text).lower())


@pytest.mark.parametrize(
    "query", ["bodySHA256=" + hashlib.sha256(b"{}").hexdigest(), "x=1&bodySHA256=", "bodySHA256"]
)
def test_url_that_stands_for_a_json_body_is_refused(query):
    for form in (MultiDict(), FORM):
        signature = RequestValidator("auth").compute_signature(f"{BASE}/voice?{query}", form)
        assert not make().is_webhook("/voice", query, form, signature)


# Upgrades


@pytest.mark.parametrize(
    ("stream_base", "signed_url", "passes"),
    [
        ("wss://h.example", "wss://h.example", True),
        ("wss://h.example", "wss://h.example:443", True),
        ("wss://h.example:443", "wss://h.example", True),
        ("wss://h.example:443", "wss://h.example:443", True),
        ("wss://h.example:8443", "wss://h.example:8443", True),
        ("wss://h.example/a/b", "wss://h.example/a/b", True),
        ("wss://h.example/a/b", "wss://h.example:443/a/b", True),
        ("ws://h.example", "ws://h.example", True),
        ("ws://h.example", "ws://h.example:80", True),
        ("ws://h.example:80", "ws://h.example", True),
        ("ws://127.0.0.1:3000", "ws://127.0.0.1:3000", True),
        ("wss://[2001:db8::1]", "wss://[2001:db8::1]", True),
        ("wss://[2001:db8::1]", "wss://[2001:db8::1]:443", True),
        ("wss://[2001:db8::1]:443", "wss://[2001:db8::1]", True),
        ("wss://[2001:db8::1]:3000", "wss://[2001:db8::1]:3000", True),
        ("wss://h.example", "https://h.example", False),
        ("wss://h.example", "ws://h.example", False),
        ("wss://h.example", "wss://h.example:8443", False),
        ("wss://h.example:8443", "wss://h.example:443", False),
        ("ws://h.example", "ws://h.example:443", False),
        ("wss://h.example", "wss://other.example", False),
        ("wss://h.example/a", "wss://h.example", False),
    ],
)
def test_upgrade_is_signed_over_the_streams_url_with_or_without_its_own_port(stream_base, signed_url, passes):
    signatures = make(stream_base=stream_base)
    assert signatures.is_upgrade(ID_PATH, signed(signed_url + ID_PATH)) is passes


@pytest.mark.parametrize("path", [ID_PATH + "/", "/media/" + "1" * 32, "", "/"])
def test_upgrade_signed_for_another_path_is_refused(path):
    assert not make().is_upgrade(ID_PATH, signed(STREAM_BASE + path))
    assert not make().is_upgrade(path, signed(STREAM_BASE + ID_PATH))


# Rotation


@pytest.mark.parametrize("token", ["new", "old"])
def test_each_listed_token_is_good(token):
    signatures = make("new", "old")
    assert signatures.is_webhook("/voice", "", MultiDict(), signed(f"{BASE}/voice", token))
    assert signatures.is_upgrade(ID_PATH, signed(STREAM_BASE + ID_PATH, token))


def test_without_a_token_nothing_is_good():
    signatures = Signatures([], BASE, STREAM_BASE)
    assert not signatures.is_webhook("/voice", "", MultiDict(), signed(f"{BASE}/voice", ""))
    assert not signatures.is_upgrade(ID_PATH, signed(STREAM_BASE + ID_PATH, ""))


# A wrong public URL


@pytest.mark.parametrize(
    ("base", "signed_base", "hosts", "found"),
    [
        (BASE, "http://voice.example.com", [], "http://voice.example.com"),
        (BASE, "https://other.example.com", ["other.example.com"], "https://other.example.com"),
        (
            BASE,
            "https://other.example.com:8443",
            ["10.0.0.1:8080", "other.example.com:8443"],
            "https://other.example.com:8443",
        ),
        (f"{BASE}/bridge", BASE, [], BASE),
        (
            f"{BASE}/bridge",
            "http://other.example.com/bridge",
            ["other.example.com"],
            "http://other.example.com/bridge",
        ),
        (BASE, "https://unknown.example.com", ["other.example.com"], None),
        (BASE, BASE, [], BASE),
    ],
)
def test_base_url_that_explains_a_signature_is_found(base, signed_base, hosts, found):
    signatures = make(base=base)
    url = signatures.webhook_url("/voice/resume", "s=abc")
    signature = RequestValidator("auth").compute_signature(f"{signed_base}/voice/resume?s=abc", FORM)
    assert signatures.find_base(url, FORM, signature, hosts) == found
    assert signatures.find_base(url, FORM, signed("other"), hosts) is None
    assert signatures.find_base(url, FORM, None, hosts) is None


def test_base_url_that_explains_the_signature_of_an_upgrade_is_found():
    signatures = make()
    signature = signed(f"wss://other.example.com{ID_PATH}")
    found = signatures.find_base(
        signatures.upgrade_url(ID_PATH), MultiDict(), signature, ["other.example.com"]
    )
    assert found == "https://other.example.com"
