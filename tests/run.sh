#!/bin/sh
# Every check, in the order in which a failure is cheapest to find. Usage: sh tests/run.sh BIN, where BIN holds the tools.
set -eu
bin=$(cd "$1" && pwd)
PATH=$bin:$PATH
export PATH OMP_NUM_THREADS=1
step() { printf '\n== %s\n' "$*"; }
sums() { find nbs reports reidnb \( -name '*.ipynb' -o -name '*.py' \) -not -path '*checkpoints*' -exec cksum {} + | sort -k 3; }

step "notebooks are clean and in sync with the package"
before=$(sums)
find reidnb -name '*.py' -not -path reidnb/__init__.py -delete
nbdev-clean
nbdev-clean --fname reports
nbdev-export
after=$(sums)
[ "$before" = "$after" ] || { echo "notebooks and modules differ; run 'make notebooks' and commit what changed"; git --no-pager diff --stat -- nbs reidnb; exit 1; }

step "lint, format, types"
ruff check .
ruff format --check nbs reports tests
mypy

step "every cell of every notebook, at smoke"
nbdev-test --n-workers 2
printf '%s\n' reports/*.ipynb | xargs -P 2 -n 1 nbdev-test

step "tests"
python -m pytest -n 2
