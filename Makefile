# Each target stands alone: it makes the virtual environment and builds the native core when they are missing or old.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# One environment in two steps: what a demo needs, and what development needs beside it.
DEMO := $(VENV)/.demo
READY := $(VENV)/.ready
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
CORE := pyproject.toml setup.py $(wildcard _codec/*.pyx _codec/*.pxd _codec/*.h)
export PYTHONDONTWRITEBYTECODE ?= 1

.PHONY: demo install test test-quick check bench asan package clean

demo: $(DEMO)  ## One whole call on this machine, with no account; leaves recordings and a picture in demo-out/.
	$(BIN)/python -m bridge demo $(ARGS)

install: $(DEMO)  ## The bridge in .venv, without the tools of development.

test: $(READY)
	@echo "The whole test suite; it takes about 20 minutes on 2 cores."
	$(BIN)/python -m pytest $(ARGS)

# Leaves out what starts whole processes, builds packages or takes load: see `quick` in tests/conftest.py.
test-quick: $(READY)
	$(BIN)/python -m pytest --quick -q $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m mypy.stubtest _codec --allowlist _codec/stubtest-allowlist.txt

bench: $(READY)
	$(BIN)/python -m benchmarks.load --calls 200 --seconds 10 $(ARGS)

# The native core under the address and undefined-behaviour sanitizers, in a copy so that the normal build stays.
asan: $(READY)
	sh tools/asan.sh $(abspath $(BIN))/python

# An sdist, a wheel built from it, and a call with that wheel in an environment of its own: what users install.
package: $(READY)
	rm -rf dist
	@sh tools/alive.sh "building sdist and wheel" $(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv --clear $(VENV)-wheel
	@sh tools/alive.sh "installing the wheel" $(VENV)-wheel/bin/python -m pip install --disable-pip-version-check "$$(ls dist/*.whl)[demo]"
	cd / && $(abspath $(VENV))-wheel/bin/bridge --version
	out=$$(mktemp -d) && cd / && $(abspath $(VENV))-wheel/bin/bridge demo --out "$$out" && rm -rf "$$out"
	rm -rf $(VENV)-wheel

clean:
	rm -rf build dist .venv .venv-* demo-out *.egg-info _codec/*.c _codec/*.so

$(DEMO): $(CORE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=python3.12 or the like." >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "A C compiler is needed to build the native core: apt-get install gcc (or your system's)." >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "Python's headers are needed to build the native core: apt-get install python3-dev (or your system's)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is needed: apt-get install python3-venv (or your system's)." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Building the native core into $(VENV); this takes a minute or two the first time."
	@sh tools/alive.sh "building" $(INSTALL) --editable '.[demo]'
	@touch $@

$(READY): $(DEMO)
	@echo "Installing the tools of development into $(VENV); this takes about a minute the first time."
	@sh tools/alive.sh "installing" $(INSTALL) --editable '.[demo,dev,vendors]'
	@touch $@
