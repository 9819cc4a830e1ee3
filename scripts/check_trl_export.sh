#!/bin/sh
# What trl trains of `export --format trl`, and of our alpaca and sharegpt rows: installs trl beside nothing else
# (it needs newer libraries than LLaMA-Factory takes) and shows the tokens with loss. Not part of CI.
# TRL=1.16.0 picks a version; TRL_VENV another folder; PYTHON the interpreter that makes it.
set -eu
cd "$(dirname "$0")/.."
VENV="${TRL_VENV:-.venv-trl}"
if [ ! -x "$VENV/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$VENV"
fi
if ! "$VENV/bin/python" -c "import trl, pydantic" 2>/dev/null; then
  echo "installing trl ${TRL:-1.16.0} into $VENV (a few minutes: it brings PyTorch)"
  "$VENV/bin/python" -m pip install --quiet "trl==${TRL:-1.16.0}" --editable .
fi
PYTHONPATH="$PWD" TRANSFORMERS_VERBOSITY=error HF_HUB_OFFLINE=1 "$VENV/bin/python" scripts/check_trl_export.py
