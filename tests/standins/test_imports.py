"""The stand-ins are an independent implementation: they import nothing of what they test."""

import ast
import subprocess
import sys
from pathlib import Path

import bridge.standins

PACKAGE = Path(bridge.standins.__file__).parent


def imported_modules(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def test_standins_import_nothing_else_of_the_project():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 10
    for path in files:
        for module in imported_modules(path):
            assert not module.startswith(".."), f"{path.name} imports {module}"
            if f"{module}.".startswith("bridge.standins."):
                continue
            top = module.partition(".")[0]
            assert top not in {"bridge", "_codec", "picows", "aiofastnet", "orjson"}, f"{path.name}: {module}"


def test_command_line_imports_without_heavy_modules():
    code = "import sys, bridge.cli; print(*sorted(m for m in sys.modules if '.' not in m))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"aiohttp", "matplotlib", "numpy", "twilio", "picows", "pydantic"} & set(out)
