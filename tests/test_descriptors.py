"""The limit of open files, with limits of the test's own."""

import resource

import pytest
from settings_env import GOOD

from bridge import descriptors
from bridge.descriptors import raise_descriptor_limit
from bridge.settings import SettingsError, load_settings


@pytest.fixture
def limits(monkeypatch):
    """The limits that the process sees, and those that it sets."""

    class Limits:
        now = (0, 0)
        raised: tuple[int, int] | None = None

    limits = Limits()
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda kind: limits.now)
    monkeypatch.setattr(descriptors.resource, "setrlimit", lambda kind, pair: setattr(limits, "raised", pair))
    return limits


@pytest.mark.parametrize(
    ("now", "raised"),
    [
        ((1024, 4096), (2204, 4096)),
        ((1024, resource.RLIM_INFINITY), (2204, resource.RLIM_INFINITY)),
        ((2203, 2204), (2204, 2204)),
        ((2204, 2204), None),
        ((65536, 65536), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_soft_limit_is_raised_as_far_as_needed(limits, now, raised):
    limits.now = now
    raise_descriptor_limit(load_settings(GOOD))
    assert limits.raised == raised


def test_too_low_a_hard_limit_says_what_would_fit(limits):
    limits.now = (256, 2203)
    with pytest.raises(SettingsError) as caught:
        raise_descriptor_limit(load_settings(GOOD))
    (reported,) = caught.value.problems
    assert reported.startswith("BRIDGE_MAX_CALLS: 500 calls need 2204 open files and the hard limit is 2203")
    assert "at most 499" in reported
    assert limits.raised is None
    raise_descriptor_limit(load_settings({**GOOD, "BRIDGE_MAX_CALLS": "499"}))
    assert limits.raised == (2201, 2203)
