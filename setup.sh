#!/bin/sh
# Make the virtual environment .venv for one purpose: .table (run), .lab (and look), .dev (and change). Called by make.
set -eu
purpose=${1:-.table}
say() { printf '%s\n' "$*" >&2; }

command -v git >/dev/null 2>&1 || { say "git is missing: install the package git (Debian, Ubuntu: apt install git; macOS: xcode-select --install)"; exit 1; }
python=${PYTHON:-}
for candidate in python3.13 python3.12 python3.11 python3; do
    [ -n "$python" ] && break
    command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && python=$candidate
done
[ -n "$python" ] || { say "Python 3.11, 3.12 or 3.13 is missing: install the package python3 (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python@3.13)"; exit 1; }
"$python" -c 'import ensurepip, venv' 2>/dev/null || { say "Python's venv module is missing: install the package python3-venv (Debian, Ubuntu: apt install python3-venv)"; exit 1; }

case $purpose in
    .table) what=. ;;
    .lab) what='.[lab]' ;;
    .dev) what='.[dev]' ;;
    *) say "setup.sh: expected .table, .lab or .dev, got $purpose"; exit 2 ;;
esac
[ -x .venv/bin/python ] || { say "making .venv with $("$python" --version)"; "$python" -m venv .venv; }
say "installing reidnb for ${purpose#.} (torch is large: a minute or three)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable "$what"
touch ".venv/$purpose"
