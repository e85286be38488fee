"""The page's login on a fake clock: passwords, cookies, and requests of other sites' pages."""

import pytest

from bridge.http.messages import Request
from bridge.server.page.login import COOKIE, TRIES, TRY_EVERY_S, Login

PASSWORD = "correct horse battery"
PUBLIC_URL = "https://voice.example.com"


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def login(password=PASSWORD, secrets=("token",), clock=None):
    return Login(password, secrets, PUBLIC_URL, clock or Clock())


def request(body="", peer="192.0.2.1", **headers):
    fields = {"host": "voice.example.com", **headers}
    return Request(
        "POST",
        "/",
        "",
        {name.replace("_", "-"): (text,) for name, text in fields.items() if text},
        body.encode(),
        peer,
    )


def cookie_of(of):
    name, text = of.cookie(request(), "/")
    assert name == "Set-Cookie"
    assert text.endswith("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure")
    return text.partition(";")[0]


def test_cookie_is_good_at_every_process_with_the_same_secrets_and_password():
    cookie = cookie_of(login())
    assert login().is_in(request(cookie=cookie))
    assert login(secrets=("new", "token")).is_in(request(cookie=f"a=b; {cookie}"))
    assert not login(secrets=("other",)).is_in(request(cookie=cookie))
    assert not login("another password").is_in(request(cookie=cookie))


@pytest.mark.parametrize("cookie", ["", "a=b", f"{COOKIE}=", f"{COOKIE}=abc", '"', "=;=", "\xff=\xff"])
def test_request_without_a_sealed_cookie_gets_nothing(cookie):
    assert not login().is_in(request(cookie=cookie))
    assert login().refusal(request(cookie=cookie)).status == 401


def test_cookie_for_this_machine_needs_no_https():
    _, text = login().cookie(request(host="localhost:3000"), "/")
    assert "Secure" not in text


@pytest.mark.parametrize(
    ("headers", "is_foreign"),
    [
        ({"origin": PUBLIC_URL}, False),
        ({"origin": PUBLIC_URL, "host": "VOICE.example.com"}, False),
        ({"origin": PUBLIC_URL, "host": "voice.example.com:443"}, False),
        # A proxy on this machine that puts its own Host.
        ({"origin": PUBLIC_URL, "host": "127.0.0.1:3000"}, False),
        ({"origin": "http://localhost:3000", "host": "localhost:3000"}, False),
        ({"origin": "http://[::1]:3000", "host": "[::1]:3000"}, False),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": "http://localhost:8000", "host": "localhost:3000"}, True),
        ({"origin": f"{PUBLIC_URL}.evil.example"}, True),
        # A rebound name: Host and Origin agree with each other.
        ({"origin": "http://evil.example", "host": "evil.example"}, True),
        ({"origin": "http://127.0.0.1.evil.example", "host": "127.0.0.1.evil.example"}, True),
        ({"origin": PUBLIC_URL, "host": ""}, True),
        ({"origin": PUBLIC_URL, "host": "[::1"}, True),
        ({"origin": PUBLIC_URL, "sec_fetch_site": "same-site"}, True),
        ({}, True),
    ],
)
def test_form_is_of_the_page_itself(headers, is_foreign):
    asked = request(**headers)
    assert login().is_foreign(asked, needs_origin=True) is is_foreign
    assert (login().refusal(asked, needs_origin=True).status == 403) is is_foreign


def test_data_need_no_origin_but_none_of_another_site():
    assert not login().is_foreign(request(), needs_origin=False)
    assert login().is_foreign(request(origin="https://evil.example"), needs_origin=False)


def test_without_a_password_only_this_machine_gets_data():
    development = login("", ())
    local = {"peer": "127.0.0.1", "host": "localhost:3000"}
    assert development.refusal(request(**local)) is None
    assert development.refusal(request(**local, x_forwarded_for="192.0.2.1")).status == 403
    assert development.refusal(request(**{**local, "peer": "192.0.2.1"})).status == 403
    # A tunnel's name, which PUBLIC_URL has, is open to everyone.
    assert development.refusal(request(peer="127.0.0.1")).status == 403


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("password=correct+horse+battery", True),
        ("password=correct%20horse%20battery", True),
        ("password=wrong", False),
        ("", False),
        ("password=", False),
        ("password=correct+horse+battery&password=x", False),
        ("a=1&" * 10, False),
        ("password=%ff", False),
        ("pässword", False),
    ],
)
def test_only_the_password_opens(body, expected):
    assert login().is_right(request(body)) is expected


def test_of_a_thousand_wrong_passwords_in_an_hour_few_are_looked_at():
    clock = Clock()
    subject = login(clock=clock)
    looked_at = 0
    for n in range(1000):
        if not subject.wait_s():
            looked_at += 1
            assert not subject.is_right(request(f"password={n}", peer=f"192.0.2.{n % 250}"))
        clock.now += 3.6
    assert TRIES < looked_at <= TRIES + 3600 / TRY_EVERY_S
    clock.now += subject.wait_s()
    assert subject.is_right(request("password=correct+horse+battery"))
