#!/usr/bin/env bash
# LLaMA-Factory: an answer one token longer keeps a third of what it kept before; in DPO the other answer decides.
#
# A good guess: cutoff_len cuts the prompt or the end of the answer smoothly; chosen and rejected are cut apart.
# What happens: with cutoff_len 100 and a prompt of 300, an answer of 49 tokens is kept whole and one of 50 is cut to 14
#   (below half of cutoff_len only the prompt is cut, from there on both, in proportion). Of the prompt the END is cut, where
#   the question usually stands. In DPO the split is made once, for the longer answer: a chosen answer of 19 tokens is whole
#   beside a rejected one of 49 and is cut to 14 beside one of 50. No warning in either stage.
# Versions: llamafactory 0.9.5 (transformers 5.6.0, datasets 4.0.0). Seen 2026-11-29.
# Source: data/processor/processor_utils.py, infer_seqlen; data/processor/pairwise.py.
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


def kept(labels):
    answer = sum(label != -100 for label in labels)
    return len(labels) - answer, answer


sft = {"columns": {"prompt": "instruction", "response": "output"}}
lengths = (19, 49, 50, 299)
rows = [{"instruction": "p" * 300, "output": "a" * n} for n in lengths]
got = [kept(row["labels"]) for row in encoded("sft", rows, sft, cutoff_len=100)]
for length, (prompt, answer) in zip(lengths, got, strict=True):
    print(f"SFT, prompt 300, answer {length}: {prompt} and {answer} tokens are trained on")

pair = {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}}
lengths = (19, 49, 50, 99)
rows = [{"instruction": "p" * 300, "chosen": "c" * 19, "rejected": "r" * n} for n in lengths]
pairs = [kept(row["chosen_labels"])[1] for row in encoded("rm", rows, pair, cutoff_len=100)]
for length, chosen in zip(lengths, pairs, strict=True):
    print(f"DPO, chosen 19, rejected {length}: {chosen} tokens of chosen are left")

if got != [(81, 19), (51, 49), (86, 14), (51, 49)] or pairs != [19, 19, 14, 19]:
    raise SystemExit("CHANGED: 81+19, 51+49, 86+14, 51+49 and 19, 19, 14, 19 when this was written")
EOF
