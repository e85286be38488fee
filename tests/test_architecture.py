"""Which module may import which: a table, held against the source."""

import ast
import graphlib
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import bridge

ROOT = Path(bridge.__file__).parent.parent

# Each library, and patterns of the modules that may import it.
ONLY_IN = {
    "picows": [
        "_codec.*",
        "bridge.call.caller",
        "bridge.call.agent",
        "bridge.server.server",
        "bridge.server.media_socket",
        "bridge.http.*",
    ],
    "aiofastnet": ["bridge.http.*"],
    "httptools": ["bridge.http.*"],
    "twilio": ["bridge.twilio.signature", "bridge.twilio.twiml", "bridge.standins.*"],
    "cryptography": ["bridge.seal"],
    "prometheus_client": ["bridge.metrics"],
    "pydantic": [
        "bridge.settings",
        "bridge.agents.*",
    ],
    "pydantic_settings": ["bridge.settings"],
    "aiohttp": [
        "bridge.agents.agent",
        "bridge.agents.session_request",
        "bridge.twilio.rest",
        "bridge.server.server",
        "bridge.standins.*",
    ],
    "aiohttp_retry": ["bridge.agents.session_request"],
    "retell": ["bridge.retell_agent.api"],
    "httpx": ["bridge.retell_agent.api"],
    "dotenv": ["bridge.retell_agent.command"],
    "click": ["bridge.cli", "bridge.__main__", "bridge.standins.*"],
    "uvloop": ["bridge.serve", "bridge.standins.*"],
    "numpy": ["bridge.standins.*"],
    "matplotlib": ["bridge.standins.*"],
}

# Modules of the call's core, and all that they may import of the project.
MAY_IMPORT = {
    "bridge": set(),
    "bridge.call.state": {"bridge.call.ends", "bridge.call.heard", "bridge.call.limits", "bridge.call.sides"},
    "bridge.call.heard": set(),
    "bridge.agents.setting_types": set(),
    "bridge.setting_names": {"bridge.call.limits"},
    "bridge.settings": {
        "bridge.agents.directory",
        "bridge.agents.setting_types",
        "bridge.setting_names",
    },
    "bridge.agents.directory": {
        "bridge.agents.agent",
        "bridge.agents.described",
        "bridge.agents.installed",
        "bridge.agents.routing",
        "bridge.agents.setting_types",
        "bridge.agents.toml_file",
        "bridge.agents.vendors",
    },
    "bridge.agents.installed": {"bridge.agents.agent"},
    "bridge.agents.routing": {"bridge.agents.toml_file"},
    "bridge.agents.toml_file": set(),
    "bridge.agents.sessions": {"bridge.agents.agent", "bridge.agents.directory"},
    "bridge.twilio.rest": {"bridge.twilio.twiml"},
    "bridge.call.transcode": {"_codec", "bridge.agents.agent"},
    "bridge.twilio.signature": set(),
    "bridge.twilio.twiml": set(),
    "bridge.twilio.tokens": {"bridge.seal"},
    "bridge.metrics": set(),
    "bridge.logs": set(),
    "bridge.http.messages": set(),
    "bridge.twilio.media": {"_codec"},
    "bridge.call.leg": {"_codec", "bridge.call.sides", "bridge.call.state", "bridge.metrics"},
    "bridge.server.registry": {"bridge.agents.sessions", "bridge.call.ends", "bridge.call.state"},
    "bridge.agents.agent": {"_codec"},
    "bridge.agents.session_request": {"bridge.agents.agent"},
    "bridge.call.echo": {"bridge.agents.agent", "bridge.call.sides", "bridge.call.state"},
}


# An agent is described without a look at anything else.
FOR_AGENTS = {
    "_codec",
    "bridge.agents.agent",
    "bridge.agents.json_dialogue",
    "bridge.agents.session_request",
    "bridge.agents.setting_types",
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def sources(package: str) -> dict[str, Path]:
    return {name_of(path): path for path in sorted((ROOT / package).rglob("*.py"))}


MODULES = {**sources("bridge"), **sources("_codec")}


def imports(path: Path, *, lazy: bool) -> set[str]:
    """The modules that a source imports when it runs; ``lazy`` includes the imports within functions."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            below = {f"{base}.{alias.name}" for alias in node.names}
            found |= (below & MODULES.keys()) | ({base} if below - MODULES.keys() else set())
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += ast.iter_child_nodes(node)
    return found


ALL_IMPORTS = {name: imports(path, lazy=True) for name, path in MODULES.items()}


def of_project(modules: set[str]) -> set[str]:
    return {module for module in modules if module.split(".")[0] in ("bridge", "_codec")}


def test_the_table_names_modules_that_exist():
    assert MAY_IMPORT.keys() <= MODULES.keys()


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_only_where_it_belongs(library):
    for name, modules in ALL_IMPORTS.items():
        if any(module.split(".")[0] == library for module in modules):
            assert any(fnmatchcase(name, pattern) for pattern in ONLY_IN[library]), name


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_module_imports_no_more_of_the_project_than_it_may(name):
    assert of_project(ALL_IMPORTS[name]) <= MAY_IMPORT[name]


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("bridge.agents.vendors.")])
def test_agent_imports_only_what_describes_agents(name):
    beyond = of_project(ALL_IMPORTS[name]) - FOR_AGENTS
    assert all(module.startswith("bridge.agents.vendors.retell") for module in beyond)
    assert not beyond or name.startswith("bridge.agents.vendors.retell_")


def test_private_names_of_picows_are_behind_one_module():
    for name, modules in ALL_IMPORTS.items():
        if name.startswith("bridge"):
            assert name == "bridge.http.handover" or not any(m.startswith("picows.") for m in modules), name


def test_codec_knows_nothing_of_the_rest():
    for name, modules in ALL_IMPORTS.items():
        if name.startswith("_codec"):
            assert not any(module.split(".")[0] == "bridge" for module in modules), name


def test_standins_import_nothing_of_what_they_test():
    for name, modules in ALL_IMPORTS.items():
        if name.startswith("bridge.standins"):
            assert all(module.startswith("bridge.standins") for module in of_project(modules)), name


def test_server_imports_no_standin():
    for name, modules in ALL_IMPORTS.items():
        if not name.startswith(("bridge.standins", "bridge.cli")):
            assert not any(module.startswith("bridge.standins") for module in modules), name


def test_package_imports_nothing():
    assert of_project(ALL_IMPORTS["bridge"]) == set()


def test_call_has_neither_input_nor_output_nor_a_clock():
    assert ALL_IMPORTS["bridge.call.state"] | ALL_IMPORTS["bridge.call.heard"] <= {
        "__future__",
        "re",
        "enum",
        "collections.abc",
        "dataclasses",
        "typing",
        "bridge.call.ends",
        "bridge.call.heard",
        "bridge.call.limits",
        "bridge.call.sides",
    }


def test_imports_make_no_circle():
    at_import = {
        name: of_project(imports(path, lazy=False)) & MODULES.keys() for name, path in MODULES.items()
    }
    tuple(graphlib.TopologicalSorter(at_import).static_order())


def test_server_starts_without_heavy_modules():
    code = "import sys, bridge.serve; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "bridge.server.server" in loaded
    assert not {"numpy", "matplotlib", "twilio.rest", "click", "pytest"} & set(loaded)
    assert not any(module.startswith("bridge.standins") for module in loaded)
