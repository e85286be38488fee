"""
The rooms of the project and the arrows between them: one table, held against every module.

``python tests/test_architecture.py`` prints the rooms with their arrows as they are.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Patterns of modules, and the room that they are in; the first match counts.
ROOMS = [
    ("bridge", "face"),
    ("bridge.__main__", "main"),
    ("bridge.cli", "cli"),
    ("bridge.commands*", "commands"),
    ("bridge.serve", "serve"),
    ("bridge.seal", "seal"),
    ("bridge.logs", "logs"),
    ("bridge.log_writer", "logs"),
    ("bridge.metrics", "metrics"),
    ("bridge.metric_labels", "metrics"),
    ("bridge.settings", "settings"),
    ("bridge.descriptors", "settings"),
    ("bridge.number_lists", "settings"),
    ("bridge.setting_checks", "settings"),
    ("bridge.setting_fields", "settings"),
    ("bridge.setting_names", "settings"),
    ("bridge.setting_region", "settings"),
    ("bridge.setting_values", "settings"),
    ("bridge.tls_files", "settings"),
    ("bridge.http", "http"),
    ("bridge.http.*", "http"),
    ("bridge.twilio", "twilio"),
    ("bridge.twilio.*", "twilio"),
    ("bridge.agents.vendors*", "vendors"),
    ("bridge.agents", "agents"),
    ("bridge.agents.*", "agents"),
    # What settings may import of a call.
    ("bridge.call.limits", "limits"),
    ("bridge.call", "call"),
    ("bridge.call.*", "call"),
    ("bridge.server.store*", "store"),
    ("bridge.server.workers*", "workers"),
    ("bridge.server.events*", "events"),
    ("bridge.server.records*", "records"),
    ("bridge.server.page*", "page"),
    ("bridge.server", "server"),
    ("bridge.server.*", "server"),
    ("bridge.standins.twilio*", "standins/twilio"),
    ("bridge.standins.agent*", "standins/agent"),
    ("bridge.standins.process", "standins/process"),
    ("bridge.standins*", "standins"),
    ("bridge.retell_agent*", "retell_agent"),
    ("_codec*", "_codec"),
    ("benchmarks*", "benchmarks"),
]

# Each room, and the rooms that it may import beside itself.
ARROWS: dict[str, set[str]] = {
    "http": {"_codec"},
    "metrics": set(),
    "logs": set(),
    "seal": set(),
    "limits": set(),
    "_codec": set(),
    "retell_agent": set(),
    "standins/process": set(),
    # Between the walls lies what both sides use; only the demo and the commands see both.
    "standins/twilio": {"standins"},
    "standins/agent": {"standins"},
    "standins": {"standins/twilio", "standins/agent", "standins/process"},
    "twilio": {"_codec", "seal"},
    # The directory lists the folder of vendors and loads its modules by name.
    "agents": {"_codec", "metrics", "vendors"},
    "vendors": {"_codec", "agents"},
    "settings": {"agents", "limits"},
    "call": {"_codec", "agents", "limits", "metrics"},
    # No file of the server's: what it must know of a call comes as arguments.
    "store": {"agents", "call", "metrics", "seal", "settings"},
    # Likewise.
    "workers": {"http", "logs", "metrics", "settings", "store"},
    "events": {"metrics", "seal", "store"},
    "records": {"_codec", "call", "metrics", "store"},
    "page": {"http", "seal", "store"},
    "server": {
        *("_codec", "agents", "call", "http", "limits", "logs", "metrics", "seal", "settings", "twilio"),
        *("store", "workers", "events", "records", "page"),
        # Retell's webhook is checked by the rule of its vendor.
        "vendors",
    },
    "serve": {"_codec", "agents", "http", "logs", "metrics", "server", "settings", "store", "workers"},
    "commands": {"agents", "call", "seal", "settings", "store", "twilio"},
    "cli": {"commands", "retell_agent", "serve", "standins"},
    "main": {"cli"},
    "face": {"_codec", "agents", "server", "settings"},
    "benchmarks": {"_codec", "standins/process", "standins/twilio"},
}

# Pairs of rooms that meet in two directions at the level of modules, which make no circle.
MEET = [{"standins", "standins/twilio"}, {"standins", "standins/agent"}, {"agents", "vendors"}]
# Modules between the walls of the stand-ins that see both sides.
SEE_BOTH_SIDES = {f"bridge.standins.{name}" for name in ("accounting", "commands", "demo", "picture")}
# Modules of the benchmarks that measure the native core itself.
MEASURE_THE_CORE = {"benchmarks.codec", "benchmarks.transcoded"}

# Third parties, and patterns of the modules that may import them.
ONLY_IN = {
    "redis": ["bridge.server.store.redis*"],
    "opentelemetry": ["bridge.server.traces"],
    "picows": [
        *("_codec.*", "bridge.http.*", "bridge.call.caller", "bridge.call.agent*"),
        *("bridge.server.media_socket", "bridge.server.paths", "bridge.server.probe"),
    ],
    "aiofastnet": ["_codec.*", "bridge.http.*"],
    "httptools": ["bridge.http.*"],
    "twilio": ["bridge.twilio.*", "bridge.standins.twilio.*"],
    "cryptography": ["bridge.seal", "bridge.tls_files", "benchmarks.tls"],
    "prometheus_client": ["bridge.metrics"],
    "pydantic": [
        "bridge.settings",
        "bridge.setting_checks",
        "bridge.setting_fields",
        "bridge.setting_values",
        "bridge.number_lists",
        "bridge.agents.*",
        "bridge.retell_agent.*",
    ],
    "pydantic_settings": ["bridge.settings"],
    "aiohttp": [
        "bridge.agents.*",
        "bridge.twilio.rest*",
        "bridge.commands.*",
        "bridge.server.*",
        "bridge.standins.*",
        "benchmarks.*",
    ],
    "aiohttp_retry": ["bridge.agents.session_request"],
    "aiohappyeyeballs": ["bridge.call.agent_socket"],
    "retell": ["bridge.retell_agent.api"],
    "httpx": ["bridge.retell_agent.api"],
    "dotenv": ["bridge.retell_agent.command"],
    "click": ["bridge.cli", "bridge.commands.*", "bridge.__main__", "bridge.standins.*", "benchmarks.*"],
    "uvloop": ["bridge.serve", "bridge.standins.*", "benchmarks.*"],
    "soundfile": ["bridge.server.records.opus_file"],
    "numpy": ["bridge.standins.*", "benchmarks.*"],
    "matplotlib": ["bridge.standins.*", "benchmarks.*"],
}
INDEPENDENT_OF = {"picows", "aiofastnet", "orjson"}

MAX_LINES = 400
# The C programs are one loop each, which is read as a whole.
MORE_LINES = {"bridge/server/server.py": 200, "*.c": 500, "*.h": 500}

# Tests that are about no single module of their room, and what they are about.
NO_MODULE = {
    "tests/test_agent_pages.py": "docs/agents.md and docs/agents/",
    "tests/test_table_page.py": "docs/agents/file.md",
    "tests/test_architecture.py": "all rooms",
    "tests/test_alerts.py": "the alerts in deploy/",
    "tests/test_deploy.py": "the systemd units",
    "tests/test_prometheus.py": "the dashboard and the alerts in deploy/",
    "tests/test_docs.py": "the documents",
    "tests/test_package.py": "what is built and shipped",
    "tests/test_public.py": "bridge/__init__.py",
    "tests/test_readme.py": "the README's commands",
    "tests/test_latency_page.py": "docs/latency.md",
    "tests/test_metrics_page.py": "docs/metrics.md",
    "tests/test_settings_page.py": "docs/settings.md",
    "tests/server/test_balancers.py": "the configurations in deploy/",
    "tests/server/test_first_requests.py": "the server as a whole",
    "tests/server/test_two_processes.py": "two processes as a whole",
    "tests/server/test_versions.py": "two processes as a whole, of two versions",
    "tests/agents/test_example.py": "the project in examples/",
    "tests/agents/vendors/test_typed.py": "each vendor's own SDK as the judge",
}
# Folders of tests whose modules lie elsewhere than in bridge/.
TESTS_OF = {"codec": "_codec", "benchmarks": "benchmarks", "support": None}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def sources(package: str) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for suffix in ("py", "pyx", "pxd"):
        for path in sorted((ROOT / package).rglob(f"*.{suffix}")):
            found.setdefault(name_of(path), []).append(path)
    return found


MODULES = {**sources("bridge"), **sources("_codec"), **sources("benchmarks")}


def room_of(module: str) -> str | None:
    return next((room for pattern, room in ROOMS if fnmatchcase(module, pattern)), None)


def cython_imports(text: str) -> set[str]:
    found: set[str] = set()
    for line in re.findall(r"^(?:cimport|import|from) .*$", text, re.MULTILINE):
        if one := re.match(r"from (\S+) c?import (.*)", line):
            below = {f"{one[1]}.{name.split()[0]}" for name in one[2].strip("()").split(",") if name.strip()}
            found |= (below & MODULES.keys()) or {one[1]}
        else:
            found |= {name.split()[0] for name in line.partition("import ")[2].split(",")}
    return found


def python_imports(path: Path, *, lazy: bool) -> set[str]:
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
        elif lazy or not (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types(node)):
            todo += ast.iter_child_nodes(node)
    return found


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(module: str, *, lazy: bool = True) -> set[str]:
    """The modules that a module imports; ``lazy``: within functions too."""
    found: set[str] = set()
    for path in MODULES[module]:
        found |= python_imports(path, lazy=lazy) if path.suffix == ".py" else cython_imports(path.read_text())
    return found


ALL_IMPORTS = {name: imports(name) for name in MODULES}


def of_project(modules: set[str]) -> set[str]:
    return {module for module in modules if module.split(".")[0] in ("bridge", "_codec", "benchmarks")}


def arrows() -> dict[str, set[str]]:
    """The rooms, and the rooms that each imports."""
    found: dict[str, set[str]] = {room: set() for room in ARROWS}
    for name, modules in ALL_IMPORTS.items():
        room = room_of(name)
        if room is not None:
            found[room] |= {r for module in of_project(modules) if (r := room_of(module))} - {room}
    return found


def table() -> str:
    """Rooms and arrows as lines, each room above those that it imports."""
    found = arrows()
    one_way = {
        room: {to for to in tos if {room, to} not in MEET or room in ("standins", "agents")}
        for room, tos in found.items()
    }
    order = list(graphlib.TopologicalSorter(one_way).static_order())[::-1]
    return "\n".join(f"{room:<17} -> {', '.join(sorted(found[room])) or '(nothing)'}" for room in order)


def test_every_module_is_in_a_room():
    assert [name for name in MODULES if room_of(name) is None] == []


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_only_what_its_room_may(name):
    room = room_of(name)
    beyond = {
        module for module in of_project(ALL_IMPORTS[name]) if room_of(module) not in {room, *ARROWS[room]}
    }
    assert not beyond, f"{name} imports {sorted(beyond)}\n{table()}"


def test_no_arrow_climbs_and_none_makes_a_circle():
    one_way = {
        room: {to for to in tos if {room, to} not in MEET or room in ("standins", "agents")}
        for room, tos in ARROWS.items()
    }
    tuple(graphlib.TopologicalSorter(one_way).static_order())


def test_imports_of_modules_make_no_circle():
    at_import = {name: of_project(imports(name, lazy=False)) & MODULES.keys() for name in MODULES}
    tuple(graphlib.TopologicalSorter(at_import).static_order())


@pytest.mark.parametrize("library", ONLY_IN)
def test_library_is_imported_only_where_it_belongs(library):
    for name, modules in ALL_IMPORTS.items():
        if any(module.split(".")[0] == library for module in modules):
            assert any(fnmatchcase(name, pattern) for pattern in ONLY_IN[library]), name


def test_private_names_of_picows_are_behind_one_module():
    for name, modules in ALL_IMPORTS.items():
        if name.startswith("bridge"):
            assert name == "bridge.http.handover" or not any(m.startswith("picows.") for m in modules), name


def test_vendors_import_only_vendors_of_their_firm():
    for name, modules in ALL_IMPORTS.items():
        if room_of(name) == "vendors":
            firm = name.rpartition(".")[2].partition("_")[0]
            for module in modules:
                if room_of(module) == "vendors":
                    assert module.rpartition(".")[2].partition("_")[0] == firm, f"{name} imports {module}"


def test_agents_name_no_vendor():
    for name, modules in ALL_IMPORTS.items():
        if room_of(name) == "agents":
            assert not any(module.startswith("bridge.agents.vendors.") for module in modules), name


def test_only_what_sees_both_sides_of_the_standins_crosses_the_walls():
    for name, modules in ALL_IMPORTS.items():
        if room_of(name) == "standins" and name not in SEE_BOTH_SIDES:
            assert not {room_of(m) for m in modules} & {"standins/twilio", "standins/agent"}, name


def test_standins_are_independent_of_what_they_test():
    for name, modules in ALL_IMPORTS.items():
        if name.startswith("bridge.standins"):
            assert not {module.split(".")[0] for module in modules} & INDEPENDENT_OF, name


def test_benchmarks_import_the_core_only_to_measure_it():
    for name, modules in ALL_IMPORTS.items():
        if any(room_of(module) == "_codec" for module in modules) and room_of(name) == "benchmarks":
            assert name in MEASURE_THE_CORE, name


def test_server_is_a_folder_without_a_door():
    assert (ROOT / "bridge/server/__init__.py").read_text() == ""


def test_the_call_has_neither_input_nor_output_nor_a_clock():
    first = ("conversation", "ends", "farewell", "heard", "hearing", "limits", "record")
    pure = {f"bridge.call.{name}" for name in (*first, "sides", "state", "talk", "turns")}
    pure |= {"bridge.agents.succession", "bridge.agents.turns"}
    allowed = {
        "__future__",
        "array",
        "re",
        "enum",
        "math",
        "collections",
        "collections.abc",
        "dataclasses",
        "typing",
        "_codec",
        *pure,
    }
    for name in pure:
        assert ALL_IMPORTS[name] <= allowed, name


def test_call_and_core_name_no_carrier():
    for name in MODULES:
        if room_of(name) in ("call", "_codec"):
            for path in MODULES[name]:
                assert "streamSid" not in path.read_text(), path


def test_no_file_is_too_long():
    files = subprocess.run(
        ["git", "ls-files", "bridge", "_codec", "benchmarks"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    code = [name for name in files if name.endswith((".py", ".pyx", ".c", ".h")) and (ROOT / name).exists()]
    assert len(code) > 50
    for name in code:
        patterns = [pattern for pattern in MORE_LINES if fnmatchcase(name, pattern)]
        most = MORE_LINES[patterns[0]] if patterns else MAX_LINES
        assert len((ROOT / name).read_text().splitlines()) <= most, f"{name} has more than {most} lines"


def module_of_test(path: Path) -> Path | None:
    """The module that a test is about, by the longest beginning of its name that is one."""
    folder = path.parent.relative_to(ROOT / "tests")
    top, *rest = folder.parts or ("",)
    package = ROOT / TESTS_OF.get(top, f"bridge/{top}") if top else ROOT / "bridge"
    words = path.stem.removeprefix("test_").split("_")
    for n in range(len(words), 0, -1):
        for suffix in (".py", ".pyx", "/__init__.py", "/driver.py"):
            candidate = package.joinpath(*rest, "_".join(words[:n]) + suffix)
            if candidate.exists():
                return candidate
    return None


def test_each_test_lies_where_its_module_lies():
    tests = sorted(path for path in (ROOT / "tests").rglob("test_*.py"))
    lost = [
        name
        for path in tests
        if (name := str(path.relative_to(ROOT))) not in NO_MODULE and module_of_test(path) is None
    ]
    assert lost == []


def test_server_starts_without_heavy_modules():
    code = "import sys, bridge.serve; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "bridge.server.server" in loaded
    assert not {"numpy", "matplotlib", "twilio.rest", "click", "pytest"} & set(loaded)
    assert not any(module.startswith(("bridge.standins", "bridge.retell_agent")) for module in loaded)


def test_command_line_starts_without_heavy_modules():
    code = "import sys, bridge.cli; print(*sorted(m for m in sys.modules if '.' not in m))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"aiohttp", "matplotlib", "numpy", "twilio", "picows", "pydantic"} & set(loaded)


if __name__ == "__main__":
    print(table())
