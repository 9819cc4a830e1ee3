"""What LLaMA-Factory trains without a word although it is hardly meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from if_factory.exporting import rules
from if_factory.exporting.entry import Problem
from if_factory.exporting.rules import Shape, TrainingStage
from if_factory.exporting.templates import TemplateFacts

MEDIA = re.compile(r"<(?:image|video|audio)>")
# what tokenizers of common families hold as one control token
CONTROL = re.compile(r"<\|[A-Za-z0-9_]{1,40}\|>|</?s>|<(?:start|end)_of_turn>|\[/?INST\]|<<SYS>>")
NOTABLE = re.compile(f"{MEDIA.pattern}|{CONTROL.pattern}|{{{{idx}}}}")
SIGNS = ("<", "INST]", "{{idx}}")  # a text that NOTABLE matches holds one of these


def remarks(t: rules.Turns, row: dict[str, Any], shape: Shape, stage: TrainingStage) -> list[tuple[str, str]]:
    """(field, reason) for empty and equal texts and the openai format's own words."""
    said = []
    if shape.formatting == "alpaca":
        if not t.prompt[-1][1]:
            said.append((str(shape.columns["prompt"]), "the prompt is empty"))
        history = shape.columns["history"]
        if history and row[history] and not isinstance(row[history], list):
            said.append((str(history), "the history is not a list, so it is ignored"))
    elif any(role == "user" and not text for role, text in t.prompt):
        said.append((str(shape.columns["messages"]), "a user turn is empty"))
    if stage == "kto":
        desirable = row.get(shape.columns["kto_tag"])  # with `"ranking": 1` a pair gets as far as here
        if not any(text for _, text in t.response):
            said.append((rules.answer_field(shape, "", row), "the answer is empty" + (
                ", which turns a desirable row into an undesirable one" if desirable else "")))
    elif stage == "dpo" and shape.ranking:
        sides = [text for _, text in t.response[:2]]
        said += [(str(shape.columns[r]), "the answer is empty")
                 for r, text in zip(("chosen", "rejected"), sides, strict=True) if not text]
        if sides[0] == sides[1]:
            said.append((str(shape.columns["rejected"]), "is the same text as the chosen answer"))
    elif not t.response[-1][1]:
        said.append((rules.answer_field(shape, "", row), "the answer is empty: an empty answer is trained"))
    if shape.formatting == "openai" and not t.tools:
        said.append((str(shape.columns["messages"]), "the openai format adds the system prompt 'detailed thinking "
                     "off'; use sharegpt with `tags`"))
    return said


def text_remarks(t: rules.Turns, row: dict[str, Any], shape: Shape, facts: TemplateFacts
                 ) -> Iterator[tuple[str, str]]:
    """(field, reason) for words that a template or a tokenizer takes for something else."""
    chat = shape.formatting != "alpaca"
    for i, (role, text) in enumerate((*t.prompt, *t.response, ("system", t.system))):
        if not isinstance(text, str) or not (found := NOTABLE.search(text)):
            continue
        answer = i >= len(t.prompt) and role != "system"
        where = rules.answer_field(shape, text, row) if answer else str(
            shape.columns["system" if role == "system" else "messages" if chat else "prompt"] or "messages")
        word = found[0]
        if MEDIA.fullmatch(word):
            yield where, f"{word} stands in the text: a vision template takes it for a picture and raises " \
                         "without one" + (f"; {facts.name} is such a template" if facts.media else "")
        elif word == "{{idx}}":
            if role == "user":
                yield where, "{{idx}} stands in the text: the template may put the turn's number there"
        else:
            yield where, f"{word} stands in the text and may become a control token of the tokenizer"


def dataset_remarks(facts: TemplateFacts, thinks: int) -> list[Problem]:
    """Of the dataset as a whole: ``thinks`` answers have no thinking block and the template adds an empty one."""
    if not thinks:
        return []
    return [Problem(None, "template", f"{facts.name} puts an empty thinking block before {thinks} answers and "
                    "trains it with loss; for answers without thoughts use the template's _nothink form, or "
                    "enable_thinking: false", "kept")]
