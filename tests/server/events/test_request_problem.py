"""Failures below HTTP in words."""

import aiohttp
import pytest

from bridge.server.events.request_problem import connection_problem


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (aiohttp.ClientConnectorDNSError(None, OSError()), "the name of its host cannot be found"),
        (aiohttp.ClientConnectorError(None, ConnectionRefusedError()), "its host refuses the connection"),
        (aiohttp.ClientConnectorError(None, TimeoutError()), "ClientConnectorError"),
        (aiohttp.ServerDisconnectedError(), "it closed the connection without an answer"),
        (ConnectionResetError(), "ConnectionResetError"),
    ],
)
def test_what_failed_is_said_in_words(error, words):
    assert connection_problem(error) == words
