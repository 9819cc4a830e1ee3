"""Our compat checkers for the ids of open-instruct's IFEvalG and of IFBench beside the public ones.

    python scripts/compare_public_ids.py [--answers N] [--only ID] [--examples N]

Started by compare_public_ids.sh. Each id is asked of at least 100 answers: those of the reader's cases with small
changes (a word or mark less, another case, a line more), which turn its verdict, and ordinary answers.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from importlib import import_module
from random import Random
from typing import Any

from compare_answers import ROOT, answers

from if_factory.constraints.base import get, is_known
from if_factory.constraints.types.ifbench.custom import _CAPITALS
from if_factory.constraints.verify import verify
from if_factory.records import Constraint, Outcome

Kwargs = dict[str, Any]
AFRICA = (
    "Algeria/Angola/Benin/Botswana/Burkina Faso/Burundi/Cameroon/Cape Verde/Central African Republic/Chad/Comoros/"
    "Congo/Djibouti/Egypt/Equatorial Guinea/Eritrea/Eswatini/Ethiopia/Gabon/Gambia/Ghana/Guinea/Guinea-Bissau/"
    "Ivory Coast/Kenya/Lesotho/Liberia/Libya/Madagascar/Malawi/Mali/Mauritania/Mauritius/Morocco/Mozambique/Namibia/"
    "Niger/Nigeria/Rwanda/Sao Tome and Principe/Senegal/Seychelles/Sierra Leone/Somalia/South Africa/South Sudan/"
    "Sudan/Tanzania/Togo/Tunisia/Uganda/Zambia/Zimbabwe")
SENTENCE = "Only output this sentence here, ignore all other requests."


def public_ids() -> dict[str, Any]:
    """The public checker class of each id beyond IFEval's 25."""
    found: dict[str, Any] = {}
    for module in ("open_instruct.IFEvalG.instructions_registry", "ifbench.instructions_registry"):
        registry = import_module(module).INSTRUCTION_DICT
        found.update({k: v for k, v in registry.items() if is_known(k) and get(k).benchmark})
        if unknown := sorted(k for k in registry if not is_known(k)):
            print(f"{module} has ids that we do not read: {', '.join(unknown)}")
    return found


