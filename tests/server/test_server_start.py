"""A start that fails half-way leaves nothing open, whatever was open by then."""

from __future__ import annotations

import socket

import pytest
from live import DEFAULTS, make_settings, until_within
from live import Resources as Held

from bridge.agents.directory import DirectoryError
from bridge.server.server import Server


async def test_file_that_has_become_bad_since_the_settings_were_read(tmp_path):
    file = tmp_path / "routes.toml"
    file.write_text("[[route]]\nagents = ['echo']\n")
    files = {"BRIDGE_ROUTES_FILE": str(file), "BRIDGE_STATE_DIR": str(tmp_path), "BRIDGE_AGENT": "echo"}
    settings = make_settings({**DEFAULTS, **files})
    file.write_text("")
    before = Held.now()
    server = Server(settings)
    with pytest.raises(DirectoryError, match="route: is missing"):
        await server.start()
    await until_within(before)
    # A caller that stops it all the same does no harm.
    await server.stop()


async def test_port_in_use(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        own = {"PORT": str(taken.getsockname()[1]), "BRIDGE_STATE_DIR": str(tmp_path), "BRIDGE_AGENT": "echo"}
        settings = make_settings({**DEFAULTS, **own})
        before = Held.now()
        with pytest.raises(OSError, match="in use"):
            await Server(settings).start()
        await until_within(before)
