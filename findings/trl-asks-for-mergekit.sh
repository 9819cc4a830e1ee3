#!/usr/bin/env bash
# trl 0.24 with transformers 5: importing a trainer fails for want of mergekit, a package that nothing here uses.
#
# A good guess: pip finds the pair compatible (trl 0.24 wants transformers >= 4.56.1), so `from trl import DPOTrainer` works; or,
#   by the error, the optional package mergekit has to be installed.
# What happens: transformers 5 changed the private helper that trl asks whether a package is there: its answer is a pair now, and
#   a pair is always true. trl takes every optional package for installed and imports mergekit. `import trl` succeeds, since
#   trainers are loaded late. The cure is transformers below 5, not mergekit. LLaMA-Factory 0.9.5 patches the helper, so the same
#   pair trains there, and a script of your own in the same environment does not import.
# Versions: trl 0.24.0, transformers 5.6.0, torch 2.13.0. Seen 2026-11-29. Source: trl/import_utils.py, _mergekit_available.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile torch==2.13.0 transformers==5.6.0 trl==0.24.0 datasets==4.0.0 accelerate==1.11.0
"$tmp/venv/bin/pip" check && echo "pip check: no conflict"
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=

"$tmp/venv/bin/python" - <<'EOF'
import importlib.util

import trl
from transformers.utils.import_utils import _is_package_available
from trl.import_utils import is_mergekit_available

print("trl", trl.__version__, "imported; mergekit installed:", importlib.util.find_spec("mergekit") is not None)
print("transformers says", _is_package_available("mergekit"), "and trl says", is_mergekit_available())
try:
    trl.DPOTrainer
    message = "the trainer was imported"
except RuntimeError as error:
    message = str(error).splitlines()[-1]
print("trl.DPOTrainer:", message)
if "No module named 'mergekit'" not in message or not is_mergekit_available():
    raise SystemExit("CHANGED: the import failed for want of mergekit when this was written")
EOF
