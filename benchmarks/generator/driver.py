"""Builds and drives the load generator, a C program (generator.c) that plays both ends of every call."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.build import BuildError, compiled

HERE = Path(__file__).parent
SOURCES = [HERE / "generator.c", *sorted(HERE.glob("*.h"))]
INJECTIONS = ("drop", "dup", "swap", "corrupt", "late")


class GeneratorError(RuntimeError):
    """The generator could not be built, or it ended before its result."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """One call that the generator makes: where its media socket is, and the content of its ``start`` message."""

    number: int
    address: str
    port: int
    host: str
    path: str
    signature: str | None
    account_sid: str
    call_sid: str
    stream_sid: str
    parameters: Mapping[str, str]

    def to_line(self) -> str:
        fields = [
            str(self.number),
            self.address,
            str(self.port),
            self.host,
            self.path,
            self.signature or "-",
            self.account_sid,
            self.call_sid,
            self.stream_sid,
            json.dumps(dict(self.parameters), separators=(",", ":")),
        ]
        if any(character in field for field in fields for character in "\t\r\n"):
            raise ValueError(f"call {self.number}: a field contains a tab or a line break")
        return "\t".join(fields) + "\n"


def build_generator(with_tls: bool = False) -> Path:
    """
    Return the compiled generator; ``with_tls`` for TLS on the sockets of agents or callers.

    Raises:
        GeneratorError: There is no compiler, or the generator does not compile.
    """
    try:
        if with_tls:
            return compiled("generator-tls", SOURCES, ["-DWITH_TLS", "-lssl", "-lcrypto"])
        return compiled("generator", SOURCES)
    except BuildError as error:
        if "openssl/" in str(error) or "-lssl" in str(error):
            raise GeneratorError("TLS needs OpenSSL's headers: install libssl-dev.") from error
        raise GeneratorError(str(error)) from error


class Generator:
    """The running generator. It takes calls and reports events; the last event is the result."""

    def __init__(self, process: asyncio.subprocess.Process, agent_port: int) -> None:
        self._process = process
        self.agent_port = agent_port

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(
        cls, executable: Path, settings: Mapping[str, int], files: Mapping[str, Path] | None = None
    ) -> Self:
        """
        Start the generator.

        Args:
            files: The files that it reads, by environment variable: `GENERATOR_TLS_PEM`, `GENERATOR_TRANSCODED`.
        """
        process = await asyncio.create_subprocess_exec(
            str(executable),
            *(f"{name}={value}" for name, value in settings.items()),
            env={**os.environ, **{name: str(path) for name, path in (files or {}).items()}},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        generator = cls(process, 0)
        async for event in generator.events():
            generator.agent_port = int(event["agent_port"])
            return generator
        raise GeneratorError("The load generator ended at once.")

    def begin_call(self, caller: Caller) -> None:
        self._write(caller.to_line())

    def end_of_calls(self) -> None:
        self._write("end\n")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Yield the generator's events; ends with the result."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            yield event
            if event["event"] == "result":
                await self._process.wait()
                return
        raise GeneratorError(f"The load generator ended early, with exit code {await self._process.wait()}.")

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
