"""
What a frame costs on the data path, counted and not timed: no Python, no orjson, no objects, so many instructions.

Two runs of ``data_path_program.py`` under callgrind differ only in the number of frames, so that what one more frame
costs is the difference. The loop's wake-up and the transport's read and write make no object at all, and a page of
masks from the kernel serves 1024 frames that we mask: 0.001 objects per frame in all, on 3.11 and 3.13.

The instructions are compared with a figure that was recorded for the same versions of all that they depend on; a
test without such a figure is skipped and explains how to record it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest
from callgrind import Profile, read_profile
from live import FACTOR

import _codec.wire

TESTS = Path(__file__).parents[1]
RECORDED = TESTS / "data" / "data_path_cost.json"
FEW_FRAMES, MANY_FRAMES = 10_000, 20_000
# A spoilt path costs at least one of each per frame: far fewer frames show it.
FEW_SPOILT_FRAMES, MANY_SPOILT_FRAMES = 500, 1_500
MOST_PER_FRAME = 0.01
TOLERANCE = 0.05
DEADLINE_S = 100 * FACTOR

# All runs together take half a minute where nothing else runs.
pytestmark = pytest.mark.timeout(3 * DEADLINE_S)

ALLOCATORS = {f"Py{kind}_{what}" for kind in ("Object", "Mem") for what in ("Malloc", "Calloc", "Realloc")}
FORBIDDEN = {
    # Not every Python function is one: a call from Python to Python stays in one evaluation.
    "entries into the interpreter": lambda file, name: name == "_PyEval_EvalFrameDefault",
    "calls into orjson": lambda file, name: "/orjson/" in file,
    # Free lists make objects without an allocation.
    "new objects": lambda file, name: name == "_Py_NewReference",
    "allocations": lambda file, name: name in ALLOCATORS,
}


class Cost:
    """Return the cost of one more frame from two profiles, whose difference excludes the start of the process."""

    def __init__(self, few: Profile, many: Profile, more_frames: int) -> None:
        for what, is_meant in FORBIDDEN.items():
            # Every start makes some of each: where none is seen, the names in this interpreter are others.
            assert few.count(is_meant) > 0, f"the profile shows no {what} at all"
        self.instructions = (many.instructions - few.instructions) / more_frames
        self.forbidden = {
            what: (many.count(is_meant) - few.count(is_meant)) / more_frames
            for what, is_meant in FORBIDDEN.items()
        }

    def faults(self) -> list[str]:
        return [
            f"{count:.3f} {what} per frame, at most {MOST_PER_FRAME}"
            for what, count in self.forbidden.items()
            if count > MOST_PER_FRAME
        ]


def judge_instructions(instructions: float, recorded: float) -> str | None:
    """Return what is wrong with the instructions of a frame, None if nothing is."""
    ratio = instructions / recorded
    if abs(ratio - 1) <= TOLERANCE:
        return None
    return f"{instructions:.0f} instructions per frame, {ratio - 1:+.1%} against the {recorded:.0f} recorded"


def versions() -> str:
    """Return all that the number of instructions depends on beside our own source."""
    binary = Path(_codec.wire.__file__).read_bytes()
    compiler = re.search(rb"(GCC): \([^)]*\) ([\d.]+)|(clang) version ([\d.]+)", binary)
    cython = re.search(rb"_cython_(\d+)_(\d+)_(\w+)", binary)
    return ", ".join(
        (
            f"{platform.python_implementation()} {platform.python_version()} by {platform.python_compiler()}",
            b" ".join(part for part in compiler.groups() if part).decode()
            if compiler
            else "another compiler",
            f"Cython {b'.'.join(cython.groups()).decode()}" if cython else "another Cython",
            f"uvloop {version('uvloop')}",
            f"aiofastnet {version('aiofastnet')}",
            # Its memcpy and memcmp.
            " ".join(platform.libc_ver()),
            platform.machine(),
        )
    )


def profile(directory: Path, frames: int, *options: str) -> Profile:
    """Run the program under callgrind; the program bridges every frame, natively by default."""
    output = directory / f"callgrind.out.{frames}{''.join(options)}"
    ended = subprocess.run(
        [
            *("valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={output}"),
            *(
                sys.executable,
                str(TESTS / "support" / "data_path_program.py"),
                "--frames",
                str(frames),
                *options,
            ),
        ],
        env=os.environ | {"PYTHONPATH": str(TESTS.parent), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert ended.returncode == 0, ended.stderr
    found = 0 if options else frames // 2
    assert json.loads(ended.stdout) == {
        "from_caller": found,
        "to_agent": frames // 2,
        "from_agent": found,
        "to_caller": frames // 2,
    }
    with output.open() as lines:
        return read_profile(lines)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Future[Profile]]:
    """All the runs, by frames; two at a time."""
    if shutil.which("valgrind") is None:
        give_up = pytest.fail if "CI" in os.environ else pytest.skip
        give_up("valgrind is not there: apt-get install valgrind")
    directory = tmp_path_factory.mktemp("profiles")
    with ThreadPoolExecutor(2) as pool:
        started = {frames: pool.submit(profile, directory, frames) for frames in (FEW_FRAMES, MANY_FRAMES)}
        return started | {
            frames: pool.submit(profile, directory, frames, "--spoil")
            for frames in (FEW_SPOILT_FRAMES, MANY_SPOILT_FRAMES)
        }


@pytest.fixture(scope="module")
def cost(runs: dict[int, Future[Profile]]) -> Cost:
    return Cost(runs[FEW_FRAMES].result(), runs[MANY_FRAMES].result(), MANY_FRAMES - FEW_FRAMES)


def test_one_more_frame_costs_neither_python_nor_objects(cost: Cost) -> None:
    assert cost.faults() == []


def test_one_more_frame_costs_the_recorded_instructions(cost: Cost) -> None:
    recorded = json.loads(RECORDED.read_text())
    if versions() not in recorded:
        entry = json.dumps({versions(): round(cost.instructions)}).strip("{}")
        pytest.skip(f"no figure for these versions: to record it, add to {RECORDED.name}: {entry}")
    assert judge_instructions(cost.instructions, recorded[versions()]) is None, (
        f"where that is meant, write {cost.instructions:.0f} into {RECORDED.name}"
    )


def test_orjson_on_the_path_is_noticed(cost: Cost, runs: dict[int, Future[Profile]]) -> None:
    spoilt = Cost(
        runs[FEW_SPOILT_FRAMES].result(),
        runs[MANY_SPOILT_FRAMES].result(),
        MANY_SPOILT_FRAMES - FEW_SPOILT_FRAMES,
    )
    assert all(count > 0.9 for count in spoilt.forbidden.values()), spoilt.forbidden
    assert len(spoilt.faults()) == len(FORBIDDEN)
    assert judge_instructions(spoilt.instructions, cost.instructions) is not None


SMALL_PROFILE = """\
version: 1
positions: line
events: Ir

