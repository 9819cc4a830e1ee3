#!/usr/bin/env bash
# lm-eval, task ifeval: an argument of 0 is thrown away and a random number put in its place, anew for each verdict.
#
# A good guess: {"num_bullets": 0} asks for no bullets and {"frequency": 0} for none at least; a fixed answer has a fixed verdict.
# What happens: arguments that are false (0, [], "") are removed before the checker is built, and the checker draws its own
#   number or word at random. A text without bullets never passes "exactly 0 bullet points", a text with three passes now and
#   then. Language verdicts vary too, since langdetect is used without a seed: "Thank you." is English in some calls only. A
#   Dutch or Swedish constraint, which langdetect could decide, raises KeyError. With several equal answers to one prompt, or on
#   a second evaluation of a logged answer, prompt accuracy moves although nothing did.
# Versions: lm-eval 0.4.13, langdetect 1.0.9, nltk 3.10.4. Seen 2026-11-29.
# Source: lm_eval/tasks/ifeval/utils.py, the comprehension `if v`; instructions.py, build_description.
# While it is imported the task tries to fetch NLTK's punkt_tab; none of the checkers below needs it.
set -euo pipefail
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile lm-eval==0.4.13 immutabledict==4.3.1 langdetect==1.0.9 nltk==3.10.4
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1 NLTK_DATA="$tmp/nltk"

"$tmp/venv/bin/python" - <<'EOF'
from lm_eval.tasks.ifeval.utils import process_results

BULLETS, KEYWORD = "detectable_format:number_bullet_lists", "keywords:frequency"
LETTER, LANGUAGE = "keywords:letter_frequency", "language:response_language"


def passes(kind, kwargs, answer, times=300):
    """How often one and the same answer passes."""
    row = {"key": 1, "instruction_id_list": [kind], "prompt": "Say something.", "kwargs": [kwargs]}
    return sum(process_results(row, [answer])["prompt_level_strict_acc"] for _ in range(times))


cases = [  # constraint, arguments, answer, what was seen
    (BULLETS, {"num_bullets": 2}, "* a\n* b", "always"),
    (BULLETS, {"num_bullets": 0}, "no bullets at all", "never"),
    (BULLETS, {"num_bullets": 0}, "* a\n* b\n* c", "sometimes"),
    (KEYWORD, {"keyword": "rain", "frequency": 0, "relation": "at least"}, "a dry day", "never"),
    (LETTER, {"letter": "q", "let_frequency": 0, "let_relation": "at least"}, "a dry day", "never"),
    (LANGUAGE, {"language": "en"}, "Thank you.", "sometimes"),
]
changed = 0
for kind, kwargs, answer, seen in cases:
    count = passes(kind, kwargs, answer)
    got = {0: "never", 300: "always"}.get(count, "sometimes")
    changed += got != seen
    print(f"{kind} {kwargs}: {answer!r} passes {count} of 300 times" + ("" if got == seen else f" CHANGED: {seen}"))
for code in ("de", "nl", "sv"):
    try:
        got = passes(LANGUAGE, {"language": code}, "Dit is een zin in het Nederlands.", 1)
    except KeyError as error:
        got = f"KeyError {error}"
    print(f"language {code}: {got}")
    changed += str(got).startswith("KeyError") != (code != "de")
raise SystemExit(f"{changed} cases are no longer what was seen" if changed else 0)
EOF
