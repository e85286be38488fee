from random import Random

import pytest
from numbered_checker import NumberedChecker, read_numbered

from bridge.standins.inject import KINDS, Injector
from bridge.standins.numbered import make_numbered


@pytest.mark.parametrize("size", [12, 13, 160, 161, 5000])
def test_frame_carries_its_stream_and_number(size):
    frame = make_numbered(7, size, seed=3)
    assert len(frame) == size
    assert read_numbered(frame) == (3, 7)


def test_every_changed_bit_is_seen():
    frame = make_numbered(1, 40)
    for bit in range(8 * len(frame)):
        changed = bytearray(frame)
        changed[bit // 8] ^= 1 << bit % 8
        assert read_numbered(bytes(changed)) is None


def test_size_below_the_header_is_refused():
    with pytest.raises(ValueError, match="at least 12"):
        make_numbered(0, 11)


def test_sound_stream_has_no_faults():
    checker = NumberedChecker()
    for n in range(100):
        assert checker.check(make_numbered(n)) == n
    assert checker.faults(100) == {}


def test_each_fault_has_its_count():
    checker = NumberedChecker(seed=1, late_s=0.1)
    for n in (0, 1, 1, 3, 2, 6):
        checker.check(make_numbered(n))
    checker.check(make_numbered(7), now=5.2, due=5.0)
    checker.check(make_numbered(0, seed=2))
    checker.check(b"\xff" * 160)
    assert checker.faults(10) == {
        "lost": 3, "duplicates": 1, "reordered": 1, "corrupt": 1, "foreign": 1, "late": 1,
    }  # fmt: skip
    assert checker.lost() == 1


@pytest.mark.parametrize(
    ("kind", "seen"),
    [
        ("drop", "lost"),
        ("dup", "duplicates"),
        ("swap", "reordered"),
        ("corrupt", "corrupt"),
        ("late", "late"),
    ],
)
def test_checker_sees_each_injected_fault(kind, seen):
    injector, checker = Injector(kind, every=50, late_s=1.0), NumberedChecker(late_s=0.2)
    for n in range(160):
        for delivery in injector.plan(make_numbered(n)):
            checker.check(delivery.audio, now=n * 0.02 + delivery.wait_s, due=n * 0.02)
    assert checker.faults(160) == {seen: 3}


def test_every_kind_is_tested_above():
    assert set(KINDS) == {"drop", "dup", "swap", "corrupt", "late"}


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="kind"):
        Injector("melt")
    with pytest.raises(ValueError, match="every"):
        Injector("drop", every=1)


def test_any_bytes_are_read_without_an_exception():
    random = Random(5)
    for _ in range(2000):
        assert read_numbered(random.randbytes(random.randrange(200))) is None
