"""
Lets one call flood the bridge beside ordinary calls, and measures what these notice.

Each scenario is a run of `benchmarks.measure` with a process beside it (`benchmarks.floods_attack`) that makes the
flooded call. An agent of its own and a route lead that call to it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.calls import Webhooks
from benchmarks.floods_attack import CALLER, Aim, Attack
from benchmarks.floods_messages import NO_FLOOD, OF_AGENT, OF_CALLER
from benchmarks.floods_rows import READ_LEAST_PER_S, Row
from benchmarks.measure import Options, Target, run
from benchmarks.progress import Progress
from benchmarks.tls import make_certificate
from benchmarks.verdict import Limits

ROOT = Path(__file__).parents[1]
AGENT = """
[flood]
url = "URL/{call_sid}"
to_agent = '{"type":"audio","data":"{audio}"}'
from_agent = { path = "data", equal = { type = "audio" } }
interrupt = { type = "interrupt" }
"""
ROUTES = f"""
[[route]]
name = "flooded"
from_prefix = "{CALLER}"
agents = ["flood"]
"""
# Below the bridge's own bound (BRIDGE_CONTROL_PER_S): the call is not ended.
BELOW_THE_BOUND_PER_S = 4500.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What floods, at which rate (0: as much as the socket takes), and whether all agents have TLS."""

    kind: str
    rate_per_s: float = 0.0
    has_tls: bool = False


SCENARIOS: Mapping[str, Scenario] = {
    **{kind: Scenario(kind=kind) for kind in (NO_FLOOD, *OF_AGENT, OF_CALLER)},
    "interrupts below the bound": Scenario(kind="interrupts", rate_per_s=BELOW_THE_BOUND_PER_S),
    "interrupts over TLS": Scenario(kind="interrupts", has_tls=True),
    "short audio over TLS": Scenario(kind="short audio", has_tls=True),
}


@dataclass
class Flooding:
    """
    The attacking process.

    Attributes:
        settings: Lead its call to it.
        result: What it has done; empty before its end.
    """

    process: asyncio.subprocess.Process
    settings: Mapping[str, str]
    result: Mapping[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def beside(self, target: Target) -> AsyncIterator[None]:
        """Flood a bridge until the end of the block."""
        assert isinstance(target.calls, Webhooks)
        assert self.process.stdin is not None
        url, account = target.calls.url, target.calls.account
        self.process.stdin.write(
            Aim(url=url, account_sid=account.sid, auth_token=account.auth_token).to_line()
        )
        yield
        output, _ = await self.process.communicate(b"")
        self.result = json.loads(output)


@asynccontextmanager
async def attacking(attack: Attack, folder: Path) -> AsyncIterator[Flooding]:
    """Run the attacking process, which is ready and does nothing yet."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.floods_attack"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(attack.to_line())
        port = json.loads(await process.stdout.readline())["port"]
        agents, routes = folder / "flood.toml", folder / "routes.toml"
        agents.write_text(AGENT.replace("URL", f"ws{'s' if attack.tls_pem else ''}://127.0.0.1:{port}"))
        routes.write_text(ROUTES)
        yield Flooding(process, {"BRIDGE_AGENTS_FILE": str(agents), "BRIDGE_ROUTES_FILE": str(routes)})
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def run_scenario(name: str, options: Options, limits: Limits, progress: Progress) -> Row:
    """
    Make the run of one scenario.

    Raises:
        BridgeError: The bridge does not start.
        GeneratorError: The generator cannot be built, or dies.
    """
    scenario = SCENARIOS[name]
    with tempfile.TemporaryDirectory(prefix="bridge-floods-") as path:
        folder = Path(path)
        certificate = make_certificate(folder) if scenario.has_tls else None
        tls_pem = str(certificate[0]) if certificate else ""
        attack = Attack(kind=scenario.kind, rate_per_s=scenario.rate_per_s, tls_pem=tls_pem)
        async with attacking(attack, folder) as flooding:
            settings = {**flooding.settings, **dict(options.bridge_settings)}
            given = replace(
                options, tls=scenario.has_tls, certificate=certificate, bridge_settings=[*settings.items()]
            )
            measured = await run(given, limits, progress, flooding.beside)
    return Row(
        scenario=name,
        measured=measured,
        limits=limits,
        flood=flooding.result,
        read_least_per_s=READ_LEAST_PER_S if scenario.kind != NO_FLOOD else 0.0,
    )
