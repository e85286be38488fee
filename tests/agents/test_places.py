"""Paths to places in JSON messages, and matches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.agents.places import (
    MATCH_WORDS,
    PATH_WORDS,
    Wanted,
    path_of,
    read_match,
    read_path,
    read_paths,
    read_shape,
    shape_fits,
    shapes_exclude,
)

FIELDS = {
    "a": {"b": [{"c": 1}, {"c": 2}, "x"], "n": None},
    "list": [[1, 2], [3]],
    "text": '{"inner":{"list":[5]}}',
    "a.b": "a key with a dot",
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("a.b[0].c", [1]),
        ("a.b[*].c", [1, 2]),
        ("a.b[2]", ["x"]),
        ("a.b[9]", []),
        ("list[*][*]", [1, 2, 3]),
        ("list[1][0]", [3]),
        ("a.n", []),
        ("a.b.c", []),
        ("a[0]", []),
        ("text.inner.list[0]", []),
        ("none.of.these", []),
    ],
)
def test_values_at_a_path(path, values):
    assert path_of(path).values(FIELDS) == values
    assert path_of(path).value(FIELDS) == (values[0] if values else None)


def test_text_on_the_way_is_read_as_json_where_that_is_wanted():
    assert path_of("text.inner.list[0]").values(FIELDS, reads_json=True) == [5]
    assert path_of("a.b[2].c").values(FIELDS, reads_json=True) == []


@pytest.mark.parametrize(
    "wrong", ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[-1]", "[0]", "a]b", "a[0]b", 5, None]
)
def test_what_is_no_path_is_refused_with_what_would_be_one(wrong):
    with pytest.raises(ValueError, match="must be keys joined by dots") as caught:
        read_paths(wrong)
    assert str(caught.value) == PATH_WORDS


def test_one_place_has_no_star():
    with pytest.raises(ValueError, match="must be one place"):
        read_path("a[*]")
    assert not read_paths("a[*]").has_keys_only


@pytest.mark.parametrize("wrong", [{}, [], 5, 1.5, None, [[]], [{}], [5], True])
def test_what_is_no_match_is_refused_with_what_would_be_one(wrong):
    with pytest.raises(ValueError, match="must be values at places") as caught:
        read_match(wrong)
    assert str(caught.value) == MATCH_WORDS


@pytest.mark.parametrize("wrong", [1.5, [], [1.5], [[]], {}, {"exists": True, "x": []}])
def test_value_that_no_message_can_have_is_refused_with_its_place(wrong):
    with pytest.raises(ValueError, match=r"^event\.kind"):
        read_match({"event.kind": wrong})


def test_table_in_a_table_is_a_path():
    dotted, nested = (
        read_shape({"event.kind": "x", "event.n": 1}),
        read_shape({"event": {"kind": "x", "n": 1}}),
    )
    assert dotted == nested
    assert shape_fits(dotted, {"event": {"kind": "x", "n": 1}})


VALUES = st.sampled_from([0, 1, True, False, "x", "y", ""])
WANTED = st.builds(Wanted, st.lists(VALUES, min_size=1, max_size=3).map(tuple)) | st.builds(
    Wanted, exists=st.booleans()
)
SHAPES = st.dictionaries(st.sampled_from(["a", "b", "c.d"]).map(path_of), WANTED, max_size=3)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={"a": VALUES | st.none(), "b": VALUES, "c": st.fixed_dictionaries({}, optional={"d": VALUES})},
)


@given(SHAPES, SHAPES, MESSAGES)
def test_no_message_has_two_shapes_that_exclude_each_other(one, other, message):
    if shapes_exclude(one, other):
        assert not (shape_fits(one, message) and shape_fits(other, message))
        assert shapes_exclude(other, one)


EVERY_WANTED = [
    *(Wanted(values) for values in (("x",), ("x", "y"), ("y",), (1,), (True,), (0, False), ("",))),
    Wanted(exists=True),
    Wanted(exists=False),
]


@pytest.mark.parametrize("one", EVERY_WANTED)
@pytest.mark.parametrize("other", EVERY_WANTED)
def test_two_conditions_exclude_each_other_if_no_value_fits_both(one, other):
    found = [None, "x", "y", "", 0, 1, True, False, [], {}]
    assert one.excludes(other) is not any(one.fits(value) and other.fits(value) for value in found)
