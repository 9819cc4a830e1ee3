#!/usr/bin/env bash
# LLaMA-Factory: pref_loss hinge and kto_pair train the sigmoid loss, and orpo with pref_ftx counts the NLL twice.
#
# A good guess: pref_loss names the loss; pref_ftx: 1.0 adds the supervised term that a preference loss lacks.
# What happens: LLaMA-Factory calls trl's dpo_loss without a loss type, and since trl 0.20 that argument's default, sigmoid,
#   replaces the one set on the trainer: the logged losses of hinge and kto_pair are those of sigmoid to the last digit, under
#   the name that was asked for. ORPO's loss has the NLL in it already, and pref_ftx adds it again: about twice the loss.
# Versions: llamafactory 0.9.5, trl 0.24.0 (the latest allowed), transformers 5.6.0. Seen 2026-11-29.
# Source: train/dpo/trainer.py, compute_preference_loss; trl/trainer/dpo_trainer.py, dpo_loss.
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

import torch
from llamafactory.train.tuner import run_exp
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(os.environ["TMP_DATA"])
words = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]  # a token per letter
bpe = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", pad_token="<pad>").save_pretrained(folder / "model")
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                             num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder / "model")
rows = [{"instruction": f"Say {i}", "chosen": f"yes {i} " * 3, "rejected": f"no {i}"} for i in range(8)]
(folder / "rows.json").write_text(json.dumps(rows))
columns = {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}
(folder / "dataset_info.json").write_text(json.dumps(
    {"rows": {"file_name": "rows.json", "ranking": True, "columns": columns}}))


def losses(name, **options):
    out = folder / name
    with contextlib.redirect_stdout(io.StringIO()):
        run_exp({"model_name_or_path": str(folder / "model"), "stage": "dpo", "do_train": True, "dataset": "rows",
                 "dataset_dir": str(folder), "template": "empty", "output_dir": str(out), "finetuning_type": "lora",
                 "lora_rank": 4, "cutoff_len": 100, "max_steps": 3, "per_device_train_batch_size": 4,
                 "learning_rate": 0.01, "logging_steps": 1, "report_to": "none", "save_strategy": "no", **options})
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    got = [step["loss"] for step in history if "loss" in step]
    print(f"{options}: loss {got}")
    return got


sigmoid, hinge, pair = (losses(name, pref_loss=name) for name in ("sigmoid", "hinge", "kto_pair"))
orpo, twice = losses("orpo", pref_loss="orpo"), losses("twice", pref_loss="orpo", pref_ftx=1.0)
print(f"orpo with pref_ftx 1.0: {twice[0] / orpo[0]:.2f} times the loss without")
if not (len(set(sigmoid)) > 1 and hinge == pair == sigmoid and 1.9 < twice[0] / orpo[0] < 2.1):
    raise SystemExit("CHANGED: hinge and kto_pair equalled sigmoid, and orpo with pref_ftx was about doubled")
EOF
