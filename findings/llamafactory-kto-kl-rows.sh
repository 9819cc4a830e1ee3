#!/usr/bin/env bash
# LLaMA-Factory, KTO: where both answers to a prompt stand in neighbouring rows, half of the "mismatched" answers match.
#
# A good guess: KTO's KL term pairs each prompt with the answer to another one, drawn at random or from the same step's batch.
# What happens: the pairing is made once, before any shuffling: each row takes the answer of the row BEFORE it, and the first
#   row of a map batch (preprocessing_batch_size, 1,000) the batch's last. Preference pairs written as two KTO rows one after
#   the other, the obvious way, give every second row the other answer to its own prompt, so the KL estimate is made of matching
#   answers there. A batch of one row takes its own answer. Shuffle such a file before training; the seed does not help.
# Versions: llamafactory 0.9.5 (transformers 5.6.0, datasets 4.0.0). Seen 2026-11-29.
# Source: data/processor/feedback.py, preprocess_dataset.
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
kto = {"columns": {"prompt": "instruction", "response": "output", "kto_tag": "label"}}
rows = [{"instruction": q + "?", "output": q + sign, "label": sign == "+"} for q in "ABC" for sign in "+-"]
seen = {1000: "A?C- A?A+ B?A- B?B+ C?B- C?C+", 4: "A?B- A?A+ B?A- B?B+ C?C- C?C+", 1: "A?A+ A?A- B?B+ B?B- C?C+ C?C-"}
print("rows:                      ", " ".join(row["instruction"] + row["output"] for row in rows))
for size, expected in seen.items():
    data = encoded("kto", rows, kto, cutoff_len=100, preprocessing_batch_size=size)
    got = " ".join(tokenizer.decode(row["kl_input_ids"]) for row in data)
    print(f"KL rows, batches of {size:4}:  ", got)
    if got != expected:
        raise SystemExit(f"CHANGED: {expected} when this was written")
print("matching answers in the KL term:", sum(text[0] == text[2] for text in seen[1000].split()), "of 6")
EOF
