#!/usr/bin/env bash
# llama.cpp's server: an optional "reason" comes after the verdict, and bounds of numbers are not kept.
#
# A good guess: response_format makes the answer valid against the schema, its keys in the order given (as vLLM does), so a
#   reason listed first is written before the verdict; what the server cannot enforce it refuses.
# What happens: all required keys come first, then the optional ones. minimum and maximum hold for integers and are dropped for
#   numbers; multipleOf and uniqueItems are dropped; a pattern without ^ and $ becomes any string (a line in the log, the
#   request succeeds), while the same pattern anchored is kept. To get the reason first it must be required.
# Versions: xllamacpp 2026.10.11549 (llama.cpp's server as a wheel), gguf 0.19.0, a random model of 0.3 MB with a token per
#   byte. Seen 2026-11-29. Source: llama.cpp, common/json-schema-to-grammar.cpp.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q xllamacpp==2026.10.11549 gguf==0.19.0
export MODEL="$tmp/tiny.gguf"

"$tmp/venv/bin/python" - <<'EOF'
import json
import os
import re

import gguf
import numpy as np
import xllamacpp

size, path = 64, os.environ["MODEL"]
tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
out = gguf.GGUFWriter(path, "llama")
out.add_context_length(2048), out.add_embedding_length(size), out.add_block_count(1), out.add_feed_forward_length(size)
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
params.model.path, params.n_ctx, params.n_parallel, params.use_jinja, params.verbosity = path, 2048, 1, True, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.hostnames, params.port = ["127.0.0.1"], 0
server = xllamacpp.Server(params)
# Letters and closing marks are made likelier, so that a random model's strings end.
bias = [[3 + b, 4.0] for b in b"abcdefghijklmnopqrstuvwxyz"] + [[3 + b, 6.5] for b in b'",}]']


def answers(required, **properties):
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    for seed in range(30):
        reply = server.handle_chat_completions({
            "messages": [{"role": "user", "content": "?"}], "seed": seed, "max_tokens": 400, "logit_bias": bias,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}})
        if reply["choices"][0]["finish_reason"] == "stop":
            yield json.loads(reply["choices"][0]["message"]["content"])


def ones(**schema):
    return [answer["a"] for answer in answers(["a"], a=schema)]


orders = {" ".join(a) for a in answers(["verdict"], reason={"enum": ["r"]}, verdict={"enum": ["yes", "no"]})}
required = {" ".join(a) for a in answers(["reason", "verdict"], reason={"enum": ["r"]}, verdict={"enum": ["yes", "no"]})}
numbers, integers = ones(type="number", minimum=0, maximum=1), ones(type="integer", minimum=0, maximum=3)
steps = ones(type="integer", multipleOf=5)
loose, anchored = ones(type="string", pattern="[xyz]{2}"), ones(type="string", pattern="^[xyz]{2}$")
lists = ones(type="array", items={"enum": list("abcde")}, minItems=4, maxItems=4, uniqueItems=True)
print("optional reason listed before the verdict, order of keys:", sorted(orders))
print("required reason listed before the verdict, order of keys:", sorted(required))
print("number from 0 to 1:", numbers[:5], "  integer from 0 to 3:", integers[:5], "  multiple of 5:", steps[:5])
print("pattern [xyz]{2}:", loose[:4], "  ^[xyz]{2}$:", anchored[:4])
print("four unique items of a to e:", lists[:2])
as_seen = [orders == {"verdict", "verdict reason"}, required == {"reason verdict"}, any(not 0 <= n <= 1 for n in numbers),
           set(integers) <= {0, 1, 2, 3}, any(n % 5 for n in steps), any(not re.search("[xyz]{2}", t) for t in loose),
           all(re.fullmatch("[xyz]{2}", t) for t in anchored), any(len(set(items)) < 4 for items in lists)]
if not all(as_seen):
    raise SystemExit(f"CHANGED: {as_seen} should all be true")
EOF
