#!/usr/bin/env bash
# LLaMA-Factory: lora_dropout has no effect in DPO, KTO and ORPO; it has one in SFT.
#
# A good guess: lora_dropout: 0.5 in a YAML regularises the adapter whatever the stage.
# What happens: the trainers of stage dpo and kto switch every dropout layer of the model off (as trl does by default, where a key
#   switches it on again; here none does), the adapter's too: losses with 0.0 and 0.5 are equal to the last digit. In SFT they differ.
# Versions: llamafactory 0.9.5, trl 0.24.0, transformers 5.6.0, peft 0.18.1. Seen 2026-11-30.
# Source: train/dpo/trainer.py and train/kto/trainer.py, __init__ (disable_dropout).
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
pairs = [{"instruction": f"Say {i}", "chosen": f"yes {i} " * 3, "rejected": f"no {i}"} for i in range(8)]
single = [{"instruction": f"Say {i}", "output": f"yes {i} " * 3, "good": i % 2 == 0} for i in range(8)]
(folder / "pairs.json").write_text(json.dumps(pairs))
(folder / "single.json").write_text(json.dumps(single))
(folder / "dataset_info.json").write_text(json.dumps({
    "dpo": {"file_name": "pairs.json", "ranking": True,
            "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}},
    "sft": {"file_name": "single.json", "columns": {"prompt": "instruction", "response": "output"}},
    "kto": {"file_name": "single.json",
            "columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"}}}))


def losses(stage, dropout, **options):
    out = folder / f"{stage}{dropout}{len(options)}"
    with contextlib.redirect_stdout(io.StringIO()):
        run_exp({"model_name_or_path": str(folder / "model"), "stage": stage, "do_train": True, "dataset": stage,
                 "dataset_dir": str(folder), "template": "empty", "output_dir": str(out), "finetuning_type": "lora",
                 "lora_rank": 4, "lora_dropout": dropout, "cutoff_len": 100, "max_steps": 4,
                 "per_device_train_batch_size": 4, "learning_rate": 0.05, "logging_steps": 1, "report_to": "none",
                 "save_strategy": "no", **options})
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    got = [step["loss"] for step in history if "loss" in step]
    print(f"{stage} {options or ''} lora_dropout {dropout}: loss {got}")
    return got


same = {name: losses(stage, 0.0, **more) == losses(stage, 0.5, **more)
        for name, stage, more in (("sft", "sft", {}), ("dpo", "dpo", {}), ("orpo", "dpo", {"pref_loss": "orpo"}),
                                  ("kto", "kto", {}))}
print("equal with and without dropout:", same)
if same != {"sft": False, "dpo": True, "orpo": True, "kto": True}:
    raise SystemExit("CHANGED: lora_dropout changed SFT's losses, and none of dpo, orpo and kto")
EOF
