"""
Bridges to compare with: the same data path, short and fair, as a competent user of each library would write it.

Every peer reads ``PORT`` and ``AGENT_WS_URL`` from the environment, serves ``ws://127.0.0.1:PORT/media/ID`` and
connects a call to ``AGENT_WS_URL/ID`` when its ``start`` arrives. It relays audio both ways, turns ``interrupt`` into
``clear``, holds audio until the agent's socket is open, and closes both legs. It has no webhook, tokens, metrics,
limits or deadlines: it does less than the bridge.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.build import BuildError, compiled, kept, run

HERE = Path(__file__).parent
# The bridge's default interval, BRIDGE_GATHER_MS.
GATHER_US = 500
NPM_PACKAGES = ("ws@8.23.0", "bufferutil@4.1.0")
GO_MODULE = "github.com/gorilla/websocket@v1.5.3"
# Where Debian's golang-github-gorilla-websocket-dev puts its source.
GO_PATH = Path("/usr/share/gocode")
PIP_PACKAGES = {
    "aiohttp": ("aiohttp==3.14.5", "orjson==3.13.0", "uvloop==0.23.0"),
    "fastapi": (
        "fastapi==0.165.0",
        "httptools==0.9.0",
        "orjson==3.13.0",
        "uvicorn==0.54.0",
        "uvloop==0.23.0",
        "websockets==17.4",
    ),
}

Command = list[str]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Peer:
    """A peer; ``build`` returns the command that starts it, or raises `BuildError`."""

    name: str
    made_of: str
    build: Callable[[Tell], Command]
    speaks_tls: bool = True


def _build_floor(tell: Tell) -> Command:
    return [str(compiled("floor", [HERE / "floor.c", HERE.parent / "generator" / "basics.h"]))]


def _build_gathering_floor(tell: Tell) -> Command:
    return [*_build_floor(tell), "--gather-us", str(GATHER_US)]


def _build_node(tell: Tell) -> Command:
    node, npm = _tool("node"), _tool("npm")
    source = HERE / "node_peer.mjs"

    def make(directory: Path) -> None:
        tell(f"node: installing {' and '.join(NPM_PACKAGES)}")
        # npm installs into the nearest directory with a package.json.
        (directory / "package.json").write_text("{}")
        run([npm, "install", "--no-audit", "--no-fund", *NPM_PACKAGES], "install ws", directory)
        shutil.copy(source, directory)

    return [node, str(kept("node", [source.read_bytes(), repr(NPM_PACKAGES).encode()], make) / source.name)]


def _build_go(tell: Tell) -> Command:
    go = _tool("go")
    source = HERE / "go_peer.go"
    has_package = (GO_PATH / "src/github.com/gorilla/websocket").is_dir()

    def make(directory: Path) -> None:
        tell("go: compiling, with " + ("the system's gorilla/websocket" if has_package else GO_MODULE))
        shutil.copy(source, directory / "main.go")
        if has_package:
            settings = {"GO111MODULE": "off", "GOPATH": str(GO_PATH)}
        else:
            settings = {"GO111MODULE": "on", "GOFLAGS": "-mod=mod"}
            run([go, "mod", "init", "peer"], "make a Go module", directory, settings)
            run([go, "get", GO_MODULE], f"fetch {GO_MODULE}", directory, settings)
        run([go, "build", "-o", "peer", "main.go"], "compile the Go peer", directory, settings)

    return [str(kept("go", [source.read_bytes(), repr((GO_MODULE, has_package)).encode()], make) / "peer")]


def _build_python(name: str) -> Callable[[Tell], Command]:
    def build(tell: Tell) -> Command:
        packages = PIP_PACKAGES[name]

        def make(directory: Path) -> None:
            tell(f"{name}: installing {', '.join(packages)}")
            # Links instead of copies, because a copied interpreter may not find its library. The later rename breaks
            # the scripts of the environment, but nothing uses them.
            run([sys.executable, "-m", "venv", str(directory)], f"make an environment for {name}")
            pip = [str(directory / "bin/python"), "-m", "pip", "install", "--quiet"]
            run([*pip, "--disable-pip-version-check", *packages], f"install {name}")

        recipe = repr((packages, sys.executable, sys.version)).encode()
        return [str(kept(name, [recipe], make) / "bin/python"), str(HERE / f"{name}_peer.py")]

    return build


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise BuildError(f"{name} is not installed here")
    return path


BRIDGE = "bridge"
PEERS = {
    peer.name: peer
    for peer in (
        Peer("floor", "C, epoll", _build_floor, speaks_tls=False),
        Peer(
            "floor-gather",
            f"the floor, with a sleep of {GATHER_US} us between two polls",
            _build_gathering_floor,
            speaks_tls=False,
        ),
        Peer("node", "Node.js, ws", _build_node),
        Peer("go", "Go, gorilla/websocket", _build_go),
        Peer("aiohttp", "aiohttp, orjson, uvloop", _build_python("aiohttp")),
        Peer("fastapi", "FastAPI, uvicorn, websockets", _build_python("fastapi")),
    )
}
