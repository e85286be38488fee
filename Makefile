# Each target stands alone: it makes the virtual environment and builds the native core when they are missing or old.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PYTHONDONTWRITEBYTECODE ?= 1

.PHONY: demo test check bench asan package clean

demo: $(READY)  ## One whole call on this machine, with no account; leaves recordings and a picture in demo-out/.
	$(BIN)/python -m bridge demo

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

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

# An sdist, a wheel built from it, and that wheel started in an environment of its own: what users install.
package: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist . >dist.log 2>&1 || { cat dist.log; exit 1; }
	rm -f dist.log
	$(PYTHON) -m venv --clear $(VENV)-wheel
	$(VENV)-wheel/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	cd / && $(abspath $(VENV))-wheel/bin/bridge --version && $(abspath $(VENV))-wheel/bin/python -c 'import _codec'
	rm -rf $(VENV)-wheel

clean:
	rm -rf build dist .venv .venv-* demo-out *.egg-info _codec/*.c _codec/*.so

$(READY): pyproject.toml setup.py $(wildcard _codec/*.pyx _codec/*.pxd _codec/*.h)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=python3.12 or the like." >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null || { echo "A C compiler is needed to build the native core: apt-get install gcc (or your system's)." >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "Python's headers are needed to build the native core: apt-get install python3-dev (or your system's)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "Python's venv module is needed: apt-get install python3-venv (or your system's)." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Building the native core and installing what it needs into $(VENV); a minute the first time."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,dev,vendors]'
	@touch $@
