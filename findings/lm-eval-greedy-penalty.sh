#!/usr/bin/env bash
# lm-eval: a task that says greedy is answered with the repetition penalty of the model's folder, and no result tells.
#
# A good guess: with do_sample: false and temperature: 0.0, as in IFEval's task, the most probable token is taken at each step;
#   temperature, top_p and top_k in generation_config.json are for sampling, so nothing in that file counts.
# What happens: the backend `hf` passes these two on to generate(), which takes all else from generation_config.json: a
#   repetition_penalty (1.05 for Qwen2.5-7B-Instruct) and a no_repeat_ngram_size hold in greedy search as well, for the prompt's
#   tokens too: to repeat the prompt, or a word as often as asked, becomes harder. The file belongs to a folder: base model,
#   fine-tuned copy and exported copy may differ in it. The results of two such runs are equal but for answers and time: neither
#   the penalty nor the file is mentioned. `repetition_penalty=1.0` in gen_kwargs switches it off. The backend
#   `vllm` sets sampling parameters of its own, and so has no penalty (seen in vLLM 0.32.0's class LLM; a server fills in from
#   the file what a request leaves out): one folder, one task, two decodings.
# Versions: lm-eval 0.4.13, transformers 5.24.0, torch 2.13.0. Seen 2026-12-01.
# Source: lm_eval/models/huggingface.py, _model_generate; transformers/generation/utils.py, _prepare_generation_config.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile torch==2.13.0 "lm-eval[hf]==0.4.13" transformers==5.24.0 datasets==5.2.0
export TMP_DATA="$tmp" HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1 CUDA_VISIBLE_DEVICES=

"$tmp/venv/bin/python" - 2>"$tmp/log" <<'PYTHON' || { tail -20 "$tmp/log" >&2; exit 1; }
import json
import os
from pathlib import Path

import torch
from lm_eval import simple_evaluate
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

folder = Path(os.environ["TMP_DATA"])
words = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]  # a token per letter
bpe = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", pad_token="<pad>").save_pretrained(folder / "model")
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(vocab_size=len(words), hidden_size=64, intermediate_size=64, num_hidden_layers=1,
                             num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder / "model")
(folder / "rows.jsonl").write_text("".join(json.dumps({"prompt": f"Repeat {i}:", "answer": "x"}) + "\n" for i in range(20)))
task = {"task": "greedy", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test", "doc_to_text": "prompt", "doc_to_target": "answer", "output_type": "generate_until",
        "generation_kwargs": {"until": [], "do_sample": False, "temperature": 0.0, "max_gen_toks": 20},
        "metric_list": [{"metric": "exact_match"}]}


def evaluate(in_file, **options):
    """The 20 answers, and all that is reported beside them."""
    (folder / "model" / "generation_config.json").write_text(json.dumps(in_file))
    results = simple_evaluate(model="hf", model_args={"pretrained": str(folder / "model"), "dtype": "float32"},
                              tasks=[dict(task)], device="cpu", bootstrap_iters=0, **options)
    answers = [sample["resps"][0][0] for sample in results.pop("samples")["greedy"]]
    del results["date"]
    return answers, json.dumps(results, sort_keys=True, default=str)


plain, report = evaluate({})
found = {}
for in_file in ({"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}, {"repetition_penalty": 1.05},
                {"no_repeat_ngram_size": 3}):
    answers, same = evaluate(in_file)
    key = " ".join(in_file)
    found[key] = sum(a != b for a, b in zip(plain, answers, strict=True)), same == report
    print(f"{in_file}: {found[key][0]} of 20 greedy answers are others, report equal: {found[key][1]}")
answers, _ = evaluate({"repetition_penalty": 1.05}, gen_kwargs={"repetition_penalty": 1.0})
print("1.05 in the file, gen_kwargs repetition_penalty=1.0: all answers as without:", answers == plain)
if not (found["do_sample temperature top_p top_k"] == (0, True) and found["repetition_penalty"][0] > 5 and answers == plain
        and found["no_repeat_ngram_size"][0] > 5 and all(equal for _, equal in found.values())):
    raise SystemExit("CHANGED: penalties from the model's folder held in greedy search, unreported")
PYTHON
