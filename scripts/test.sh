#!/usr/bin/env bash
# Passes the tests on a fresh machine: sets up .venv, then linter, types, import order, fast, slow and end-to-end tests.
#   ./scripts/test.sh            everything
#   ./scripts/test.sh fast       linter, types, import order and the fast tests
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh "dev,embedded,train,local,eval,embed,ray"

export HYPOTHESIS_PROFILE="${HYPOTHESIS_PROFILE:-decide}"
ruff check .
mypy
lint-imports
# Two tests at a time; OMP_NUM_THREADS=1, or torch asks for all cores twice.
run() { OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" pytest -q -n "${TEST_PROCESSES:-2}" --durations=15 "$@"; }
run --dist worksteal
if [ "${1:-all}" != fast ]; then
  run --dist worksteal -m "slow and not gpu and not e2e"
  # By file: a run or a training that its tests share is made once. The longest files come first, or one core ends idle.
  run --dist loadscope --no-loadscope-reorder -m "e2e and not gpu" tests/e2e tests
fi
