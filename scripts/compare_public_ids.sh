#!/usr/bin/env bash
# Compares our checkers for open-instruct's IFEvalG ids and IFBench's ids with the public ones. Not part of the tests:
# it fetches both repositories. OPEN_INSTRUCT and IFBENCH may name clones that are there already (bare ones too).
# COMPARE_VENV keeps the environment for another run.
set -euo pipefail
cd "$(dirname "$0")/.."

work="${COMPARE_VENV:-$(mktemp -d)}"
[ -n "${COMPARE_VENV:-}" ] || trap 'rm -rf "$work"' EXIT
python="$work/bin/python"
if [ ! -e "$work/public_ids.installed" ]; then
  "${PYTHON:-python3}" -m venv "$work"
  "$python" -m pip install --quiet absl-py emoji immutabledict langdetect nltk setuptools syllapy ".[compat]"
  "$python" -m pip download --quiet --no-deps --dest "$work/wheels" llama-index-core
  "$python" scripts/unpack_nltk_data.py "$work"
  rm -rf "$work/public"
  mkdir "$work/public"
  fetch() {  # a folder of one repository, without its history
    rm -rf "$work/$2.git"  # of an installation that was stopped
    git clone --quiet --bare --depth 1 "$1" "$work/$2.git"
    git -C "$work/$2.git" archive HEAD "${@:3}" | tar -x -C "$work/public"
  }
  fetch "${OPEN_INSTRUCT:-https://github.com/allenai/open-instruct}" open-instruct open_instruct/IFEvalG
  fetch "${IFBENCH:-https://github.com/allenai/IFBench}" ifbench ifbench
  touch "$work/public_ids.installed"
fi
PYTHONPATH="$PWD:$work/public" NLTK_DATA="$work/nltk_data" "$python" scripts/compare_public_ids.py "$@"