ob=(1) /lib/libpython.so
fn=(1) main
16 400
cob=(2) /site/orjson/orjson.so
cfn=(2) 0x00000000000010f0
calls=3 20
16 90
cfn=(3) _PyEval_EvalFrameDefault
calls=5 0
17 50
cfn=(4) _PyEval_EvalFrameDefault'2
calls=6 0
17 50
fn=(3)
0 10
cfn=(1)
calls=1 16
+2 7

ob=(2)
fn=(2)
cob=(1)
cfn=(3)
calls=2 0
20 4
summary: 600
"""


def test_profile_counts_calls_by_file_and_function() -> None:
    profile = read_profile(SMALL_PROFILE.splitlines(keepends=True))
    assert profile.instructions == 600
    assert profile.calls == {
        ("/site/orjson/orjson.so", "0x00000000000010f0"): 3,
        ("/lib/libpython.so", "_PyEval_EvalFrameDefault"): 13,
        ("/lib/libpython.so", "main"): 1,
    }


def test_profile_without_a_sum_is_refused() -> None:
    with pytest.raises(ValueError, match="no sum"):
        read_profile(SMALL_PROFILE.splitlines()[:-1])


def made_up(instructions: int, *, in_each: int) -> Profile:
    places = [("python", "_PyEval_EvalFrameDefault"), ("python", "_Py_NewReference")]
    places += [("python", "PyObject_Malloc"), ("/x/orjson/y.so", "z")]
    return Profile(instructions, Counter(dict.fromkeys(places, in_each)))


@pytest.mark.parametrize(("more", "faults"), [(10, 0), (11, 4)])
def test_one_in_a_hundred_frames_is_the_bound(more: int, faults: int) -> None:
    cost = Cost(made_up(0, in_each=50), made_up(5_000_000, in_each=50 + more), 1000)
    assert cost.instructions == 5000
    assert len(cost.faults()) == faults


def test_profile_that_shows_nothing_is_refused() -> None:
    with pytest.raises(AssertionError, match="no entries into the interpreter at all"):
        Cost(made_up(0, in_each=0), made_up(0, in_each=0), 1000)


@pytest.mark.parametrize(
    ("instructions", "fault"),
    [
        (955, None),
        (1045, None),
        (1055, "1055 instructions per frame, +5.5% against the 1000 recorded"),
        (940, "940 instructions per frame, -6.0% against the 1000 recorded"),
    ],
)
def test_instructions_are_held_within_a_twentieth(instructions: float, fault: str | None) -> None:
    assert judge_instructions(instructions, 1000) == fault
