"""Routes: which calls they fit, when, and what is wrong with a file of them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.agents.routing import Route, read_routes
from bridge.agents.toml_file import Problem, TomlFile

TO, OTHER, CALLER = "+14155550100", "+14155550101", "+4930123456"
# A Friday; 16:59 in Berlin, 10:59 in New York.
AFTERNOON = datetime(2026, 11, 27, 15, 59, tzinfo=UTC)
EVENING = datetime(2026, 11, 27, 16, 0, tzinfo=UTC)
WEEKDAYS = {"hours": "Mon-Fri 09:00-17:00", "time_zone": "Europe/Berlin"}


def make(**fields: object) -> Route:
    return Route.model_validate({"agents": ["echo"], **fields})


def read(folder: Path, text: str) -> tuple[list[Route], list[str]]:
    """The routes of a file, and its problems without the place of the file."""
    path = folder / "routes.toml"
    path.write_text(text)
    problems: list[Problem] = []
    routes = read_routes(TomlFile("bridge_routes_file", str(path), problems))
    start = f"BRIDGE_ROUTES_FILE: {path}: "
    assert all(shown.startswith(start) for _, shown in problems)
    return routes, [shown.removeprefix(start) for _, shown in problems]


# Which addresses a route may name


@pytest.mark.parametrize(
    "address", ["+1415555", f"+{15 * '1'}", "sip:a@b.example", "client:anna", "whatsapp:+1"]
)
def test_route_takes_numbers_and_addresses_of_every_kind(address):
    assert make(to=address).fits(address, CALLER, AFTERNOON)
    assert make(from_prefix=address).fits(TO, address, AFTERNOON)


def test_route_fits_callers_without_a_number_by_their_word():
    assert make(from_prefix="anonymous").fits(TO, "anonymous", AFTERNOON)


# When a route is open


def test_route_is_open_by_the_clock_of_its_time_zone():
    assert make(**WEEKDAYS).fits(TO, CALLER, AFTERNOON)
    assert not make(**WEEKDAYS).fits(TO, CALLER, EVENING)
    there = make(hours="Mon-Fri 09:00-17:00", time_zone="America/New_York")
    assert there.fits(TO, CALLER, EVENING)
    assert not there.fits(TO, CALLER, datetime(2026, 11, 27, 13, 59, tzinfo=UTC))


def test_route_has_as_many_hours_as_it_likes():
    route = make(hours=["Mon-Fri 09:00-12:00", "Fri 17:00-18:00"], time_zone="Europe/Berlin")
    assert not route.fits(TO, CALLER, AFTERNOON)
    assert route.fits(TO, CALLER, EVENING)


def test_open_route_still_asks_for_the_numbers():
    route = make(to=TO, from_prefix="+49", **WEEKDAYS)
    assert route.fits(TO, CALLER, AFTERNOON)
    assert not route.fits(OTHER, CALLER, AFTERNOON)
    assert not route.fits(TO, "+1555", AFTERNOON)


def test_night_that_begins_before_midnight_is_open_after_it():
    route = make(hours="Fri 22:00-06:00", time_zone="Europe/Berlin")
    assert route.fits(TO, CALLER, datetime(2026, 11, 28, 4, 59, tzinfo=UTC))
    assert not route.fits(TO, CALLER, datetime(2026, 11, 28, 5, 0, tzinfo=UTC))


def test_hours_follow_the_clock_when_it_changes():
    """09:00 in Berlin is 08:00 UTC in winter and 07:00 UTC in summer."""
    route = make(hours="Mon-Sun 09:00-09:01", time_zone="Europe/Berlin")
    for day, hour in ((28, 8), (29, 7)):
        assert route.fits(TO, CALLER, datetime(2026, 3, day, hour, tzinfo=UTC))
        assert not route.fits(TO, CALLER, datetime(2026, 3, day, 15 - hour, tzinfo=UTC))


# Names


def test_routes_have_names_by_their_place_or_their_own(tmp_path):
    routes, problems = read(
        tmp_path,
        f"""
        [[route]]
        to = "{TO}"
        agents = ["echo"]
        [[route]]
        name = "night"
        hours = "Mon-Sun 22:00-06:00"
        time_zone = "UTC"
        agents = ["echo"]
        [[route]]
        agents = ["echo"]
        """,
    )
    assert problems == []
    assert [route.name for route in routes] == ["route-1", "night", "route-3"]


# Bad routes


@pytest.mark.parametrize(
    ("line", "place", "words"),
    [
        ("name = 'a b'", ".name", "must be 1 to 40 letters, digits, hyphens and underscores"),
        ("name = ''", ".name", "must be 1 to 40 letters, digits, hyphens and underscores"),
        (f"name = '{41 * 'a'}'", ".name", "must be 1 to 40 letters, digits, hyphens and underscores"),
        ("name = 'default'", ".name", "is the name of the agents where no route fits; use another"),
        *(
            (
                f"to = '{number}'",
                ".to.0",
                "must be + and 7 to 15 digits without spaces and without a 0 in front, e.g. +14155550100, or",
            )
            for number in (
                "14155550100",
                "+1415",
                "+04155550100",
                "+1415abc5555",
                "+1 415 555 0100",
                f"+{16 * '1'}",
                "",
            )
        ),
        *(
            (
                f"from_prefix = ['+43', '{text}']",
                ".from_prefix.1",
                "must be + and 1 to 15 digits without spaces",
            )
            for text in ("49", "+", "+049", "+49 30", "0049", "")
        ),
        ("hours = 'Mon-Fri 09:00-17:30'", "", "hours need a time_zone, e.g. Europe/Berlin"),
        ("time_zone = 'Europe/Berlin'", "", "time_zone needs hours, e.g. Mon-Fri 09:00-17:30"),
        ("hours = 'Mo 09:00-17:30'\ntime_zone = 'UTC'", ".hours.0", "'Mo' is no day; the days are Mon, "),
        ("hours = [9]\ntime_zone = 'UTC'", ".hours.0", "must be days and times, e.g. Mon-Fri 09:00-17:30"),
        (
            "hours = 'Mon 09:00-17:30'\ntime_zone = 'CEST'",
            ".time_zone",
            "must be a time zone that this machine",
        ),
        (
            "hours = 'Mon 09:00-17:30'\ntime_zone = 'Europe'",
            ".time_zone",
            "must be a time zone that this machine",
        ),
        ("hours = 'Mon 09:00-17:30'\ntime_zone = '/etc/localtime'", ".time_zone", "must be a time zone that"),
        (
            "hours = 'Mon 09:00-17:30'\ntime_zone = ''",
            ".time_zone",
            "must be a time zone that this machine knows",
        ),
        ("fallback = 'sing'", ".fallback", "must be say:TEXT, dial:+E164NUMBER or hangup"),
        ("fallback = ''", ".fallback", "must be say:TEXT, dial:+E164NUMBER or hangup"),
        ("fallback = 'dial:0301234'", ".fallback", "must be say:TEXT, dial:+E164NUMBER or hangup"),
        ("language = 'de-DE'", "", "language needs a fallback of say:TEXT"),
        ("fallback = 'hangup'\nlanguage = 'de-DE'", "", "language needs a fallback of say:TEXT"),
        (f"announce = '{301 * 'a'}'", ".announce", "must be a text of at most 300 characters"),
        ('announce = "a\\u0007"', ".announce", "without control characters"),
        ("record = 'no'", ".record", "must be true or false"),
        (
            "fallback = 'say:Hallo'\nlanguage = 'de_DE'",
            ".language",
            "must be a language of Twilio's <Say>, e.g. en-GB",
        ),
        ("fallback = 'say:Hallo'\nlanguage = 'german'", ".language", "must be a language of Twilio's <Say>"),
        ("fallback = 'say:Hallo'\nlanguage = 'DE'", ".language", "must be a language of Twilio's <Say>"),
        ("caller_id = '030123'", ".caller_id", "must be a number with + and the country's code"),
        ("caller_id = 'sip:a@b'", ".caller_id", "must be a number with + and the country's code"),
    ],
)
def test_wrong_value_is_reported_with_its_place_and_what_would_be_right(tmp_path, line, place, words):
    _, (shown,) = read(tmp_path, f"[[route]]\nagents = ['echo']\n{line}")
    assert shown.startswith(f"route-1{place}: ")
    assert words in shown


@pytest.mark.parametrize("language", ["de-DE", "en-GB", "arb", "cmn-CN", "yue-HK", "es-419", "sr-Latn-RS"])
def test_languages_of_twilio_are_taken(language):
    assert make(fallback="say:x", language=language).language == language


def test_language_may_be_that_of_an_announcement():
    route = make(announce=" Moin. ", language="de-DE")
    assert (route.announce, route.language) == ("Moin.", "de-DE")


def test_name_that_is_used_twice_is_reported(tmp_path):
    named = (
        "[[route]]\nname = 'route-2'\nto = '+14155550100'\nagents = ['echo']\n[[route]]\nagents = ['echo']\n"
    )
    _, (shown,) = read(tmp_path, named)
    assert shown == "route-2.name: another route has the name route-2 too"


CASES = [
    ({}, {}, True),
    ({}, {"to": TO, "from_prefix": "+49", **WEEKDAYS}, True),
    ({"to": [TO, OTHER]}, {"to": OTHER}, True),
    ({"to": TO}, {"to": [TO, OTHER]}, False),
    ({"to": TO}, {}, False),
    ({"from_prefix": "+4"}, {"from_prefix": ["+49", "+43"]}, True),
    ({"from_prefix": ["+49"]}, {"from_prefix": "+4"}, False),
    ({"from_prefix": "+49"}, {"to": TO}, False),
    ({"from_prefix": "+49"}, {"from_prefix": "+4930", "to": TO}, True),
    ({"from_prefix": "+49", "to": TO}, {"from_prefix": "+4930"}, False),
    (WEEKDAYS, {}, False),
    (WEEKDAYS, {"to": TO, **WEEKDAYS}, True),
    (WEEKDAYS, {**WEEKDAYS, "time_zone": "UTC"}, False),
]


@pytest.mark.parametrize(("first", "second", "is_covered"), CASES)
def test_route_that_an_earlier_one_covers_is_reported(tmp_path, first, second, is_covered):
    assert make(**first).covers(make(**second)) is is_covered
    lines: list[str] = []
    for fields in (first, second):
        lines += [
            "[[route]]",
            "agents = ['echo']",
            *(f"{name} = {value!r}" for name, value in fields.items()),
        ]
    _, problems = read(tmp_path, "\n".join(lines))
    wanted = (
        "route-2: answers no call, because the one named route-1 fits all of its calls and stands before it: "
        "put it before that one"
    )
    assert problems == ([wanted] if is_covered else [])
