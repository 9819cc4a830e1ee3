"""How long generated texts are and how often they repeat themselves, as Suri measures it (arXiv 2406.19371, 4.2).

Length is in tokens. n-grams are of words (what white space separates): 5 tokens of a modern vocabulary are an
everyday phrase. Three figures per model:

* length: mean and median, in tokens;
* the share of texts in which some 5-gram (10-gram) of words occurs 3 times or more;
* the 5-gram repetition rate within tokens 0-2048 and from 2048 on: of the 5-grams that begin in that window, the
  share that are not the first of their kind in the window, over all texts together.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from if_factory.errors import UserError
from if_factory.evaluation.stats import Mean, Rate, average, cluster_rate, wilson
from if_factory.files import read_rows
from if_factory.inputs.rows import answers_of
from if_factory.tables import markdown_table

WINDOW = 2048
SIZES = (5, 10)
TIMES = 3

Starts = Callable[[str], Sequence[int]]
"""A tokenizer, as far as it matters here: the character at which each token of a text begins."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """``name`` says in every result which tokens lengths and windows were counted in."""

    name: str
    starts: Starts


def tokens(choice: str = "auto") -> Tokens:
    """``o200k_base`` (tiktoken, as in the paper), ``words``, or the path of a Hugging Face tokenizer.

    ``auto`` takes o200k_base where tiktoken is installed and has its vocabulary (which it fetches at first use),
    else words.

    Raises:
        UserError: the tokenizer named is not there.
    """
    if choice == "words":
        return Tokens("words", lambda text: [m.start() for m in _WORD.finditer(text)])
    if choice in ("auto", "o200k_base"):
        try:
            return _tiktoken()
        except Exception as e:  # a missing package, or requests' many ways to have no network
            if choice == "auto":
                return tokens("words")
            raise UserError(f"tiktoken's o200k_base is not available: {type(e).__name__}", where="--tokens",
                            fix="pip install tiktoken, and let it fetch its vocabulary once (TIKTOKEN_CACHE_DIR "
                            "says where to); or count words") from None
    return _hugging_face(choice)


def _tiktoken() -> Tokens:
    import tiktoken

    encoding = tiktoken.get_encoding("o200k_base")

    def starts(text: str) -> Sequence[int]:
        found: list[int] = encoding.decode_with_offsets(encoding.encode(text, disallowed_special=()))[1]
        return found

    return Tokens("o200k_base", starts)


def _hugging_face(path: str) -> Tokens:
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(path)
    except ImportError:
        raise UserError("a model's tokenizer needs transformers", where="--tokens",
                        fix='pip install "if-factory[local]"') from None
    except (OSError, ValueError) as e:
        raise UserError(f"cannot load the tokenizer: {str(e).splitlines()[0]}", where=path,
                        fix="give a Hugging Face folder, `words` or `o200k_base`") from None
    if not tokenizer.is_fast:
        raise UserError("this tokenizer cannot say where its tokens begin", where=path, fix="count words instead")

    def starts(text: str) -> Sequence[int]:
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return [start for start, _ in offsets]

    return Tokens(Path(path).name, starts)


# ---------------------------------------------------------------- one text


@dataclass(frozen=True, slots=True)
class Counted:
    """One text. ``most[n]`` is how often its most frequent n-gram of words occurs (0: it has none);
    ``windows[i]`` is ``(repeated 5-grams, 5-grams)`` that begin before and after token 2048."""

    length: int
    most: dict[int, int]
    windows: tuple[tuple[int, int], tuple[int, int]]


def count(text: str, starts: Starts) -> Counted:
    """Count one text; linear in its length."""
    found = list(_WORD.finditer(text))
    words = [m.group() for m in found]
    begins = starts(text)
    # The first word that begins in the second window.
    limit = bisect_left([m.start() for m in found], begins[WINDOW]) if len(begins) > WINDOW else len(words)
    grams = _ngrams(words, SIZES[0])
    return Counted(len(begins),
                   {n: max(Counter(_ngrams(words, n)).values(), default=0) for n in SIZES},
                   (_repeated(grams[:limit]), _repeated(grams[limit:])))


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def _repeated(grams: Sequence[tuple[str, ...]]) -> tuple[int, int]:
    return len(grams) - len(set(grams)), len(grams)


_WORD = re.compile(r"\S+")


# ---------------------------------------------------------------- many texts


@dataclass(frozen=True, slots=True)
class Repetition:
    """One model's texts. ``repeating[n]`` counts texts (Wilson); ``within`` counts 5-grams, before and after token
    2048, resampled by text; ``no_text`` answers are missing or empty and in none of the figures."""

    texts: int
    no_text: int
    length: Mean
    median_length: float
    repeating: dict[int, Rate]
    within: tuple[Rate, Rate]


def measure(texts: Sequence[str | None], counted_in: Tokens, seed: int = 0) -> Repetition:
    """The figures for one model's texts.

    Raises:
        UserError: there is no text, scipy is missing.
    """
    rows = [count(t, counted_in.starts) for t in texts if t and t.strip()]
    if not rows:
        raise UserError("there is no text to count")
    lengths = [r.length for r in rows]
    repeating = {n: wilson(sum(r.most[n] >= TIMES for r in rows), len(rows)) for n in SIZES}
    first, second = (_window([r.windows[i] for r in rows], seed) for i in (0, 1))
    return Repetition(len(rows), len(texts) - len(rows), average(lengths, seed), median(lengths), repeating,
                      (first, second))


def _window(counts: Sequence[tuple[int, int]], seed: int) -> Rate:
    there = [(k, n) for k, n in counts if n]  # a text that ends before the window says nothing about it
    return cluster_rate([k for k, _ in there], [n for _, n in there], seed)


def read_texts(path: Path, column: str | None = None) -> dict[str, list[str | None]]:
    """``{label: texts}`` of any .jsonl or .json: ``responses.jsonl`` of `evaluate` has a label per model.

    Args:
        column: the field that holds the text; default: the row's answer, whatever its format.

    Raises:
        UserError: naming the row without that field, or without any answer; no rows at all.
    """
    found: dict[str, list[str | None]] = {}
    for n, row in read_rows(path):
        for label, text in _texts(row, column, f"{path}:{n}").items():
            found.setdefault(label, []).append(text)
    if not found:
        raise UserError("no rows", where=str(path))
    return found


def _texts(row: Mapping[str, Any], column: str | None, where: str) -> dict[str, str | None]:
    if column is not None:
        value = row.get(column)
        if column not in row or not isinstance(value, str | None):
            raise UserError("expected a text" if column in row else "no such field",
                            where=f"{where}: field '{column}'", fix=f"this row has: {', '.join(sorted(row))}")
        return {column: value}
    responses = row.get("responses")
    if isinstance(responses, dict) and all(isinstance(r, dict) and "text" in r for r in responses.values()):
        return {label: r["text"] for label, r in responses.items()}
    if isinstance(row.get("text"), str):
        return {"text": row["text"]}
    if answers := answers_of(row):
        return {a.side: a.text for a in answers}
    raise UserError("no text", where=where,
                    fix=f"name its field with --text; this row has: {', '.join(sorted(row))}")


def as_dict(results: Mapping[str, Repetition], counted_in: Tokens) -> dict[str, Any]:
    """Plain JSON; the same texts give the same bytes."""
    return {"format": 1, "tokens": counted_in.name, "window": WINDOW, "times": TIMES,
            "models": {label: _plain(r) for label, r in results.items()}}


def _plain(r: Repetition) -> dict[str, Any]:
    return {"texts": r.texts, "no_text": r.no_text, "length": asdict(r.length), "median_length": r.median_length,
            "repeating": {f"{n}-gram": _rate(rate) for n, rate in r.repeating.items()},
            "within": {f"0-{WINDOW}": _rate(r.within[0]), f"{WINDOW}+": _rate(r.within[1])}}


def _rate(rate: Rate) -> dict[str, float]:
    return {"value": round(rate.value, 6), "passed": rate.passed, "n": rate.n, "low": round(rate.low, 6),
            "high": round(rate.high, 6)}


def markdown(results: Mapping[str, Repetition], counted_in: Tokens) -> str:
    """A column per model, a line per figure."""
    rows: list[tuple[str, Callable[[Repetition], str]]] = [
        ("texts (missing or empty besides)", lambda r: f"{r.texts:,} ({r.no_text:,})"),
        (f"mean length, tokens ({counted_in.name})", lambda r: f"{r.length.value:,.0f}{_interval(r.length)}"),
        ("median length", lambda r: f"{r.median_length:,.0f}"),
        *((f"texts with a {n}-gram {TIMES} times or more", lambda r, n=n: _share(r.repeating[n])) for n in SIZES),
        (f"repeated {SIZES[0]}-grams within tokens 0-{WINDOW:,}", lambda r: _share(r.within[0])),
        (f"repeated {SIZES[0]}-grams within tokens {WINDOW:,}+", lambda r: _share(r.within[1]))]
    cells = [(name, *(cell(r) for r in results.values())) for name, cell in rows]
    return "\n".join(markdown_table(("", *results), cells, numbers=len(results))) + "\n"


def _interval(m: Mean) -> str:
    return "" if m.low is None else f" [{m.low:,.0f}, {m.high:,.0f}]"


def _share(rate: Rate) -> str:
    if not rate.n:
        return "none so long"
    digits = 0 if rate.value > 0.1 else 2
    return (f"{100 * rate.value:.{digits}f} % ({rate.passed:,}/{rate.n:,}) "
            f"[{100 * rate.low:.{digits}f}, {100 * rate.high:.{digits}f}]")
