"""Reads the checkable constraints of `data/soft/ift.jsonl` back out of its prompts.

The file lost its constraints: a prompt is a seed with up to five sentences run on behind (or, for a request to
be repeated, before) it. A sentence is recognised by the words its kind cannot do without, not from a list of all
sentences. What was drawn is reported as it stands: "at least 24 words or less" was drawn as a lower bound, "I
don't want anything less than 20 words" as an upper one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from if_factory.constraints.types.ifeval.language import LANGUAGES
from if_factory.records import Constraint

Reader = Callable[[re.Match[str]], dict[str, Any]]
CODES = {name: code for code, name in LANGUAGES.items()}
ORDINALS = ("first", "second", "third", "fourth", "fifth")
R = r"(?P<relation>at least|less than)"
N = r"(?P<n>\d+)"
WORD = r"\"?(?P<word>[^\s\".,]+)\"?"
PHRASE = (r"(?P<phrase>That is all you need!|Hope you agree with me\.|your love, and thanks\.|"
          r"Let me know if you have additional questions\.|Is there anything else I can help with\?)")


def plain(match: re.Match[str]) -> dict[str, Any]:
    return {}


def number(name: str) -> Reader:
    return lambda match: {name: int(match["n"])}


def related(name: str, relation: str) -> Reader:
    return lambda match: {name: int(match["n"]), relation: match["relation"]}


def listed(name: str) -> Reader:
    return lambda match: {name: [match["word"]]}


def paragraph(match: re.Match[str]) -> dict[str, Any]:
    return {"num_paragraphs": int(match["n"]), "nth_paragraph": ORDINALS.index(match["nth"]) + 1,
            "first_word": match["word"]}


# In this order: what a pattern has read, the later ones do not see.
KINDS: list[tuple[str, Reader, list[str]]] = [
    ("combination:repeat_prompt", plain, [
        r"repeat (?:the|it|exactly)?[^\n]{0,60}(?:request|sentence)[^\n]*", r"just repeat the request[^\n]*"]),
    ("length_constraints:nth_paragraph_first_word", paragraph, [
        rf"{N} paragraphs[^\n]{{0,160}}?(?P<nth>first|second|third|fourth|fifth) paragraph (?:must )?"
        rf"starts? with (?:the word )?{WORD}",
        rf"{N} paragraphs[^\n]{{0,160}}?[Ss]tart the (?P<nth>first|second|third|fourth|fifth) paragraph with the "
        rf"word {WORD}"]),
    ("length_constraints:number_paragraphs", number("num_paragraphs"), [
        rf"{N} (?:paragraphs|sections|parts)[^\n]{{0,80}}?\*\*\*"]),
    ("detectable_format:multiple_sections",
     lambda m: {"num_sections": int(m["n"]), "section_spliter": m["mark"]}, [
        rf"{N} sections\b[^\n]{{0,90}}?(?P<mark>SECTION|Section) X"]),
    ("combination:two_responses", plain, [
        r"(?:two|different) (?:responses|answers|anwers)[\s\S]{0,90}?\*{6}",
        r"responses should be separated[^\n]*\*{6}"]),
    ("detectable_format:constrained_response", plain, [r"[^.\n]*My answer is yes[\s\S]{1,60}maybe\.?"]),
    ("startend:end_checker", lambda m: {"end_phrase": m["phrase"]}, [
        rf"(?:exact phrase|end|sentence of your response)[^\n]{{0,60}}?{PHRASE}"]),
    ("startend:quotation", plain, [r"double quot(?:es|ations? marks)"]),
    ("punctuation:no_comma", plain, [r"(?:\bno|\bnot|n't|without|avoid|[Rr]efrain)\b[^.\n]{0,40}\bcommas\b"]),
    ("detectable_format:title", plain, [r"double angular brackets"]),
    ("detectable_format:json_format", plain, [
        r"(?:entire (?:output|response)|all words|must be provided)[^.\n]{0,30}JSON"]),
    ("detectable_content:postscript", lambda m: {"postscript_marker": m["mark"]}, [
        r"(?:post ?script|note)[^.\n]{0,30}?(?P<mark>P\.P\.S|P\.S)"]),
    ("detectable_content:number_placeholders", number("num_placeholders"), [rf"at least {N} placeholders?"]),
    ("detectable_format:number_highlighted_sections", number("num_highlights"), [
        rf"(?:[Hh]ighlight|[Ii]talicize) at least {N}\b", rf"at least {N} sections should be highlighted"]),
    ("detectable_format:number_bullet_lists", number("num_bullets"), [rf"{N} bullet points?"]),
    ("change_case:capital_word_frequency", related("capital_frequency", "capital_relation"), [
        rf"{R} {N} words (?:be )?in all capital letters(?:\.In your response, use words with all capital letters "
        rf"(?:at least|less than) \d+ times)?", rf"words with all capital letters[^.\n]{{0,20}}{R} {N}",
        rf"words in all capital letters {R} {N}", rf"all-caps words should appear {R} {N}",
        rf"stress words for {R} {N}"]),
    ("change_case:english_lowercase", plain, [
        r"letters lowercased", r"lower ?case letters(?! allowed)", r"all lower case", r"no capital letters are"]),
    ("change_case:english_capital", plain, [
        r"capitali[sz]e (?:every letter|all your words)", r"letters in your entire response should be capitalized",
        r"(?:in|and) all capital letters", r"only use capital letters"]),
    ("language:response_language", lambda m: {"language": CODES[m["name"]]}, [
        rf"(?:entirely in|using only(?: the)?|only in|[Oo]utside of) (?P<name>{'|'.join(CODES)})\b"]),
    ("keywords:letter_frequency",
     lambda m: {"letter": m["letter"].lower(), "let_frequency": int(m["n"]), "let_relation": m["relation"]}, [
        rf"letter \"?(?P<letter>\w|[^\w\s])\"? [^.\n]{{0,20}}{R} {N}", rf"{R} {N} letter ?\"(?P<letter>.)\""]),
    ("keywords:frequency",
     lambda m: {"keyword": m["word"], "frequency": int(m["n"]), "relation": m["relation"]}, [
        rf"word {WORD} [^.\n]{{0,30}}?{R} {N} times", rf"{R} {N} occurrences of the word {WORD}"]),
    ("keywords:forbidden_words", listed("forbidden_words"), [
        rf"(?:not include (?:the )?keywords:?|[Nn]ot mention the word|not say the word|using the word) {WORD}",
        rf"words? {WORD} (?:should not appear|cannot be)"]),
    ("keywords:existence", listed("keywords"), [rf"\bkeywords? {WORD}", rf"include the words {WORD}"]),
    ("length_constraints:number_sentences", related("num_sentences", "relation"), [
        rf"{R} {N} sentences", rf"number of sentences[^.\n]{{0,40}}{R} {N}"]),
    ("length_constraints:number_words", related("num_words", "relation"), [
        rf"{R} {N} words", rf"number of words[^.\n]{{0,40}}{R} {N}", rf"answer with {R} {N}\."]),
]
COMPILED = [(kind, reader, [re.compile(p) for p in patterns]) for kind, reader, patterns in KINDS]


def read_constraints(prompt: str) -> list[Constraint]:
    """The checkable constraints of a prompt, one of a kind at most; of several readings the last one counts."""
    found = []
    for kind, reader, patterns in COMPILED:
        matches = [m for pattern in patterns for m in pattern.finditer(prompt)]
        if matches:
            last = max(matches, key=lambda m: m.end())
            found.append(Constraint(type=kind, kwargs=reader(last), text=last[0]))
            prompt = prompt[:last.start()] + " \0 " + prompt[last.end():]
    return found
