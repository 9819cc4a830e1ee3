#!/usr/bin/env bash
# LLaMA-Factory: save_only_model: true also forgets where the learning rate was: a resumed run warms up again.
#
# A good guess: save_only_model saves disk by leaving the optimizer out; a run resumed from such a checkpoint goes on at its step
#   with the learning rate of that step, and only Adam's moments start anew.
# What happens: the step count goes on, and the learning rate starts again at its beginning, warm-up included: the schedule's state
#   is one of the files that are left out. The last steps are trained at the highest rate instead of the lowest. No warning.
# Versions: llamafactory 0.9.5, transformers 5.6.0. Seen 2026-11-30.
# Source: transformers/trainer.py, _save_checkpoint (scheduler.pt is written with the optimizer).
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
rows = [{"instruction": f"Say {i}", "output": f"yes {i} " * 3} for i in range(40)]
(folder / "rows.json").write_text(json.dumps(rows))
(folder / "dataset_info.json").write_text(json.dumps(
    {"rows": {"file_name": "rows.json", "columns": {"prompt": "instruction", "response": "output"}}}))


def rates(name, **options):
    """Learning rate of each of 10 steps: the first five, then those after resuming from the checkpoint at step 5."""
    out = folder / name
    config = {"model_name_or_path": str(folder / "model"), "stage": "sft", "do_train": True, "dataset": "rows",
              "dataset_dir": str(folder), "template": "empty", "output_dir": str(out), "finetuning_type": "lora",
              "lora_rank": 4, "cutoff_len": 100, "max_steps": 10, "save_steps": 5, "warmup_steps": 2,
              "lr_scheduler_type": "linear", "per_device_train_batch_size": 4, "learning_rate": 0.01,
              "logging_steps": 1, "report_to": "none", **options}
    with contextlib.redirect_stdout(io.StringIO()):
        run_exp(config)
        unbroken = json.loads((out / "trainer_state.json").read_text())["log_history"]
        run_exp({**config, "resume_from_checkpoint": str(out / "checkpoint-5")})
    resumed = json.loads((out / "trainer_state.json").read_text())["log_history"]
    found = [[round(step["learning_rate"], 6) for step in history if "learning_rate" in step]
             for history in (unbroken, resumed)]
    print(f"{name}: unbroken {found[0]}\n{name}: resumed  {found[1]}")
    return found


whole, only_model = rates("everything_saved"), rates("save_only_model", save_only_model=True)
if not (whole[0] == whole[1] == only_model[0] and only_model[1][5:] == only_model[0][:5] != only_model[0][5:]):
    raise SystemExit("CHANGED: after a checkpoint without the optimizer the schedule began again")
EOF
