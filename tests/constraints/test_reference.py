"""Our checkers against the recorded verdicts of the reference implementation."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from if_factory.constraints.verify import verify
from if_factory.files import read_rows
from if_factory.inputs.ifeval import read_constraints

# Types whose verdicts depend on a sentence or language model. The rest must agree without exception.
MODELLED = {"length_constraints:number_sentences", "language:response_language", "change_case:english_capital",
            "change_case:english_lowercase"}

# Per type, how many of the 5,712 verdicts differ on purpose; docs/constraints.md says why.
ON_PURPOSE = {
    "change_case:capital_word_frequency": 21, "detectable_content:number_placeholders": 21,
    "detectable_content:postscript": 4, "detectable_format:constrained_response": 3,
    "detectable_format:multiple_sections": 1, "detectable_format:number_bullet_lists": 5,
    "detectable_format:number_highlighted_sections": 3, "keywords:existence": 5, "keywords:forbidden_words": 1,
    "keywords:frequency": 7, "length_constraints:nth_paragraph_first_word": 1,
    "length_constraints:number_sentences": 11, "startend:end_checker": 3,
}


def differences(shared: Path, compat: bool) -> tuple[Counter[str], Counter[str]]:
    total: Counter[str] = Counter()
    differing: Counter[str] = Counter()
    path = shared / "data" / "complex" / "checked_res_llama2.jsonl"
    for number, row in read_rows(path):
        constraints = read_constraints(row, f"{path}:{number}")
        found = verify(row["response"], constraints, ifeval_compat=compat)
        for constraint, verdict, recorded in zip(constraints, found, row["follow_instruction_list"], strict=True):
            total[constraint.type] += 1
            differing[constraint.type] += verdict.passed is not recorded
    return total, differing


def test_all_5712_recorded_verdicts_are_reproduced_in_compat_mode(shared: Path) -> None:
    total, differing = differences(shared, compat=True)
    assert total.total() == 5712
    assert len(total) == 25
    exact = {t: n for t, n in differing.items() if n and t not in MODELLED}
    assert exact == {}
    assert {t: n for t, n in differing.items() if n} == {}


def test_the_right_checkers_differ_from_the_reference_only_where_it_errs(shared: Path) -> None:
    _, differing = differences(shared, compat=False)
    print("\n".join(f"{t}: {n}" for t, n in sorted(differing.items()) if n))
    assert {t: n for t, n in differing.items() if n} == ON_PURPOSE


def test_the_reference_table_of_corrected_answers_is_reproduced(shared: Path) -> None:
    folder = shared / "data" / "complex"
    by_prompt: dict[str, Any] = {row["prompt"]: row for _, row in read_rows(folder / "data.jsonl")}
    rows = passed_rows = checked = passed = 0
    for number, row in read_rows(folder / "ift_train.jsonl"):
        constraints = read_constraints(by_prompt[row["instruction"]], f"ift_train.jsonl:{number}")
        found = [v.passed for v in verify(row["output"], constraints, ifeval_compat=True)]
        rows, passed_rows = rows + 1, passed_rows + all(found)
        checked, passed = checked + len(found), passed + sum(found)
    assert (rows, passed_rows, checked) == (1467, 514, 5574)
    assert passed == pytest.approx(3806, abs=0)


def test_language_answers_are_those_of_langdetect(shared: Path) -> None:
    from langdetect import DetectorFactory
    from langdetect.detector_factory import PROFILES_DIRECTORY
    from langdetect.lang_detect_exception import LangDetectException

    from if_factory.constraints.text.langid import detect

    factory = DetectorFactory()
    factory.load_profile(PROFILES_DIRECTORY)
    factory.seed = 0

    def langdetect(text: str) -> str | None:
        detector = factory.create()
        detector.append(text)
        try:
            return str(detector.detect()).replace("unknown", "") or None
        except LangDetectException:
            return None

    lines = (shared / "data" / "complex" / "ift_train.jsonl").read_text().splitlines()
    texts = [json.loads(line)["output"] for line in lines[::20]]
    texts += [t.lower() for t in texts[::8]] + [t.upper() for t in texts[::8]]
    texts += ["", "12 34", "YES", "a", "see https://example.com/a", "你好世界", "Привет мир hello", "café déjà"]
    assert [t for t in texts if detect(t) != langdetect(t)] == []


def test_packed_profiles_are_those_of_the_installed_langdetect() -> None:
    from langdetect.detector_factory import PROFILES_DIRECTORY

    from if_factory.constraints.text import langid

    packed = langid._Profiles()
    stored = {p.name: json.loads(p.read_bytes()) for p in sorted(Path(PROFILES_DIRECTORY).iterdir()) if p.is_file()}
    assert packed.names == [profile["name"] for profile in stored.values()] == list(stored)
    grams = {gram for profile in stored.values() for gram in profile["freq"]}
    packed.read("".join(grams))
    assert packed.places.keys() == grams
    rows = {gram: packed.row(gram) for gram in grams}
    for n, profile in enumerate(stored.values()):
        totals = profile["n_words"]
        assert all(rows[gram][n] == k / totals[len(gram) - 1] for gram, k in profile["freq"].items())
    assert sum(sum(map(bool, row)) for row in rows.values()) == sum(len(p["freq"]) for p in stored.values())


def test_characters_become_what_langdetect_makes_of_them() -> None:
    from langdetect.utils.ngram import NGram

    from if_factory.constraints.text import langid

    assert [c for c in map(chr, range(0x11000)) if langid._normal(c) != NGram.normalize(c)] == []


def test_the_order_in_which_profiles_are_read_changes_no_answer(shared: Path) -> None:
    from if_factory.constraints.text import langid

    lines = (shared / "data" / "complex" / "ift_train.jsonl").read_text().splitlines()
    texts = ["".join(c for c in json.loads(line)["output"] if c.isascii())[:300].upper() for line in lines[::100]]
    answers = {}
    for read in ("some", "all"):
        for remembered in (langid._loaded, langid._row, langid._grams_of, langid.detect):
            remembered.cache_clear()
        if read == "all":
            langid._profiles().read(map(chr, range(0x10000)))
        answers[read] = [langid.detect(text) for text in texts]
        assert bool(langid._profiles()._unread) is (read == "some")
    assert answers["some"] == answers["all"]
