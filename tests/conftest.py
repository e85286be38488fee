"""Rules of every asyncio test: it runs on uvloop, as production does, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import hypothesis
import live
import pytest
import structlog
import uvloop
from certificates import Tls
from slow_path import slow_path

__all__ = ["slow_path"]

# How long an example takes depends on what else runs on the machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

# What `--quick` leaves out, and why; the rest takes less than a minute on 2 cores.
NOT_QUICK = {
    "benchmarks/": "builds C programs and takes load",
    "server/test_server_": "whole calls on real sockets",
    "server/test_calls_api": "whole calls on real sockets",
    "server/page/test_telephone": "whole calls on real sockets, and a browser",
    "server/page/test_page_in": "whole calls on real sockets, and a browser",
    "server/test_recorded_calls": "whole calls at the speed of speech",
    "server/test_draining": "whole calls on real sockets",
    "server/test_first_requests": "whole calls on real sockets",
    "server/workers/test_parent": "starts processes",
    "server/workers/test_worker": "whole calls on real sockets",
    "server/test_balancers": "starts processes",
    "server/test_versions": "starts processes",
    "server/test_traces": "starts servers",
    "server/records/test_opus_file": "encodes speech in a process",
    "server/records/test_encoder": "starts processes",
    "server/records/test_recordings": "waits for a disk's thread",
    "server/store/test_breaker": "waits for deadlines",
    "call/test_leg": "waits for deadlines of real sockets",
    "commands/test_check": "starts servers",
    "commands/checks/": "starts servers",
    "retell_agent/test_command": "starts processes",
    "agents/vendors/test_retell": "starts servers",
    "server/store/test_store": "starts Redis",
    "server/events/test_queue": "starts Redis",
    "server/events/test_delivery": "starts Redis and processes",
    "server/test_two_processes": "whole calls at real processes",
    "codec/test_wire_": "thousands of interleavings, and callgrind",
    "codec/test_media_json_fuzz": "thousands of random messages",
    "codec/test_resample": "filters in plain Python",
    "codec/test_transcode": "filters in plain Python",
    "http/test_front": "waits for the ends of connections",
    "http/test_listener": "waits for the ends of connections",
    "standins/twilio/test_caller": "whole calls at the speed of speech",
    "standins/agent/test_service_protocols": "whole calls at the speed of speech",
    "standins/test_demo": "whole calls at the speed of speech",
    "standins/test_commands": "whole calls at the speed of speech",
    "agents/test_example": "installs a package",
    "test_prometheus": "starts processes",
    "test_readme": "installs the project in a clean clone",
    "test_serve": "starts processes",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out the tests that take long")


def is_slow(item: pytest.Item) -> bool:
    name = item.path.relative_to(Path(__file__).parent).as_posix()
    return any(name.startswith(beginning) for beginning in NOT_QUICK)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        config.hook.pytest_deselected(items=[item for item in items if is_slow(item)])
        items[:] = [item for item in items if not is_slow(item)]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("--quick"):
        terminalreporter.section("left out by --quick", sep="-")
        for beginning, reason in NOT_QUICK.items():
            terminalreporter.line(f"tests/{beginning}*: {reason}")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


class Records(logging.Handler):
    """Every log record of a test, as one line of text each."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def lines(self) -> list[str]:
        formatter = logging.Formatter("%(levelname)s %(name)s %(message)s")
        return [formatter.format(record) for record in self.records]

    def faults(self) -> list[str]:
        """The lines that only an internal fault logs."""
        return [
            line
            for record, line in zip(self.records, self.lines, strict=True)
            if record.levelno >= logging.ERROR and record.name.partition(".")[0] in ("bridge", "asyncio")
        ]


@pytest.fixture
def logs() -> Iterator[Records]:
    """The log of the test, structlog's events and the standard library's records alike."""
    records = Records()
    root = logging.getLogger()
    level = root.level
    root.addHandler(records)
    root.setLevel(logging.DEBUG)
    structlog.configure(
        processors=[
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    yield records
    structlog.reset_defaults()
    root.setLevel(level)
    root.removeHandler(records)


@pytest.fixture
async def clean_loop(logs: Records) -> AsyncIterator[None]:
    """Fails the test if the loop's exception handler was called, a task is left, or an internal fault was logged."""
    contexts: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: contexts.append(context))
    yield
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=live.DEADLINE_S)
    assert not left, f"tasks left: {left}"
    assert not contexts, f"the loop's exception handler was called: {contexts}"
    assert not logs.faults()


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> None:
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("clean_loop")


@pytest.fixture
def tls(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tls | None:
    """What the test's servers and agents speak TLS by; None unless `live.PLAIN_AND_TLS` or the like asks for it."""
    kind = getattr(request, "param", "plain")
    if kind.startswith("gathered"):
        # From the first call on, and soon.
        monkeypatch.setattr("bridge.server.gather.FROM_CALLS", 1)
        monkeypatch.setattr("bridge.server.live.ROUND_S", 0.02)
    return Tls(tmp_path) if kind.endswith("tls") else None


@pytest.fixture
async def live_server(clean_loop: None, tls: Tls | None) -> AsyncIterator[live.Factory]:
    """Starts servers with a stand-in agent each; when the test is over they stop and must have left nothing."""
    async with AsyncExitStack() as stack:

        async def start(**overrides: Any) -> live.Live:
            return await stack.enter_async_context(live.serving(tls=tls, **overrides))

        yield start
