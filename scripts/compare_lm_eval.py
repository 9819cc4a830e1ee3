"""Our checkers for IFEval's 25 types beside lm-eval's; started by compare_lm_eval.sh.

    python scripts/compare_lm_eval.py [answers] [--examples N]

Arguments are taken from each answer: counts at what either side measures, keywords and phrases that occur in it,
so that verdicts turn where the two sides read a text differently.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

import langdetect
from compare_answers import answers
from lm_eval.tasks.ifeval import instructions_registry, instructions_util

from if_factory.constraints import text as measure
from if_factory.constraints.verify import verify
from if_factory.records import Constraint, Outcome

Kwargs = dict[str, Any]
LM_EVAL_LANGUAGES = frozenset(instructions_util.LANGUAGE_CODES)
LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "ru", "hi", "ko", "ar", "th", "ja")
RELATIONS = ("at least", "less than")


def capital_tokens(text: str) -> int:
    return sum(token.isupper() for token in instructions_util.nltk.word_tokenize(text))


def counted(text: str) -> dict[str, set[int]]:
    """What either side measures, by type; a text that one side cannot measure gives the other's count only."""
    ours = {"length_constraints:number_sentences": measure.count_sentences,
            "length_constraints:number_words": measure.count_words,
            "change_case:capital_word_frequency": lambda t: len(measure.capital_words(t)),
            "detectable_format:number_bullet_lists": lambda t: len(measure.bullets(t, "*-")),
            "detectable_format:number_highlighted_sections": measure.count_highlights,
            "detectable_content:number_placeholders": lambda t: len(measure.placeholders(t))}
    theirs = {"length_constraints:number_sentences": instructions_util.count_sentences,
              "length_constraints:number_words": instructions_util.count_words,
              "change_case:capital_word_frequency": capital_tokens,
              "detectable_format:number_bullet_lists": lambda t: len(re.findall(r"^\s*(?:\*[^\*]|-)", t, re.M)),
              "detectable_format:number_highlighted_sections": lambda t: len(re.findall(r"\*[^\n\*]+\*", t)),
              "detectable_content:number_placeholders": lambda t: len(re.findall(r"\[.*?\]", t))}
    found: dict[str, set[int]] = {}
    for kind in ours:
        found[kind] = {theirs[kind](text)}
        with contextlib.suppress(ValueError):
            found[kind].add(ours[kind](text))
    return found


def cases(prompt: str, text: str, rng: Random) -> Iterator[tuple[str, Kwargs]]:
    """Constraints to ask of one answer. No argument is 0 or empty: lm-eval draws a random one in its place."""
    words = re.findall(r"[^\W\d_]{3,}", text) or ["word"]
    counts = counted(text)

    def at(kind: str) -> int:
        return max(1, rng.choice(sorted(counts[kind])) + rng.choice((0, 0, 1)))

    yield "length_constraints:number_sentences", {
        "relation": rng.choice(RELATIONS), "num_sentences": at("length_constraints:number_sentences")}
    yield "length_constraints:number_words", {
        "relation": rng.choice(RELATIONS), "num_words": at("length_constraints:number_words")}
    yield "change_case:capital_word_frequency", {
        "capital_relation": rng.choice(RELATIONS), "capital_frequency": at("change_case:capital_word_frequency")}
    yield "detectable_format:number_bullet_lists", {"num_bullets": at("detectable_format:number_bullet_lists")}
    yield "detectable_format:number_highlighted_sections", {
        "num_highlights": at("detectable_format:number_highlighted_sections")}
    yield "detectable_content:number_placeholders", {
        "num_placeholders": at("detectable_content:number_placeholders")}
    word = rng.choice(words)
    part = word[:max(3, len(word) - 2)]
    yield "keywords:existence", {"keywords": rng.choice(([word], [part], [word, rng.choice(words)], ["lantern"]))}
    keyword = rng.choice((word, part))
    found = max(1, rng.choice((len(re.findall(keyword, text, re.IGNORECASE)), measure.count_phrase(text, keyword))))
    yield "keywords:frequency", {"keyword": keyword, "relation": rng.choice(RELATIONS), "frequency": found}
    yield "keywords:forbidden_words", {"forbidden_words": [rng.choice((word, part, "lantern", "don't"))]}
    letter = rng.choice("etaoinshrlcj")
    yield "keywords:letter_frequency", {"letter": letter, "let_relation": rng.choice(RELATIONS),
                                        "let_frequency": max(1, text.lower().count(letter) + rng.choice((0, 1)))}
    yield "language:response_language", {"language": rng.choice(LANGUAGES)}
    yield "language:response_language", {"language": "en"}
    parts = [p for p in re.split(r"\s?\*\*\*\s?", text) if p.strip()]
    yield "length_constraints:number_paragraphs", {"num_paragraphs": max(1, len(parts))}
    blocks = [p for p in text.split("\n\n") if p.strip()]
    nth = rng.randint(1, max(1, len(blocks)))
    opens = blocks[nth - 1].split()[0].strip("\"'.,?!*") if blocks else "word"
    yield "length_constraints:nth_paragraph_first_word", {
        "num_paragraphs": max(1, len(blocks)), "nth_paragraph": nth, "first_word": (opens or "word").lower()}
    yield "detectable_content:postscript", {"postscript_marker": rng.choice(("P.S.", "P.P.S"))}
    yield "detectable_format:constrained_response", {}
    yield "detectable_format:multiple_sections", {
        "section_spliter": rng.choice(("Section", "SECTION")),
        "num_sections": max(1, len(re.findall(r"\s?Section\s?\d+\s?", text)) + rng.choice((0, 0, 1)))}
    yield "detectable_format:json_format", {}
    yield "detectable_format:title", {}
    yield "combination:two_responses", {}
    yield "combination:repeat_prompt", {"prompt_to_repeat": rng.choice((prompt, text.strip().split("\n")[0],
                                                                        text.strip()[:30].strip() or "x"))}
    tail = " ".join(text.split()[-3:])
    yield "startend:end_checker", {"end_phrase": rng.choice((tail, tail.rstrip('."*!?') or tail,
                                                             "Any other questions?"))}
    yield "startend:quotation", {}
    yield "change_case:english_capital", {}
    yield "change_case:english_lowercase", {}
    yield "punctuation:no_comma", {}


