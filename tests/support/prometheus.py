"""Debian's Prometheus with the delivered configuration, changed as its comments say."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from live import DEADLINE_S

from bridge.standins.process import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "voice-bridge.rules.yml"
EVERY = "200ms"
# It looks for changed targets only every 5 s.
WITHIN_S = 4 * DEADLINE_S


class Prometheus:
    """A running Prometheus; all questions go to its HTTP API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"

    async def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer."""
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{self.url}/{path}", params=parameters) as answer,
        ):
            body = await answer.json()
        assert body["status"] == "success", (parameters, body)
        return body["data"]

    async def values(self, query: str) -> list[float]:
        """The values of a query's series now, those that are no number excepted."""
        data = await self.get("query", query=query)
        found = [float(series["value"][1]) for series in data["result"]]
        return [value for value in found if not math.isnan(value)]

    async def until_sum(self, metric: str, wanted: float) -> None:
        """Wait until a metric was scraped whose samples have this sum."""
        async with asyncio.timeout(WITHIN_S):
            while not (values := await self.values(metric)) or sum(values) != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def rules(self) -> list[dict[str, Any]]:
        """All rules, once each was evaluated."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                groups = (await self.get("rules"))["groups"]
                found = [rule for group in groups for rule in group["rules"]]
                if found and all(rule["health"] != "unknown" for rule in found):
                    return found
                await asyncio.sleep(0.05)

    async def is_ready(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError, AssertionError):
            return bool(await self.get("status/buildinfo"))
        return False


def program(name: str) -> str:
    """The path of ``prometheus`` or ``promtool``; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        assert not os.environ.get("CI"), f"{name} is not installed, and CI must run this"
        pytest.skip(f"{name} is not installed: apt-get install prometheus")
    return found


def write_config(folder: Path, target: int, token: str) -> Path:
    """The delivered configuration for a bridge on this port, with short intervals."""
    (folder / "token").write_text(token)
    (folder / RULES.name).write_text(RULES.read_text())
    text = (RULES.parent / "prometheus.yml").read_text()
    for old, new in (
        ('["10.0.0.11:8080", "10.0.0.12:8080"]', f'["127.0.0.1:{target}"]'),
        ("/etc/prometheus/voice-bridge.token", f"{folder}/token"),
        ("scrape_interval: 15s", f"scrape_interval: {EVERY}\n    scrape_timeout: {EVERY}"),
        ("rule_files:", f"global:\n  evaluation_interval: {EVERY}\nrule_files:"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    config = folder / "prometheus.yml"
    config.write_text(text)
    return config


@contextlib.asynccontextmanager
async def prometheus(folder: Path, target: int, token: str) -> AsyncIterator[Prometheus]:
    """Watch the bridge on this port until the end of the block."""
    port = free_port()
    options = (
        f"--config.file={write_config(folder, target, token)}",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with (folder / "prometheus.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            program("prometheus"), *options, stdout=log, stderr=log
        )
    try:
        found = Prometheus(port)
        async with asyncio.timeout(WITHIN_S):
            while not await found.is_ready():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        yield found
    finally:
        process.terminate()
        await process.wait()