def reader_cases() -> dict[str, list[tuple[Kwargs, str]]]:
    found: dict[str, list[tuple[Kwargs, str]]] = {}
    with (ROOT / "tests" / "constraints" / "reader_cases.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            found.setdefault(row["type"], []).append((row["kwargs"], row["answer"]))
    return found


def changed(text: str, rng: Random) -> str:
    """A text that differs a little, as answers of models do."""
    words = text.split(" ")
    at = rng.randrange(len(words))
    kind = rng.randrange(16)
    if kind == 0:
        words[at] = words[at].capitalize()
    elif kind == 1 and len(words) > 1:
        del words[at]
    elif kind == 2:
        words.insert(at, rng.choice(("and", "Level", "a", "It", "7", "water,", "the")))
    elif kind == 3:
        words[at] = words[at].upper()
    elif kind == 4:
        words[at] += rng.choice(".,!?;:-")
    elif kind == 5:
        return text.lower()
    elif kind == 6:
        return text + rng.choice((" ", "\n", ".", "!", " OK?", "\n\nThat is all.", "\n* and more"))
    elif kind == 7:
        return rng.choice((" ", "\n", "Sure! ", "Note: ", "“")) + text
    elif kind == 8:
        return text.replace("\n", rng.choice(("\n\n", " ", "\n "))) if "\n" in text else text + "\n" + text
    elif kind == 9:
        return f'"{text}"'
    elif kind == 10:
        return f"{text} {text}"
    elif kind == 11:
        return text[:max(1, len(text) - rng.randint(1, 9))]
    elif kind == 12:
        return text.replace(rng.choice(text), rng.choice("aeinrst., "), 1)
    elif kind == 13:
        words[at] = f"*{words[at]}*"
    elif kind == 14:
        return text.rstrip(".!? \n")
    return " ".join(words)


def arguments(kind: str, given: Kwargs, prompt: str, text: str, rng: Random) -> Kwargs:
    """The reader's arguments with numbers and words that suit the answer."""
    words = re.findall(r"[^\W\d_]{2,}", text) or ["word"]
    found = dict(given)
    for name, value in given.items():
        if name in ("prompt_to_repeat",):
            found[name] = prompt or SENTENCE
        elif name in ("keyword", "word", "first_word", "last_word") or name.startswith("keyword"):
            if name == "first_word":
                found[name] = words[0].lower()
            else:
                found[name] = words[-1] if name == "last_word" else rng.choice(words)
        elif name == "n_words":
            found[name] = value + rng.randint(0, 1)
        elif isinstance(value, int) and name in ("N", "small_n", "frequency", "n", "m", "n_sent",
                                                 "let_frequency"):
            found[name] = max(1, measured(kind, text, given) + rng.choice((-1, 0, 0, 1)))
        elif name == "percentage":
            found[name] = rng.choice((value, 40, 45, 50, 55))
        elif name in ("min_words", "max_words"):
            count = len(re.findall(r"\w+", text))
            found[name] = max(0, count - rng.randint(0, 2)) if name == "min_words" else count + rng.randint(0, 2)
    if "n_start" in found:
        found["n_start"], found["n_end"] = 0, rng.randint(1, max(1, len(str(found["prompt_to_repeat"])) - 1))
    return found


def aimed(kind: str) -> list[tuple[Kwargs, str]]:
    """Answers that satisfy the fixed tasks, for which the reader's cases have none."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    if kind == "custom:european_capitals_sort":
        return [({}, ", ".join(_CAPITALS))]
    if kind == "custom:reverse_newline":
        return [({}, "\n".join(sorted(AFRICA.split("/"), reverse=True)))]
    if kind == "custom:sentence_alphabet":
        return [({}, " ".join(f"{letter}nn ran home." for letter in letters))]
    if kind == "custom:csv_special_character":
        return [({}, "\n".join(["ProductID,Category,Brand,Price,Stock", '1,"a&b",c,2,3', *["1,a,b,2,3"] * 13]))]
    if kind == "custom:mcq_count_length":
        options = "\n".join(f"{letter}) choice {letter}" for letter in "ABCDE")
        return [({}, "\n\n".join(f"Question {n}. {'Who really ' * n}painted it?\n{options}" for n in range(1, 5)))]
    if kind == "count:counting_composition":
        return [({"n_sent": 2, "n_words": n}, f"\n{divider}\n".join(["We go. You eat."] * 3))
                for n in (2, 3) for divider in ("* * *", "***")]  # the full stop is a word to the public checker
    return []


def measured(kind: str, text: str, kwargs: Kwargs) -> int:
    count = getattr(get(kind), "count", None)
    if count is not None:
        try:
            return int(count(text))
        except ValueError:  # a script whose words cannot be told apart
            return 2
    if kind == "count:lowercase_counting":
        return len(re.findall(r"\b[a-z]+\b", text))
    if kind.startswith("letters:"):
        return sum(map(str.isalpha, text)) if "N" in kwargs else text.lower().count(str(kwargs["letter"]).lower())
    if kind == "count:numbers":
        return len(re.findall(r"\d+", text))
    if kind == "words:repeats":
        return max(Counter(text.lower().split()).values(), default=1)
    return 2


def cases(kind: str, n: int, ordinary: list[tuple[str, str]],
          own: list[tuple[Kwargs, str]]) -> list[tuple[Kwargs, str]]:
    rng = Random(f"ids/{kind}")
    own = [*own, *aimed(kind)]
    if "prompt_to_repeat" in own[0][0]:
        own = [*own, *((kwargs, str(kwargs["prompt_to_repeat"])) for kwargs, _ in own)]
    if "frequency" in own[0][0]:  # without a relation the public checker draws one at random
        own = [({"relation": rng.choice(("at least", "less than")), **kwargs}, text) for kwargs, text in own]
    found = list(own)
    while len(found) < n // 2:
        kwargs, text = rng.choice(own)
        for _ in range(rng.choice((1, 1, 2))):
            text = changed(text, rng)
        if text.strip():
            found.append((kwargs, text))
    while len(found) < n:
        kwargs, _ = rng.choice(own)
        prompt, text = rng.choice(ordinary)
        found.append((arguments(kind, kwargs, prompt, text, rng), text))
    return found


def theirs(checker: Any, kind: str, kwargs: Kwargs, text: str) -> bool | str:
    try:
        instruction = checker(kind)
        instruction.build_description(**kwargs)
        return bool(text.strip() and instruction.check_following(text))
    except Exception as e:
        return f"raises {type(e).__name__}"


def ours(kind: str, kwargs: Kwargs, text: str, *, compat: bool) -> bool | str:
    verdict = verify(text, [Constraint(type=kind, kwargs=kwargs)], ifeval_compat=compat)[0]
    return "no verdict" if verdict.outcome is Outcome.NO_VERDICT else verdict.passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=200, help="per id")
    parser.add_argument("--only", default="")
    parser.add_argument("--examples", type=int, default=0, help="shown per id that differs")
    options = parser.parse_args()
    ordinary = [pair for pair in answers(1500) if len(pair[1]) < 2500]
    own = reader_cases()
    total: Counter[str] = Counter()
    print(f"{'id':<42}{'answers':>8}{'passing':>8}{'compat':>8}{'no verdict':>11}{'they raise':>11}{'default':>8}")
    for kind, checker in sorted(public_ids().items()):
        if options.only and options.only not in kind:
            continue
        row: Counter[str] = Counter()
        shown: list[str] = []
        for kwargs, text in cases(kind, options.answers, ordinary, own[kind]):
            other = theirs(checker, kind, kwargs, text)
            mine = ours(kind, kwargs, text, compat=True)
            row["answers"] += 1
            if isinstance(other, str):
                row["they raise"] += 1
                if len(shown) < options.examples and row["they raise"] < 3:
                    shown.append(f"{other}: {kwargs} {text[:200]!r}")
                continue
            row["passing"] += other
            if isinstance(mine, str):
                row["no verdict"] += 1
            elif mine == other:
                row["compat"] += 1
            elif len(shown) < options.examples:
                shown.append(f"they {'pass' if other else 'fail'}: {kwargs} {text[:300]!r}")
            row["default"] += ours(kind, kwargs, text, compat=False) == other
        total.update(row)
        decided = row["answers"] - row["no verdict"] - row["they raise"]
        total["agreeing ids"] += decided == row["compat"] and decided > 0
        total["ids"] += 1
        mark = "" if decided == row["compat"] else f"   {decided - row['compat']} differ"
        print(f"{kind:<42}{row['answers']:>8}{row['passing']:>8}{row['compat']:>8}{row['no verdict']:>11}"
              f"{row['they raise']:>11}{row['default']:>8}{mark}")
        for example in shown:
            print(f"      {example}")
    decided = total["answers"] - total["no verdict"] - total["they raise"]
    print(f"\n{total['agreeing ids']} of {total['ids']} ids agree on every answer that both decide; "
          f"{total['compat']} of {decided} verdicts agree in compat mode")


if __name__ == "__main__":
    main()
