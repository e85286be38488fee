"""HAProxy in the benchmarks: with the delivered configuration, or with words on how to get it."""

from __future__ import annotations

import pytest

from benchmarks import balancer


def test_what_is_changed_stands_once_in_the_delivered_file():
    text = balancer.DELIVERED.read_text()
    for part in (balancer.BIND, *balancer.ADDRESSES.values()):
        assert text.count(part) == 1


def test_missing_program_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setattr(balancer, "SEARCHED", ())
    with pytest.raises(balancer.NoBalancerError, match="apt-get install haproxy"):
        balancer.find_haproxy()
