"""Builds the C programs and peers of the benchmarks, once, in the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

C_FLAGS = ["-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror"]
STEP_DEADLINE_S = 300


class BuildError(RuntimeError):
    """A build failed; the text names the missing part."""

    @property
    def in_one_line(self) -> str:
        """The failed step and the last line of its output."""
        first, *more = str(self).splitlines()
        return f"{first} {more[-1].strip()}" if more else first


def compiled(name: str, sources: Sequence[Path], options: Sequence[str] = ()) -> Path:
    """
    Return a compiled C program, from the cache if nothing changed.

    The first of ``sources`` is the program, the others are its headers. ``CC`` and ``CFLAGS`` of the environment
    are used (CFLAGS come last).

    Raises:
        BuildError: There is no compiler, or the program does not compile.
    """
    compiler = os.environ.get("CC") or next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
    if compiler is None:
        raise BuildError(f"The {name} needs a C compiler: install gcc, or set CC.")
    flags = C_FLAGS + os.environ.get("CFLAGS", "").split()
    program, *_ = sources

    def make(directory: Path) -> None:
        run(
            [*compiler.split(), *flags, "-o", str(directory / name), str(program), *options],
            f"compile {name}",
        )

    recipe = repr((compiler, flags, list(options)))
    return kept(name, [*(source.read_bytes() for source in sources), recipe.encode()], make) / name


def kept(name: str, inputs: Sequence[bytes], make: Callable[[Path], None]) -> Path:
    """Return a directory filled by ``make``, which runs once for the same ``inputs``."""
    digest = hashlib.sha256(b"\0".join(inputs)).hexdigest()[:16]
    directory = _cache_dir() / f"{name}-{digest}"
    if directory.is_dir():
        return directory
    # Parallel runs may build at the same time: each builds its own copy, and the first one stays.
    building = Path(tempfile.mkdtemp(prefix=f"{name}-building-", dir=directory.parent))
    try:
        make(building)
        try:
            building.rename(directory)
        except OSError:
            if not directory.is_dir():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return directory


def run(
    command: Sequence[str],
    what: str,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """
    Run one step of a build.

    Raises:
        BuildError: The step fails; the text ends with the last lines of its output.
    """
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            timeout=STEP_DEADLINE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"Could not {what}: {error}") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise BuildError(f"Could not {what}:\n" + "\n".join(said[-20:]))


def _cache_dir() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        directory = home / "voice-bridge"
        directory.mkdir(parents=True, exist_ok=True)
        if os.access(directory, os.W_OK):
            return directory
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="voice-bridge-"))
