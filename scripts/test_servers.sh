#!/usr/bin/env bash
# Real vLLM and llama.cpp side by side: what each makes of every JSON schema that our methods send, of keywords and of
# fields, as tables for docs/servers.md; From Complex to Simple and the methods with a teacher against both; and vLLM
# killed in the middle of a run.
# Not part of the tests: vLLM is gigabytes, and without a GPU it takes minutes to start. PYTHON has the package with
# [embedded,train,dev]; vLLM's own Python is $IF_FACTORY_VLLM_PYTHON or what `if-factory vllm-env` made.
#   scripts/test_servers.sh --out DIR [--seeds 8] [--tokens 48] [--concurrency 8] [--only PARTS]
# PARTS: schemas,keywords,fields,run,methods,kill-own,kill-url
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHONPATH="$PWD" exec "${PYTHON:-python3}" scripts/test_servers.py "$@"
