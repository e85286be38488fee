"""Which requests are of this machine."""

import pytest

from bridge.http.messages import Request
from bridge.http.peers import is_from_this_machine


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("127.0.0.1", {}, True),
        ("127.8.0.1", {}, True),
        ("::1", {}, True),
        ("::1%lo", {}, True),
        ("192.0.2.1", {}, False),
        ("localhost", {}, False),
        ("", {}, False),
        ("127.0.0.1", {"forwarded": ("for=192.0.2.1",)}, False),
        ("127.0.0.1", {"x-forwarded-for": ("127.0.0.1",)}, False),
    ],
)
def test_request_is_of_this_machine_unless_a_proxy_passed_it_on(peer, headers, expected):
    assert is_from_this_machine(Request("GET", "/", "", headers, b"", peer)) is expected
