"""How a response is laid out: options, lines, lists, titles, templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.types.ifeval.detectable_format import is_closed_question
from if_factory.constraints.types.public import AVOIDING, PLAIN, PUNCTUATION, Public, treebank_words, unmarked

_OPTIONS = ("yes/no/maybe", "yes/no/it depends", "yes/no/not sure")


@register
class Options(Public):
    """The response is one of ``options`` (a list, or one text divided by slashes or commas), case ignored."""

    type = "format:options"
    never_with = frozenset(("detectable_format:constrained_response",))
    arguments = ("options",)
    difficulty_hint = 1
    descriptions = (
        "Answer with one of the following options and give no explanation: {listed}",
        "Reply with exactly one of these and nothing else: {listed}",
        "Your whole answer must be one of: {listed}",
    )

    @staticmethod
    def _options(kwargs: Mapping[str, Any]) -> list[str]:
        given = kwargs["options"]
        if isinstance(given, str):
            mark = "/" if "/" in given else " or " if " or " in given else ","
            given = [part.strip() for part in given.split(mark)]
        if not isinstance(given, list | tuple) or not all(isinstance(o, str) and o.strip() for o in given):
            raise ValueError(f"'options' must be a list of texts, found {given!r}")
        return list(given)

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = measure.folded(response).strip(PUNCTUATION)
        return found in {measure.folded(option).strip(PUNCTUATION) for option in self._options(kwargs)}

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        # Options such as "a), b)" are compared as written by the public checker.
        if re.match(r"\W*[aA]\W*[bB]\W*[cC]\W*", str(kwargs["options"])):
            return response in self._options(kwargs)
        return response.strip(PUNCTUATION).lower() in {o.strip(PUNCTUATION).lower() for o in self._options(kwargs)}

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return ({"options": rng.choice(_OPTIONS)} if is_closed_question(seed_prompt) else None)

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        self._options(kwargs)
        return Demands(owns="fixed_answer")

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"listed": " / ".join(self._options(kwargs))}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"is none of {' / '.join(self._options(kwargs))}"


@register
class NewLineWords(Public):
    """Every line that is not blank holds exactly one word."""

    type = "format:newline"
    difficulty_hint = 4
    allows = AVOIDING | {"keywords:existence"}
    descriptions = (
        "Write each word on a new line",
        "Put every word of your response on its own line",
        "Start a new line after each word",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(len(line.split()) == 1 for line in measure.lines(response))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        text = unmarked(response)
        return len([line for line in text.strip().split("\n") if line]) == len(text.split())

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has a line of several words"


@register
class LineIndent(Public):
    """Each line is indented further than the line before; blank lines do not count."""

    type = "format:line_indent"
    difficulty_hint = 4
    allows = AVOIDING | {"keywords:existence"}
    descriptions = (
        "Create stairs by incrementally indenting each new line",
        "Indent every line further than the line above it",
        "Lay out your lines as stairs, each one beginning further to the right",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        lines = [line.expandtabs(4) for line in response.split("\n") if line.strip()]
        indents = [len(line) - len(line.lstrip()) for line in lines]
        return len(lines) > 1 and all(a < b for a, b in pairwise(indents))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        lines = response.split("\n")
        for line in lines:  # the public checker removes from the list it walks through, so some blank lines stay
            if not line.strip():
                lines.remove(line)
        indents = [len(line) - len(line.lstrip(" ")) for line in lines]
        return all(a < b for a, b in pairwise(indents))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has a line that is not indented further than the line before"


@register
class SpecialList(Public):
    """Two or more lines open with ``sep`` in place of a bullet (public checker: it occurs twice anywhere)."""

    type = "format:list"
    never_with = frozenset(("detectable_format:number_bullet_lists", "list", "format:sub-bullets"))
    arguments = ("sep",)
    descriptions = (
        'Answer with a list of items; instead of bullet points use "{sep}"',
        'Give a list in which every item starts with "{sep}"',
        'Use "{sep}" in place of bullets to list your items',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        sep = str(kwargs["sep"]).strip()
        return sum(line.startswith(sep) and line != sep for line in measure.lines(response)) >= 2

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return response.count(str(kwargs["sep"])) >= 2

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"sep": rng.choice(("->", "=>", "~", "::", "§"))}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=(kwargs["sep"],), counts={"lines": Range(2), "marked_items": Range(2)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"does not have two items that start with {kwargs['sep']!r}"


@register
class Thesis(Public):
    """Text in ``<i>`` or ``<em>``, closed by the same tag, and more text behind it."""

    type = "format:thesis"
    room = 3
    never_with = frozenset(("xml", "change_case:english_capital", "style:no_first_person"))  # <i> is no pronoun
    descriptions = (
        "Each section must begin with a thesis statement in italics; use HTML to indicate the italics",
        "Open every section with its thesis between <i> and </i>",
        "Start each section with one statement in HTML italics (<i> or <em>)",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = list(re.finditer(r"<(i|em)>([^<]*\w[^<]*)</\1>", response))
        return bool(found) and all(re.search(r"\w", re.sub(r"<[^>]*>", "", response[a.end():b]))
                                   for a, b in zip(found, [f.start() for f in found[1:]] + [len(response)],
                                                   strict=True))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        start = response.find("<i>") if "<i>" in response else response.find("<em>")
        rest = response[start:] if start >= 0 else ""
        end = rest.find("</i>") if "</i>" in rest else rest.find("</em>")
        return end >= 0 and rest[3:end].strip() != "" and rest[end + 4:].strip() != ""

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"words": Range(2)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has no thesis in HTML italics with text behind it"


@register
class SubBullets(Public):
    """Bullet points with ``*``, each with at least one ``-`` below it (public checker: a hyphen before the next
    ``*``).
    """

    type = "format:sub-bullets"
    never_with = frozenset(("detectable_format:number_bullet_lists", "list"))
    descriptions = (
        "Include bullet points denoted by * and at least one sub-bullet point denoted by - for each of them",
        "Use bullets that start with *, and give each one or more sub-bullets that start with -",
        "Under every bullet point (*) write at least one sub-bullet point (-)",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        marks = "".join(re.findall(r"(?m)^[ \t]*([*-])[ \t]+\S", measure.without_code(response)))
        return re.fullmatch(r"(?:\*-+)+", marks) is not None

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all("-" in bullet for bullet in response.split("*")[1:])

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"bullets": Range(2), "lines": Range(2)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has no * bullets, or one without a - below it"


@register
class SentencesThenBullets(Public):
    """At least two sentences that end in a full stop, then at least two bullets with ``*`` and nothing behind."""

    type = "format:no_bullets_bullets"
    allows = PLAIN
    descriptions = (
        "Write at least two sentences ending in a period, followed by at least two bullet points denoted by *",
        "First give two or more sentences that end in a full stop, then two or more bullets that start with *",
        "Your answer must contain at least 2 sentences with a full stop and, after them, at least 2 * bullets",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        lines = measure.lines(response)
        at = next((i for i, line in enumerate(lines) if re.match(r"\*\s+\S", line)), len(lines))
        before = measure.sentences("\n".join(lines[:at]))
        return (sum(s.rstrip("\"'”’)*_").endswith((".", "。")) for s in before) >= 2 and len(lines) - at >= 2
                and all(re.match(r"\*\s+\S", line) for line in lines[at:]))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        # As published: a blank line before the bullets ends what counts as sentences, and then anything but a
        # bullet fails.
        counted, bullets, prose = 0, 0, True
        for line in map(str.strip, response.split("\n")):
            if line.startswith("*"):
                prose = False
                if counted < 2:
                    return False
                bullets += 1
            elif prose:
                found = measure.punkt_sentences(line)
                prose = bool(found)
                counted += len(found)
            else:
                return False
        return bullets >= 2

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"bullets": Range(2), "sentences": Range(2)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "is not two sentences with a full stop and then two * bullets"


_SMALL = frozenset("""a an and as at but by en for from if in into nor of off on onto or over per so the to up
via vs with yet than is""".split())  # noqa: SIM905


@register
class TitleCase(Public):
    """Every major word starts with a capital; short prepositions, conjunctions and articles are free."""

    type = "format:title_case"
    # A request that is repeated, tags and code are written as they are; other languages have other titles.
    never_with = frozenset(("change_case:english_capital", "change_case:english_lowercase", "language", "xml", "code",
                            "combination:repeat_prompt", "format:thesis", "count:lowercase_counting"))
    descriptions = (
        "Write the entire response in title case (capitalize the first letter of every major word)",
        "Capitalize every major word of your response",
        "Use title case throughout: each major word begins with a capital letter",
    )

    def _wrong(self, response: str) -> str:
        return next((w for w in re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", measure.plain(response))
                     if w[0].islower() and w.lower() not in _SMALL), "")

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return any(map(str.isupper, response)) and not self._wrong(response)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        for word in treebank_words(response):
            if word[0].isalpha() and word[0].islower() and (
                    len(word) == 1 or word[1:].isupper() or word[1:].islower()):
                return False
        return True

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has '{self._wrong(response)}' without a capital"


@register
class OutputTemplate(Public):
    """The three headings occur in order, each with text behind it (public checker: they occur)."""

    type = "format:output_template"
    room = 3
    # It owns the first words, and two of its sentences begin alike.
    never_with = frozenset(("start", "first_word", "startend:quotation", "combination:repeat_prompt", "paragraph",
                            "xml", "length_constraints:nth_paragraph_first_word", "length:exact_lines",
                            "sentence:distinct_starts"))
    headings = ("My Answer:", "My Conclusion:", "Future Outlook:")
    descriptions = (
        "Use this exact template for your response: My Answer: [answer] My Conclusion: [conclusion] Future "
        "Outlook: "
        "[outlook]",
        "Structure your response as My Answer: ..., My Conclusion: ..., Future Outlook: ...",
        "Give your answer under My Answer:, then a part My Conclusion: and then a part Future Outlook:",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        mark = r"[*_]*\s*"
        return re.fullmatch(r"[\s#*_>\-]*My Answer:" + mark + r"(.*\w.*)My Conclusion:" + mark
                            + r"(.*\w.*)Future Outlook:(.*\w.*)", response, re.DOTALL) is not None

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(heading in response for heading in self.headings)

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=self.headings)

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        missing = [heading for heading in self.headings if heading not in response]
        return f"lacks {', '.join(missing) or 'text between its headings, or their order'}"


@register
class NoWhitespace(Public):
    """No white space inside the response."""

    type = "format:no_whitespace"
    difficulty_hint = 5
    allows = AVOIDING
    descriptions = (
        "The output should not contain any whitespace",
        "Write your whole response without a single space or line break",
        "Use no whitespace at all",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return not any(map(str.isspace, response.strip()))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return not any(map(str.isspace, response))

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"lines": Range(0, 1)}, forbidden_chars=" \n\t")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "contains white space"
