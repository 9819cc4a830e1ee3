"""A complying text for a composed set of constraints, built and not guessed: proof that the set can be satisfied.

``build`` lays out what each constraint asks for (markers, lists, tables, required words, ends) and fills the rest
with short words, in several widths, until the verifier passes every constraint. What it returns is verified. What
shapes every word or sentence has a layout of its own in ``shaped_witness``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import get
from if_factory.constraints.conflicts import Whole
from if_factory.constraints.demands import merge
from if_factory.constraints.verify import verify
from if_factory.records import Constraint

from .shaped_witness import SHAPES, shaped

_TEXTS = {
    "en": "the sun and sea are warm in may when all of us go out to swim or walk by an old mill near this "
          "town with some bread then they will sit down on grass under big trees for lunch while birds sing "
          "high above now but once every fall cold wind blows from north so people stay home until next "
          "spring brings light back again if you love green hills come here soon since no one knows how "
          "long it may last both day night",
    "de": "der und die nicht auf ein ist wir mit dem das haus sind aber auch noch schon wenn oder ich sie "
          "haben gehen immer nach zum zur bei aus von für über durch gegen ohne schön groß klein heute "
          "jetzt dann",
    "es": "el la los las un una que con por para sin muy bien todo este esta pero como cuando donde ahora "
          "siempre nunca casa mesa sol agua luz mar hoy vida tiempo mundo gente porque también después "
          "mucho hay más",
    "fr": "le la les un une des que avec pour sans dans est très bien tout cette mais comme quand nous vous "
          "ils maison table soleil eau jour mer vie temps monde gens parce aussi après beaucoup toujours "
          "jamais où",
    "it": "il lo la gli le un una che con per senza molto bene tutto questo questa ma come quando dove ora "
          "sempre mai casa tavola sole acqua luce mare oggi vita tempo mondo gente perché anche dopo più "
          "della nella",
    "nl": "de het een en van in is dat op te zijn met voor niet aan er om ook als dan maar bij nog uit naar "
          "heeft huis tafel zon water licht zee vandaag leven tijd wereld mensen omdat altijd nooit deze "
          "onze geen",
    "pt": "os as um uma que com por para sem muito bem tudo este esta mas como quando onde agora sempre "
          "nunca casa mesa sol água luz mar hoje vida tempo mundo gente porque também depois não são mais "
          "você ele",
}
_WORDS = {language: text.split() for language, text in _TEXTS.items()}
_PALINDROMES = ("level", "radar", "refer", "rotor", "madam", "tenet", "stats", "solos", "minim", "civic", "kayak",
                "sagas", "rotator", "deified")
_ITEMS = ("air", "bud", "cub", "dim", "fig", "gum", "hub", "mix", "nut", "oat", "pot", "rug", "sky", "tub", "zip")


def build(constraints: Sequence[Constraint]) -> str | None:
    """A text that passes every constraint, or ``None`` where this builder finds none."""
    plan = _Plan(constraints)
    shape = next((c for c in constraints if c.type in SHAPES), None)
    for plan.spread in (False, True):
        for text in shaped(shape, plan.demands, plan.fillers) if shape else _attempts(plan):
            if all(v.passed for v in verify(text, constraints)):
                return text
    return None


class _Plan:
    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self.args: dict[str, dict[str, Any]] = {c.type: c.kwargs for c in constraints}
        self.demands = merge(get(c.type).demands(c.kwargs) for c in constraints)
        self.whole = Whole(self.demands)
        self.spread = False  # whether what must be written stands apart, in many sentences
        self.fillers = self._fillers()

    def has(self, kind: str) -> bool:
        return kind in self.args

    def arg(self, kind: str, name: str, default: Any = None) -> Any:
        return self.args.get(kind, {}).get(name, default)

    def _fillers(self) -> list[str]:
        language = self.demands.language or "en"
        capped = {u[-1] for u, r in self.demands.counts.items() if u.startswith("letter:") and r.high is not None}
        counted = {u[5:] for u in self.demands.counts if u.startswith("word:")}
        banned = {w.lower() for w in self.demands.forbidden} | counted
        # Words that are counted by kind are written as atoms, which a first filler of a sentence must not replace.
        banned |= {"and", "but", "for", "nor", "or", "so", "yet"} if self.has("count:conjunctions") else set()
        banned |= {"it", "he", "us", "me", "him"} if self.has("count:pronouns") else set()
        every = [w for w in _WORDS[language] if w not in banned]
        poor = [w for w in every if not capped & set(w)]
        return poor or every

    def item(self, i: int) -> str:
        """A short word that never uses a capped letter if that can be helped; alphabetical in ``i``."""
        usable = self.usable(_ITEMS)
        return usable[min(i, len(usable) - 1)]

    def usable(self, words: Sequence[str]) -> list[str]:
        """The words, those without a capped letter first; where there are some, only those."""
        capped = {u[-1] for u, r in self.demands.counts.items() if u.startswith("letter:") and r.high is not None}
        return [w for w in words if not capped & set(w.lower())] or list(words)

    def enough(self, words: str, n: int) -> list[str]:
        """``n`` of the words, those without a capped letter first."""
        usable = self.usable(words.split())
        return [*usable, *(w for w in words.split() if w not in usable)][:n]


def _attempts(p: _Plan) -> Iterator[str]:
    if p.demands.owns in ("json", "yaml", "csv"):
        yield from _document(p)
    elif p.demands.owns == "fixed_answer":
        yield "My answer is yes."
        yield '"My answer is yes."'
    else:
        for sentences in (*range(1, 13), 16, 20, 30, 45):
            yield from _filled(p, sentences)


def _filled(p: _Plan, sentences: int) -> Iterator[str]:
    """Texts of so many prose sentences, with as many filler words and prose lines as the ranges ask for."""
    low, high = p.whole.low("words"), p.whole.high("words")
    wanted_lines = p.demands.counts.get("lines")
    bare = measure.count_words(_text(p, sentences, 0, 0))
    low = max(low, p.whole.low("letters") // 3)
    targets = sorted({low, low + 12, 30, 60, 110, 2 * low} if high is None else
                     {low, min(high, low + 12), min(high, 60), high})
    for target in targets:
        fillers = max(0, target - bare)
        text = _text(p, sentences, fillers, 0)
        for _ in range(2):  # capitalised or split tokens can shift the count a little
            fillers = max(0, fillers + target - measure.count_words(text))
            text = _text(p, sentences, fillers, 0)
        if wanted_lines is not None and wanted_lines.high is not None:
            text = _text(p, sentences, fillers, wanted_lines.high - len(measure.lines(text)))
        yield text


def _atoms(p: _Plan) -> list[str]:
    """What must stand somewhere in the prose."""
    w = p.item(3)
    atoms: list[str] = []
    if p.has("detectable_format:title"):
        atoms.append(f"<<{w}>>")
    atoms += [f"[{w}]"] * p.whole.low("placeholders")
    bold = p.whole.low("bold")
    atoms += [f"**{w}**"] * bold + [f"*{w}*"] * max(0, p.whole.low("highlights") - bold)
    if p.has("emoji:count"):
        atoms[-1:] = [(atoms or [""])[-1] + "🌟" * p.args["emoji:count"]["count"]]
    if p.has("date:iso"):
        atoms.append("2024-05-17")
    return atoms + _public_atoms(p)


def _public_atoms(p: _Plan) -> list[str]:
    """The same for the types of public benchmarks."""
    a, b, c, d, e = map(p.item, range(1, 6))
    atoms = p.enough("so and or but yet for nor", p.arg("count:conjunctions", "small_n", 0))
    atoms += p.enough("Emma Liam Ava Mia Noah Leo Zoe Owen", p.arg("count:person_names", "N", 0))
    allowed = [w for w in ("it", "he", "us", "me", "him") if w not in p.demands.forbidden]
    atoms += allowed * 3 if p.has("count:pronouns") else []
    atoms += p.usable(_PALINDROMES)[:10] if p.has("words:palindrome") else []
    atoms += p.usable(_PALINDROMES)[:1] if p.has("keywords:palindrome") else []
    if p.has("count:punctuation"):
        atoms.append(f"{a}; {b}, {c}: {d}?! {e}! {a}?")
    if p.has("format:parentheses"):
        atoms.append(f"({a} [{b} {{{c} ({d} [{e}])}}])")
    if p.has("format:quotes"):
        atoms.append(f"\"{a} '{b} \"{c}\" {d}' {e}\"")
    if p.has("format:quote_unquote"):
        atoms.append(f'"{a}" {b} {c}')
    if p.has("format:thesis"):
        atoms.append(f"<em>{a} {b}</em> {c}")
    if p.has("copy:repeat_phrase"):
        words = p.args["copy:repeat_phrase"]["phrase"].split()
        atoms += [" ".join([words[0], p.item(i), *words[2:]])
                  for i in range(p.args["copy:repeat_phrase"]["small_n"])]
    return [a for a in atoms if a]


def _topped_up(p: _Plan, text: str) -> list[str]:
    """Further atoms that bring required words, letters, numbers and capital words to their least counts."""
    atoms: list[str] = []

    def now() -> str:
        return text + "\n" + " ".join(atoms)

    for word in p.demands.words:
        if not measure.contains_phrase(now(), word):
            atoms.append(word.lower())
    for unit, limit in p.demands.counts.items():
        if unit.startswith("word:"):
            atoms += [unit[5:]] * (limit.low - measure.count_phrase(now(), unit[5:]))
    missing = p.whole.low("capital_words") - len(measure.capital_words(now()))
    atoms += [p.item(4).upper()] * (0 if p.demands.case == "upper" else missing)
    missing = p.whole.low("numbers") - len(re.findall(r"[0-9]+", now()))
    atoms += ["7"] * missing
    for unit, limit in p.demands.counts.items():
        if unit.startswith("letter:"):
            missing = limit.low - now().lower().count(unit[-1])
            atoms += [unit[-1] * min(7, missing - i) for i in range(0, max(0, missing), 7)]
    return atoms


def _structures(p: _Plan) -> list[str]:
    """Lines of their own: sections, headings, lists, tables, code."""
    lines = [lit for lit in p.demands.literals if re.fullmatch(r"section \d+", lit, re.IGNORECASE)]
    if p.has("markdown:headings"):
        a = p.args["markdown:headings"]
        lines += ["#" * a["level"] + " " + p.item(i) for i in range(a["count"])]
    start = p.arg("list:item_start", "word", "")
    lines += [f"- {start} {p.item(i)}".replace("  ", " ") for i in range(p.whole.low("bullets"))]
    lines += [f"{i}. {p.item(i)}" for i in range(1, p.whole.low("numbered") + 1)]
    if p.has("table:rows") or p.has("table:columns"):
        columns = p.arg("table:columns", "columns", [p.item(1), p.item(2)])
        lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["|" + f" {p.item(1)} |" * len(columns)] * max(1, p.whole.low("rows"))
    if p.has("format:list"):
        lines += [f"{p.args['format:list']['sep']} {p.item(i)}" for i in range(2)]
    if p.has("format:sub-bullets"):
        lines = [line for line in lines if not line.startswith("- ")]
        most = 2 if p.whole.high("sentences") is p.whole.high("lines") is None else 1
        lines += [line for i in range(most) for line in (f"* {p.item(2 * i)}", f"  - {p.item(2 * i + 1)}")]
    if p.has("code:blocks"):
        a = p.args["code:blocks"]
        for _ in range(a["count"]):
            lines += [f"```{a['language']}", p.item(2), "```"]
    return lines


def _text(p: _Plan, sentences: int, fillers: int, more_lines: int) -> str:
    start = (p.demands.starts or "").strip('"').strip()
    end = (p.demands.ends or "").strip('"').strip()
    if p.has("format:output_template"):
        start, end = "My Answer:", f"My Conclusion: {p.item(1)}. Future Outlook: {p.item(2)} {end}".strip()
    elif p.has("words:start_verb"):
        start = "Have"
    tag = p.arg("xml:enclosing_tag", "tag")
    if tag:
        start, end = "", ""
    structures = _structures(p)
    tail = p.arg("detectable_content:postscript", "postscript_marker", "")
    tail = f"{tail.rstrip('.')}. {p.item(5)}" if tail else ""
    paragraphs = p.whole.low("paragraphs") or 1
    opener = p.arg("length_constraints:nth_paragraph_first_word", "first_word", "")
    nth = int(p.arg("length_constraints:nth_paragraph_first_word", "nth_paragraph", 1))
    fixed = "\n".join([start, *structures, tail, end, opener if nth > 1 else "", *_atoms(p)])
    atoms = _atoms(p) + _topped_up(p, fixed)
    words = [p.fillers[i % len(p.fillers)] for i in range(fillers)]
    groups = _prose(p, sentences, words, atoms, paragraphs, start, opener if nth > 1 else "", nth)
    closing = f"{tail} {end}".strip() if tail else end
    if two := p.has("combination:two_responses"):
        groups.append([p.item(6)])
    divided = p.has("length_constraints:number_paragraphs") or p.has("paragraphs:paragraphs")
    separator = "******" if two else "***" if divided else ""
    shares = _shares(more_lines, len(groups))
    blocks = []
    for i, tokens in enumerate(groups):
        last = i == len(groups) - 1
        below = structures if i == 0 else []
        inline = last and closing and not tail and not below
        if inline and i and p.whole.high("sentences") is not None and closing[-1] in ".?!":
            tokens = [*tokens[:-1], tokens[-1].removesuffix(".")]  # the closing sentence is this paragraph's only one
        lines = _wrap([*tokens, closing] if inline else tokens, p.whole.high("line_characters"), 1 + shares[i])
        if p.demands.case == "lower":  # a stop before a small letter ends a sentence only at a line's end
            lines = [part for line in lines for part in re.sub(r"\. ", ".\n", line).split("\n")]
        if p.spread and below and below[-1].startswith("- ") and last and closing:
            below = [*below[:-1], below[-1] + "."]  # what follows is no part of the last item
        if below and p.whole.high("sentences") is not None:  # lists then close the last sentence
            lines[-1] = lines[-1].removesuffix(".")
        lines += below
        if last and closing and not inline:
            lines.append(closing)
        elif last and below and (tag or p.has("startend:quotation")):  # a closing fence needs its own line
            lines.append(p.item(6))
        blocks.append("\n".join(lines))
    text = (f"\n{separator}\n" if separator else "\n\n").join(blocks)
    if p.has("punctuation:punctuation_dot"):
        text = text.replace(".", "!")
    if p.has("format:title_case") or p.has("count:lowercase_counting"):
        text = re.sub(r"[^\W\d_]+", lambda word: word.group()[0].upper() + word.group()[1:], text)
        text = text.replace("Em>", "em>")
    if p.has("keywords:start_end"):
        text = text.rstrip(".!") + ("\n" if structures and len(blocks) == 1 else " ") + measure.first_word(text)
    if p.demands.case:
        text = text.lower() if p.demands.case == "lower" else text.upper()
    if tag:
        text = f"<{tag}>{text}</{tag}>"
    return f'"{text}"' if p.has("startend:quotation") else text


def _shares(extra: int, groups: int) -> list[int]:
    extra = max(0, extra)
    return [extra // groups + (i < extra % groups) for i in range(groups)]


def _prose(p: _Plan, sentences: int, words: list[str], atoms: list[str], paragraphs: int, start: str, opener: str,
           nth: int) -> list[list[str]]:
    """Tokens by paragraph; tokens that end a sentence carry its stop."""
    tokens = atoms + words or [p.item(0)]
    if p.spread:
        step = max(1, len(words) // max(1, len(atoms)))
        tokens = [token for i, atom in enumerate(atoms) for token in (*words[i * step:(i + 1) * step], atom)]
        tokens += words[len(atoms) * step:] or ([] if tokens else [p.item(0)])
    count = max(paragraphs, min(sentences, len(tokens)))
    tokens += [p.fillers[i % len(p.fillers)] for i in range(count - len(tokens))]
    size, more = divmod(len(tokens), count)
    groups: list[list[str]] = [[] for _ in range(paragraphs)]
    starts = list(dict.fromkeys(p.fillers))
    at = 0
    for i in range(count):
        take = size + (i < more)
        piece = tokens[at:at + take]
        at += take
        # a filler in front, each another one, so that sentences are sentences and begin differently
        for j, token in enumerate(piece):
            if token in starts:
                piece.insert(0, piece.pop(j))
                break
        if piece[0] in starts:
            fresh = starts.pop(0)
            piece[0] = fresh
        group = min(i * paragraphs // count, paragraphs - 1)
        if i == 0 and start:
            ended = start.endswith((".", "?", "!"))
            wordy = len(start.split()) > 8
            piece = [start + ("" if ended or not wordy else "."), *piece]
            if ended or wordy:
                piece[1] = piece[1][:1].upper() + piece[1][1:]
        elif opener and group == nth - 1 and not groups[group]:
            piece = [opener, *piece]
        else:
            piece[0] = piece[0][:1].upper() + piece[0][1:]
        piece[-1] += "."
        groups[group] += piece
    return groups


def _wrap(tokens: list[str], width: int | None, lines: int) -> list[str]:
    if lines > 1:
        lines = min(lines, len(tokens))
        size, more = divmod(len(tokens), lines)
        cuts = [i * size + min(i, more) for i in range(lines + 1)]
        return [" ".join(tokens[a:b]) for a, b in pairwise(cuts)]
    out = [""]
    for token in tokens:
        if width and len(out[-1]) + len(token) + 24 > width and out[-1]:
            out.append("")
        out[-1] = f"{out[-1]} {token}".strip()
    return out


def _document(p: _Plan) -> Iterator[str]:
    base = _atoms(p)
    for fillers in (0, 1, 3, 8, 20, 40, 80, 200):
        keys = p.arg("json:keys", "keys") or p.arg("yaml:keys", "keys") or p.arg("csv:header", "columns") or []
        words = [p.fillers[i % len(p.fillers)] for i in range(fillers)]
        value = " ".join([*base, *_topped_up(p, " ".join([*keys, *base, *words])), *words]) or p.item(0)
        if p.has("csv:header"):
            cells = ",".join([p.item(1)] * len(keys))
            rows = [",".join([value, *[p.item(1)] * (len(keys) - 1)])]
            yield "\n".join([",".join(keys), *rows, *[cells] * (p.args["csv:header"]["num_rows"] - 1)])
        elif p.has("yaml:keys"):
            yield "\n".join(f'{key}: "{value if i == 0 else p.item(1)}"' for i, key in enumerate(keys))
        elif p.has("json:list"):
            rest = [p.item(1)] * (p.args["json:list"]["num_items"] - 1)
            yield json.dumps([value, *rest], ensure_ascii=False)
        else:
            yield json.dumps({key: value if i == 0 else p.item(1) for i, key in enumerate(keys or ["a"])},
                             ensure_ascii=False)
