#!/bin/sh
# Makes every lock from its .in file: `make lock` (keeps the versions that are locked, takes what is
# new in the .in files) or `make lock UPGRADE=--upgrade`. CPU torch must be known here by its hash, so
# WHEELS names a folder or page of links that holds it.
set -eu
cd "$(dirname "$0")/.."
uv="$1"; wheels="$2"; upgrade="${3:-}"
common="--python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-header --annotation-style line --quiet $upgrade"
compile() { name="$1"; shift; echo "locking $name"; "$uv" pip compile "requirements/$name.in" -o "requirements/$name.lock" $common "$@"; }
compile bootstrap
compile node
compile dev --find-links "$wheels" --override requirements/cpu-overrides.txt
compile cpu --find-links "$wheels" --override requirements/cpu-overrides.txt -c requirements/dev.lock
compile control -c requirements/dev.lock
compile gpu -c requirements/control.lock
(cd frontend && npm install --package-lock-only --ignore-scripts --no-audit --no-fund)
python3.11 requirements/complete_npm_lock.py
