#!/usr/bin/env bash
# json_repair: of several JSON objects in one text, those of one shape collapse to the last.
#
# A good guess: loads() returns the first JSON value of a model's reply and ignores what follows, or returns all of them.
# What happens: objects with the same keys and types of values replace each other and the LAST is returned (two verdicts,
#   two code fences, JSON Lines: every record but one is lost, without an error); objects that differ in a key, in a type or
#   in anything nested become a list. A bracketed word before the object counts as a first value, so [note] makes the result
#   a list too.
# Versions: json_repair 0.64.6. Seen 2026-11-29. Source: json_parser.py, the loop behind ObjectComparer.is_same_object.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q json_repair==0.64.6

"$tmp/venv/bin/python" - <<'EOF'
import json_repair

FENCE = "`" * 3
cases = {
    # text: what was seen
    '{"verdict": "yes"}\nOn second thoughts:\n{"verdict": "no"}': {"verdict": "no"},
    f'{FENCE}json\n{{"id": 1}}\n{FENCE}\nand\n{FENCE}json\n{{"id": 2}}\n{FENCE}': {"id": 2},
    '{"id": 1, "ok": true}\n{"id": 2, "ok": true}\n{"id": 3, "ok": true}\n': {"id": 3, "ok": True},
    '{"id": 1}\n{"name": "b"}': [{"id": 1}, {"name": "b"}],
    '{"id": 1}\n{"id": 2, "ok": true}\n': [{"id": 1}, {"id": 2, "ok": True}],
    '{"a": {"b": 1}}\n{"a": {"c": 2}}': [{"a": {"b": 1}}, {"a": {"c": 2}}],
    'See [note]: {"id": 1}': [["note"], {"id": 1}],
    'See (note): {"id": 1}': {"id": 1},
}
changed = 0
for text, seen in cases.items():
    got = json_repair.loads(text)
    print(f"{text!r}\n    -> {got}")
    if got != seen:
        changed += 1
        print(f"    CHANGED: was {seen}")
raise SystemExit(f"{changed} results are no longer what was seen" if changed else 0)
EOF
