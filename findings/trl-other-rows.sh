#!/usr/bin/env bash
# trl: alpaca preference rows and sharegpt rows train without an error, and not what was meant.
#
# A good guess: a trainer that does not know a dataset's columns refuses it.
# What happens: DPOTrainer on {"instruction", "chosen", "rejected"} looks for a prompt in what both answers begin with, finds nothing
#   or a word, and never reads `instruction`: the answers are trained without their question. SFTTrainer on sharegpt's
#   {"conversations": [{"from": "human", "value": ...}]} renames the keys, keeps the roles "human" and "gpt" as they are, drops the
#   column `system`, and trains every token, the role names and the questions included.
# Versions: trl 1.16.0, transformers 5.24.0, datasets 5.2.0. Seen 2026-11-30.
# Source: trl/data_utils.py, maybe_extract_prompt, maybe_convert_to_chatml; trl/trainer/dpo_trainer.py and sft_trainer.py.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
venv=${FINDINGS_TRL:-$tmp/venv}   # set it to a folder to install this set once
if [ ! -d "$venv" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --no-compile torch==2.13.0 trl==1.16.0 transformers==5.24.0 datasets==5.2.0
fi
export TMP_DATA="$tmp" HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 CUDA_VISIBLE_DEVICES=

"$venv/bin/python" - 2>"$tmp/log" <<'EOF' || { tail -20 "$tmp/log" >&2; exit 1; }
import os
from pathlib import Path

from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

folder = Path(os.environ["TMP_DATA"])
words = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]  # a token per letter
bpe = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", pad_token="<pad>")
tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
tokenizer.save_pretrained(folder / "model")
LlamaForCausalLM(LlamaConfig(vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                             num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder / "model")


def one_row(trainer_class, config_class, row):
    """The text of the first batch that the trainer builds, and of the part of it that has a loss."""
    config = config_class(output_dir=str(folder / "out"), report_to="none", per_device_train_batch_size=1,
                          use_cpu=True, max_length=512)
    trainer = trainer_class(model=str(folder / "model"), args=config, train_dataset=Dataset.from_list([row]),
                            processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    whole = [tokenizer.decode([i for i in ids if i != tokenizer.pad_token_id]) for ids in batch["input_ids"].tolist()]
    mask = batch["completion_mask"] if "completion_mask" in batch else (batch["labels"] != -100).long()
    loss = [tokenizer.decode([i for i, on in zip(ids, marks) if on and i != tokenizer.pad_token_id])
            for ids, marks in zip(batch["input_ids"].tolist(), mask.tolist())]
    return whole, loss


whole, loss = one_row(DPOTrainer, DPOConfig, {"instruction": "Which is red?", "chosen": "Blood.", "rejected": "Grass."})
print("DPO on alpaca rows:", whole, "with loss:", loss)
dpo = not any("red" in text for text in whole) and any("Blood" in text for text in loss)
whole, loss = one_row(SFTTrainer, SFTConfig, {
    "conversations": [{"from": "human", "value": "Which is red?"}, {"from": "gpt", "value": "Blood."}],
    "system": "Be short."})
print("SFT on sharegpt rows:", whole, "with loss:", loss)
sft = "[human]Which is red?" in loss[0] and "[gpt]Blood." in loss[0] and "short" not in whole[0]
if not (dpo and sft):
    raise SystemExit("CHANGED: DPO left out the instruction, and SFT trained the whole of a conversation of human and gpt")
EOF
