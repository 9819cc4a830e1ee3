#!/usr/bin/env bash
# LLaMA-Factory: a dataset named twice is trained once, and one of the three ways of mixing never works.
#
# A good guess: `dataset: a,b,a` weights a twice; `mix_strategy: interleave_once` is one of the documented choices.
# What happens: datasets are collected in a dictionary by name, so the second `a` replaces the first, without a word, and two
#   interleave_probs for `a,a` are taken too. interleave_once is accepted by the arguments and raises ValueError while the data
#   loads: it asks datasets for a stopping strategy that no release it allows (up to 4.0.0) has. To weight a dataset, give one
#   file two names in dataset_info.json.
# Versions: llamafactory 0.9.5, datasets 4.0.0 (the latest allowed). Seen 2026-11-29.
# Source: data/loader.py, _get_merged_dataset; data/data_utils.py, merge_dataset.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
venv=${FINDINGS_LLAMAFACTORY:-$tmp/venv}   # set it to a folder to install this set once for several findings
if [ ! -x "$venv/bin/llamafactory-cli" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --no-compile torch==2.13.0 transformers==5.6.0 datasets==4.0.0 accelerate==1.11.0 \
    peft==0.18.1 trl==0.24.0 omegaconf==2.3.0
  "$venv/bin/pip" install -q --no-compile --no-deps llamafactory==0.9.5   # its web page is not needed here
fi
touch "$tmp/torchaudio.py"   # imported, for audio only; an empty module spares a CUDA library
export TMP_DATA="$tmp" PYTHONPATH="$tmp" HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 \
  HF_DATASETS_DISABLE_PROGRESS_BARS=1 CUDA_VISIBLE_DEVICES=

"$venv/bin/python" - 2>"$tmp/log" <<'EOF' || { tail -20 "$tmp/log" >&2; exit 1; }
import contextlib
import io
import json
import os
from pathlib import Path

from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
from llamafactory.model import load_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

folder = Path(os.environ["TMP_DATA"])
special = ["<pad>", "</s>", "<|im_start|>", "<|im_end|>"]
words = special + sorted(pre_tokenizers.ByteLevel.alphabet())  # else a token per letter
bpe = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", pad_token="<pad>",
                        additional_special_tokens=special[2:]).save_pretrained(folder)
LlamaConfig(vocab_size=len(words)).save_pretrained(folder)


def encoded(stage, rows, entry, entries=None, **options):
    """What LLaMA-Factory trains on."""
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "dataset_info.json").write_text(json.dumps(entries or {"rows": {"file_name": "rows.json", **entry}}))
    values = {"model_name_or_path": str(folder), "stage": stage, "do_train": True, "dataset": "rows",
              "dataset_dir": str(folder), "template": "empty", "output_dir": str(folder / "out"),
              "overwrite_cache": True, "report_to": "none", **options}
    model_args, data_args, training_args = get_train_args(values)[:3]
    module = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
    with contextlib.redirect_stdout(io.StringIO()):
        return get_dataset(template, model_args, data_args, training_args, stage, **module)["train_dataset"]


tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
sft = {"columns": {"prompt": "instruction", "response": "output"}}
entries = {name: {"file_name": f"{file}.json", **sft} for name, file in (("a", "a"), ("b", "b"), ("a_again", "a"))}
for name in "ab":
    (folder / f"{name}.json").write_text(json.dumps([{"instruction": f"{name}{i}", "output": "."} for i in range(3)]))


def mixed(names, **options):
    try:
        data = encoded("sft", [], {}, entries, dataset=names, cutoff_len=100, **options)
    except ValueError as error:
        return f"ValueError: {error}"
    return " ".join(tokenizer.decode(row["input_ids"])[:2] for row in data)


over = {"mix_strategy": "interleave_over"}
seen = [
    ("a,b,a", {}, "a0 a1 a2 b0 b1 b2"),
    ("a,b,a_again", {}, "a0 a1 a2 b0 b1 b2 a0 a1 a2"),
    ("a,a", {**over, "interleave_probs": "0.5,0.5"}, "a0 a1 a2"),
    ("a,b", over, "a0 b0 a1 b1 a2 b2"),
    ("a,b", {"mix_strategy": "interleave_once"}, "ValueError: all_exhausted_without_replacement is not supported. "
     "Please enter a valid stopping_strategy."),
]
for names, options, expected in seen:
    got = mixed(names, **options)
    print(names, options, "->", got)
    if got != expected:
        raise SystemExit(f"CHANGED: {expected} when this was written")
EOF
