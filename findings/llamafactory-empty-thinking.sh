#!/usr/bin/env bash
# LLaMA-Factory: template qwen3 trains the model to open with an empty thought, except where the answer mentions a think tag.
#
# A good guess: plain answers are trained as they are; or an empty thinking block stands in the prompt, without loss, as in
#   Qwen3's own chat template with enable_thinking=False.
# What happens: with the default (enable_thinking: true) "<think>\n\n</think>\n\n" is put before each plain answer WITH loss:
#   the model learns not to think when asked to. An answer that merely speaks of <think> or </think> gets no block, so that
#   within one DPO pair or one dataset some answers have it and some have not. enable_thinking: false moves the block into the
#   prompt, for plain answers only: before an answer that speaks of the tag it is missing there too.
# Versions: llamafactory 0.9.5 (transformers 5.6.0, datasets 4.0.0). Seen 2026-11-29.
# Source: data/template.py, ReasoningTemplate.
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
rows = [{"instruction": "Q", "output": text} for text in ("Paris.", "Write <think> first.", "End with </think>.")]
block = "<think>\n\n</think>\n\n"
seen = {True: [("", block + "Paris."), ("", "Write <think> first."), ("", "End with </think>.")],
        False: [(block, "Paris."), ("", "Write <think> first."), ("", "End with </think>.")]}
for thinking, expected in seen.items():
    got = []
    for row in encoded("sft", rows, sft, template="qwen3", enable_thinking=thinking, cutoff_len=200):
        start = next(i for i, label in enumerate(row["labels"]) if label != -100)
        prompt, answer = tokenizer.decode(row["input_ids"][:start]), tokenizer.decode(row["input_ids"][start:])
        got.append((prompt.split("assistant\n")[1], answer.split("<|im_end|>")[0]))
        print(f"enable_thinking {thinking}: no loss on {got[-1][0]!r}, loss on {got[-1][1]!r}")
    if got != expected:
        raise SystemExit(f"CHANGED: {expected} when this was written")
EOF
