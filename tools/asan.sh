#!/bin/sh
# Runs the codec's tests against a build with ASan and UBSan. Usage: tools/asan.sh PYTHON
# All three matter: --force (changed flags alone rebuild nothing), PYTHONMALLOC=malloc (Python's own allocator
# hides small overflows), and pytest -s (captured output would swallow the report). The cost of a frame is left out:
# it is counted by valgrind, which cannot run a program with ASan.
set -eu
python=$1
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r _codec tests tools setup.py pyproject.toml README.md LICENSE "$copy"/
cd "$copy"
rm -f _codec/*.so _codec/*.c
BRIDGE_SANITIZE=1 "$python" setup.py -q build_ext --inplace --force
LD_PRELOAD="$(${CC:-cc} -print-file-name=libasan.so) $(${CC:-cc} -print-file-name=libubsan.so)" \
  PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0 PYTHONPATH="$copy" \
  "$python" -m pytest -s -q -p no:cacheprovider tests/codec --ignore tests/codec/test_wire_cost.py
