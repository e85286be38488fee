"""Tokens: what is sealed comes back once whole, and nothing else opens."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import fernet
from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.sessions import VALUES_BYTES
from bridge.http.messages import FrontLimits
from bridge.seal import Seal
from bridge.twilio.tokens import BadToken, MediaToken, ResumeState, Tokens

SESSION = {
    "agents": ["retell", "echo"],
    "credentials": {"call_id": "abc", "access_token": "secret-text"},
    "values": {},
}
TOKEN = MediaToken("CA" + "0" * 32, "f" * 32, SESSION, "+14155550123", "+14155550100")
STATE = ResumeState(
    "CA" + "0" * 32, 1, 1_700_000_000, ["echo"], ["retell", "echo"], {"name": "x"}, [1_700_000_000]
)
MEDIA_S = 60
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1_700_000_000.0

        def time(self) -> float:
            return self.now

    clock = Clock()
    monkeypatch.setattr(fernet, "time", clock)
    return clock


def make(*auth_tokens: str) -> Tokens:
    return Tokens(auth_tokens or ["auth"], MEDIA_S)


def is_refused(tokens: Tokens, parameters: dict[str, str]) -> bool:
    try:
        tokens.open_media(parameters)
    except BadToken:
        return True
    return False


def test_media_token_comes_back():
    assert make().open_media(make().seal_media(TOKEN)) == TOKEN


def test_resume_state_comes_back_and_needs_no_escaping():
    text = make().seal_resume(STATE)
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", text)
    assert make().open_resume(text) == STATE


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=300), max_size=5), st.text(max_size=40))
def test_any_session_comes_back(session, agent):
    token = MediaToken(TOKEN.call_sid, TOKEN.media_id, {"agents": [agent], "credentials": session}, "", "")
    assert make().open_media(make().seal_media(token)) == token


@pytest.mark.parametrize("chars", [0, 1, 1500, 8192])
def test_long_token_is_split_within_twilios_limit(chars):
    token = replace(TOKEN, session={"call_id": "abc", "access_token": "x" * chars})
    parameters = make().seal_media(token)
    assert all(len(name) + len(value) < 500 for name, value in parameters.items())
    assert list(parameters) == ["token", *(f"token{n}" for n in range(1, len(parameters)))]
    assert (len(parameters) > 3) is (chars >= 1500)
    assert make().open_media(dict(reversed(parameters.items()))) == token


def test_other_parameters_are_not_looked_at():
    assert make().open_media({"name": "x", "tokens": "y", "Token": "z", **make().seal_media(TOKEN)}) == TOKEN


def test_secrets_are_not_readable():
    text = "".join(make().seal_media(TOKEN).values())
    for layer in (text.encode(), base64.urlsafe_b64decode(text)):
        assert b"secret-text" not in layer
        assert TOKEN.call_sid.encode() not in layer


# What is refused


@pytest.mark.parametrize(
    ("passed_s", "opens"),
    [(0, True), (MEDIA_S, True), (MEDIA_S + 1, False), (86400, False), (-60, True), (-61, False)],
)
def test_media_token_is_good_for_its_time_and_a_minute_of_clock_skew(clock, passed_s, opens):
    parameters = make().seal_media(TOKEN)
    clock.now += passed_s
    assert is_refused(make(), parameters) is not opens


def test_resume_state_does_not_expire(clock):
    text = make().seal_resume(STATE)
    clock.now += 86400
    assert make().open_resume(text) == STATE


@pytest.mark.parametrize("chars", [0, 1, 2, 16, 32])
def test_every_flipped_bit_of_every_character_is_refused(chars):
    # The lengths differ in how many bits of the last base64 character stand for nothing.
    tokens = make()
    text = tokens.seal_media(replace(TOKEN, session={"a": "x" * chars}))["token"]
    for at, character in enumerate(text):
        for bit in range(7):
            flipped = text[:at] + chr(ord(character) ^ (1 << bit)) + text[at + 1 :]
            assert is_refused(tokens, {"token": flipped}), (at, bit)


@pytest.mark.parametrize("chars", [0, 1, 2, 16, 32])
def test_every_flipped_bit_of_every_byte_is_refused(chars):
    tokens = make()
    data = base64.urlsafe_b64decode(tokens.seal_media(replace(TOKEN, session={"a": "x" * chars}))["token"])
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            assert is_refused(tokens, {"token": base64.urlsafe_b64encode(flipped).decode()}), (at, bit)


@pytest.mark.parametrize("chars", [0, 1, 2])
def test_other_spellings_of_the_same_bytes_are_refused(chars):
    tokens = make()
    text = tokens.seal_media(replace(TOKEN, session={"a": "x" * (chars * 16)}))["token"]
    spelt_otherwise = [
        text + "=",
        text + "====",
        text + "AAAA",
        text + "\n",
        " " + text,
        text[:10] + "\r\n" + text[10:],
        text[:10] + "!" + text[10:],
        text[:-1],
        text[:-4],
        text[1:],
        text.replace("-", "+").replace("_", "/") + ("" if set("-_") & set(text) else "?"),
        text.rstrip("=") + "=" * (4 + len(text) - len(text.rstrip("="))),
    ]
    for other in spelt_otherwise:
        assert is_refused(tokens, {"token": other}), other


@given(st.dictionaries(st.from_regex(r"token[0-9]{0,3}", fullmatch=True), st.text(max_size=50), max_size=4))
def test_any_text_is_refused(parameters):
    """Any parameters raise BadToken, never another exception."""
    assert is_refused(make(), parameters)


def test_token_of_another_purpose_is_refused():
    tokens = make()
    assert is_refused(tokens, {"token": tokens.seal_resume(STATE)})
    with pytest.raises(BadToken):
        tokens.open_resume(tokens.seal_media(TOKEN)["token"])


def test_wrong_pieces_are_refused():
    tokens = make()
    long = replace(TOKEN, session={"access_token": "x" * 1500})
    parameters = tokens.seal_media(long)
    other = tokens.seal_media(long)
    for name in parameters:
        without = {key: value for key, value in parameters.items() if key != name}
        assert is_refused(tokens, without)
        assert is_refused(tokens, {**parameters, name: other[name]})
    assert is_refused(tokens, {**parameters, "token": parameters["token1"], "token1": parameters["token"]})
    assert is_refused(tokens, {**parameters, f"token{len(parameters)}": "A"})
    assert is_refused(tokens, {})


# Keys


def test_token_of_another_account_is_refused():
    assert is_refused(make("other"), make("auth").seal_media(TOKEN))


def test_both_keys_open_while_one_is_rotated_and_the_first_seals():
    old, both, new = make("old"), make("new", "old"), make("new")
    assert both.open_media(old.seal_media(TOKEN)) == TOKEN
    assert new.open_media(both.seal_media(TOKEN)) == TOKEN
    assert is_refused(old, both.seal_media(TOKEN))


def test_without_an_auth_token_the_key_is_random():
    first, second = Tokens([], MEDIA_S), Tokens([], MEDIA_S)
    assert first.open_media(first.seal_media(TOKEN)) == TOKEN
    assert is_refused(second, first.seal_media(TOKEN))


def test_state_with_the_most_values_fits_the_target_of_a_request():
    call_sid, values = "CA" + "0" * 32, {"form.a": "\x01" * ((VALUES_BYTES - len('{"form.a":""}')) // 6)}
    chain = [64 * "a", 64 * "b", 64 * "c", 64 * "d"]
    state = ResumeState(call_sid, 9, 1_700_000_000, chain, chain, values, [1_700_000_000, 1_700_000_000])
    assert len(f"/voice/resume?s={make().seal_resume(state)}") < FrontLimits().target_bytes / 2


# Another version


def test_what_the_version_before_sealed_is_read():
    sealed = json.loads((DATA / "sealed_before_new_streams.json").read_text())
    token = Tokens(["auth"], 1_000_000_000).open_media(sealed["media"])
    session = {"agents": ["retell", "echo"], "credentials": {"call_id": "abc"}, "values": {}}
    assert token == MediaToken(
        "CA" + "0" * 32, "f" * 32, session, "+14155550123", "+14155550100", 1, is_successor=False
    )
    state = make().open_resume(sealed["resume"])
    assert state == ResumeState(
        "CA" + "0" * 32, 1, 1_700_000_000, ["echo"], chain=[], values={}, reattached_at=[]
    )


def test_fields_of_a_newer_version_are_ignored_and_missing_ones_have_defaults():
    sealed = Seal(["auth"]).seal(
        "media",
        {
            "call_sid": "CA1",
            "media_id": "m",
            "session": {},
            "from_number": "",
            "to_number": "",
            "added": 1,
        },
    )
    assert Tokens(["auth"], 60).open_media({"token": sealed}) == MediaToken("CA1", "m", {}, "", "", 0)


def test_token_without_what_it_is_about_is_refused():
    sealed = Seal(["auth"]).seal("media", {"call_sid": "CA1"})
    with pytest.raises(BadToken):
        Tokens(["auth"], 60).open_media({"token": sealed})