def theirs(kind: str, kwargs: Kwargs, text: str) -> bool | str:
    """lm-eval's verdict as its task gives it, or the name of what it raised."""
    try:
        instruction = instructions_registry.INSTRUCTION_DICT[kind](kind)
        instruction.build_description(**kwargs)
        return bool(text.strip() and instruction.check_following(text))
    except Exception as e:
        return type(e).__name__


def ours(kind: str, kwargs: Kwargs, text: str, *, compat: bool) -> bool | str:
    verdict = verify(text, [Constraint(type=kind, kwargs=kwargs)], ifeval_compat=compat)[0]
    return "no verdict" if verdict.outcome is Outcome.NO_VERDICT else verdict.passed


def label(kind: str, kwargs: Kwargs, text: str, mine: bool | str, other: bool | str, *, compat: bool) -> str:
    """The class of a difference; docs/constraints.md says who is right."""
    if isinstance(other, str):
        return f"{kind}: lm-eval raises {other}"
    if kind in ("language:response_language", "change_case:english_capital", "change_case:english_lowercase"):
        langdetect.DetectorFactory.seed = 0
        seeded = theirs(kind, kwargs, text)
        langdetect.DetectorFactory.seed = None
        if seeded == mine:
            return f"{kind}: lm-eval does not seed langdetect"
    if isinstance(mine, str):
        return f"{kind}: we give no verdict, lm-eval {'passes' if other else 'fails'}"
    if compat:
        if kind == "length_constraints:number_words":
            return f"{kind}: NLTK >= 3.10 counts words by another expression"
        if kind == "length_constraints:number_sentences":
            return f"{kind}: the packaged Punkt model divides otherwise than NLTK's"
        if kind == "combination:repeat_prompt":
            return f"{kind}: a prompt repeated in quotation marks"
    return f"{kind}: {'passes' if mine else 'fails'} here, {'passes' if other else 'fails'} in lm-eval"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", type=int, nargs="?", default=3000)
    parser.add_argument("--examples", type=int, default=0, help="shown per class of difference")
    options = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    total = 0
    per_type: Counter[str] = Counter()
    differing: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    shown: dict[tuple[bool, str], list[str]] = defaultdict(list)
    for place, (prompt, text) in enumerate(answers(options.answers)):
        for kind, kwargs in cases(prompt, text, Random(f"14/{place}")):
            total += 1
            per_type[kind] += 1
            other = theirs(kind, kwargs, text)
            for compat in (True, False):
                mine = ours(kind, kwargs, text, compat=compat)
                if mine != other and not (isinstance(mine, str) and isinstance(other, str)):
                    name = label(kind, kwargs, text, mine, other, compat=compat)
                    differing[compat][name] += 1
                    if len(shown[compat, name]) < options.examples:
                        shown[compat, name].append(f"{kwargs} {text[:150]!r} ... {text[-80:]!r}")
    print(f"{options.answers} answers, {total} verdicts of {len(per_type)} types")
    for compat, mode in ((True, "compat"), (False, "default")):
        n = differing[compat].total()
        print(f"\n{mode}: {total - n} of {total} agree ({100 * (1 - n / total):.3f} %), {n} differ")
        for name, k in sorted(differing[compat].items(), key=lambda item: (-item[1], item[0])):
            print(f"{k:>6}  {name}")
            for example in shown[compat, name]:
                print(f"          {example}")


if __name__ == "__main__":
    main()
