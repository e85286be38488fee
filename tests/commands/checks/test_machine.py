"""The settings and the machine, as `bridge check` finds them."""

from __future__ import annotations

import resource

from check_setup import rest, start

from bridge import descriptors

__all__ = ["rest", "start"]


async def test_few_descriptors(start, monkeypatch):
    setup = await start()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda kind: (limits[0], 1024))
    (line,) = await setup.faults()
    assert line.startswith("problem  open files: BRIDGE_MAX_CALLS: 500 calls need 2204 open files")
    assert "LimitNOFILE" in line


async def test_development_without_signatures(start):
    setup = await start()
    found = await setup.faults(BRIDGE_VALIDATE_SIGNATURES="0", BRIDGE_AGENT="echo", BRIDGE_STORE="memory")
    assert [line.partition(":")[0] for line in found] == ["warning  settings", "warning  store"]


async def test_setting_that_nobody_reads(start):
    setup = await start()
    (line,) = await setup.faults(BRIDGE_FOO="1")
    assert line.startswith("warning  settings: BRIDGE_FOO: unknown setting, ignored")
