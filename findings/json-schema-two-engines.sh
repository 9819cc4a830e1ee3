#!/usr/bin/env bash
# llguidance and xgrammar, the two JSON Schema engines behind vLLM and SGLang, accept different texts for one schema.
#
# A good guess: one schema, one set of texts; what an engine cannot do it refuses.
# What happens: an unanchored `pattern` is searched for by llguidance, as JSON Schema says, and must be the whole string in
#   xgrammar. A key that the schema does not name is allowed by llguidance, as JSON Schema says, and by xgrammar only with
#   strict_mode=False. `uniqueItems`, `not` and an unknown `format` are refused by llguidance and silently ignored by xgrammar,
#   which writes what they forbid. The 31st of February is no `date` for llguidance and one for xgrammar. So a server whose
#   backend is "auto" can give the same request an answer of another shape, or a 400, after an upgrade.
# Versions: llguidance 1.9.1, xgrammar 0.2.9 (torch 2.13.0). Seen 2026-11-29. No model is needed: texts are put to the matchers.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile llguidance==1.9.1 xgrammar==0.2.9 torch==2.13.0
export CUDA_VISIBLE_DEVICES=

"$tmp/venv/bin/python" - <<'EOF'
import json

import xgrammar
from llguidance import LLMatcher, LLTokenizer

byte_tokenizer = LLTokenizer("byte")
END = 256
vocabulary = [bytes([i]) for i in range(END)] + [b"</s>"]
compiler = xgrammar.GrammarCompiler(
    xgrammar.TokenizerInfo(vocabulary, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[END]))


def by_llguidance(schema, text):
    matcher = LLMatcher(byte_tokenizer, LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    if matcher.is_error():
        return "refuses the schema: " + matcher.get_error().splitlines()[0]
    tokens = byte_tokenizer.tokenize_str(text)
    return "accepts" if matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting() else "rejects"


def by_xgrammar(schema, text, **options):
    matcher = xgrammar.GrammarMatcher(compiler.compile_json_schema(json.dumps(schema), **options))
    return "accepts" if matcher.accept_string(text) and matcher.accept_token(END) else "rejects"


def a(**schema):
    return {"type": "object", "properties": {"a": schema}, "required": ["a"]}


REFUSES = "refuses the schema: "
cases = [  # schema, text, llguidance, xgrammar, xgrammar with strict_mode=False
    (a(type="string", pattern="^[a-z]{2}$"), '{"a": "ab"}', "accepts", "accepts", "accepts"),
    (a(type="string", pattern="[a-z]{2}"), '{"a": "9ab"}', "accepts", "rejects", "rejects"),
    (a(type="integer"), '{"a": 1, "b": 2}', "accepts", "rejects", "accepts"),
    (a(type="array", items={"type": "integer"}, uniqueItems=True), '{"a": [1, 1]}',
     REFUSES + 'Unimplemented keys: ["uniqueItems"]', "accepts", "accepts"),
    ({"not": {"type": "string"}}, '"a"', REFUSES + 'Unimplemented keys: ["not"]', "accepts", "accepts"),
    (a(type="string", format="phone"), '{"a": "x"}', REFUSES + "Unknown format: phone", "accepts", "accepts"),
    (a(type="string", format="date"), '{"a": "2026-02-31"}', "rejects", "accepts", "accepts"),
    (a(type="number", minimum=0, maximum=1), '{"a": 7.5}', "rejects", "rejects", "rejects"),
]
changed = 0
for schema, text, *seen in cases:
    got = [by_llguidance(schema, text), by_xgrammar(schema, text), by_xgrammar(schema, text, strict_mode=False)]
    print(f"{json.dumps(schema.get('properties', {'': schema}))}\n    {text}: llguidance {got[0]}; xgrammar {got[1]}; "
          f"xgrammar, not strict, {got[2]}")
    if got != seen:
        changed += 1
        print(f"    CHANGED: {seen} when this was written")
raise SystemExit(f"{changed} cases are no longer what was seen" if changed else 0)
EOF
