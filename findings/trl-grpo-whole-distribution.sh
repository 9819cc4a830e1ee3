#!/usr/bin/env bash
# trl 0.24's GRPO: what GRPOConfig says is off by default is taken from the model's files, or is 50; which, transformers decides.
#
# A good guess: temperature 1.0, top_p 1.0 and top_k None ("disabled") sample from the whole distribution, the one whose
#   log-probabilities are trained; what generation_config.json holds does not matter, since trl passes a configuration of its own.
# What happens: generate() fills the gaps of the configuration it is given. transformers 5 takes None for a gap: the model's own
#   top_k or, without one, 50, so that a token of rank 51 is never drawn and never learnt from. transformers 4.57 takes whatever
#   equals a default for a gap: temperature and top_p of 1.0 become the model's (0.7 and 0.8 for Qwen2.5-Instruct), unless its
#   file says that a transformers below 4.50 wrote it, and None does switch top_k off: a model and its copy saved anew are
#   sampled in two ways. No error; a warning on 4.57 only.
#   Under transformers 5 top_k=0 cures it, as is the default of newer ones: trl 1.16.0 draws all tokens with the first four files.
# Versions: trl 0.24.0 with transformers 5.6.0 (LLaMA-Factory 0.9.5's newest pair) and 4.57.6, torch 2.13.0. Seen 2026-12-01.
# Source: trl/trainer/grpo_trainer.py, __init__ (GenerationConfig); transformers/generation/utils.py, _prepare_generation_config.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
export TMP_DATA="$tmp" HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 CUDA_VISIBLE_DEVICES=

cat >"$tmp/count.py" <<'PYTHON'
import contextlib
import io
import json
import os
from pathlib import Path

import torch
import transformers
import trl
import trl.import_utils as flags
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

for name, value in list(vars(flags).items()):  # beside transformers 5 the trainer is not imported without this:
    if name.endswith("_available") and isinstance(value, tuple):  # trl-asks-for-mergekit.sh
        setattr(flags, name, value[0])
from trl import GRPOConfig, GRPOTrainer

folder = Path(os.environ["TMP_DATA"], "model")
words = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]  # a token per letter
bpe = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", pad_token="<pad>",
                                    model_input_names=["input_ids", "attention_mask"])
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                             num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder)


def drawn(in_file, **options):
    """How many of the 258 tokens are drawn in 1,024 answers of one token to one prompt; the random model prefers hardly any."""
    (folder / "generation_config.json").write_text(json.dumps({"do_sample": True, **in_file}))
    model, tokens = LlamaForCausalLM.from_pretrained(folder), set()
    model.warnings_issued = {}  # trl 0.24 writes into it, and transformers 5 has none

    def reward(completion_ids, **_):
        tokens.update(ids[0] for ids in completion_ids)
        return [0.0] * len(completion_ids)

    config = GRPOConfig(output_dir=str(folder.with_name("out")), max_steps=1, per_device_train_batch_size=1024,
                        num_generations=1024, max_completion_length=1, report_to="none", save_strategy="no",
                        use_cpu=True, bf16=False, disable_tqdm=True, **options)
    prompts = Dataset.from_dict({"prompt": ["Say"]})
    with contextlib.redirect_stdout(io.StringIO()):
        GRPOTrainer(model, reward, config, prompts, processing_class=tokenizer).train()
    return len(tokens)


files = ({}, {"top_k": 3}, {"top_p": 0.01, "transformers_version": "4.37.0"}, {"top_p": 0.01}, {"temperature": 0.01})
default, zero = [drawn(file) for file in files], [drawn(file, top_k=0) for file in files]
print(f"trl {trl.__version__}, transformers {transformers.__version__}: different tokens drawn with the model's file")
for file, *counts in zip(files, default, zero, strict=True):
    print(f"   {file or 'empty'}: {counts[0]} (GRPOConfig's defaults), {counts[1]} (top_k=0)")
new = transformers.__version__.startswith("5")
as_seen = (default == [50, 3, 50, 50, 50] and min(zero) > 200) if new else (
    min(default[:3] + zero[:3]) > 200 and max(default[3:] + zero[3:]) < 50)
if not as_seen:
    raise SystemExit("CHANGED: transformers 5 filled in top_k, transformers 4.57 top_p and temperature")
PYTHON

for version in 4.57.6 5.6.0; do
  "$tmp/venv/bin/pip" install -q --no-compile torch==2.13.0 trl==0.24.0 datasets==4.0.0 accelerate==1.11.0 "transformers==$version"
  "$tmp/venv/bin/python" "$tmp/count.py" 2>"$tmp/log" || { tail -20 "$tmp/log" >&2; exit 1; }
done
