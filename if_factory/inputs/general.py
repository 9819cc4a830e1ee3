"""General data to mix into SFT against forgetting: alpaca rows and whole chats, filtered and drawn by a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.inputs.conversations import is_conversation, read_conversation
from if_factory.inputs.history import read_history
from if_factory.inputs.selection import fits_languages
from if_factory.records import SFTExample, content_id

_LANGUAGE_FROM = 2000  # characters from which a row's language is told


@dataclass(slots=True)
class General:
    """The rows drawn.

    Attributes:
        examples: in the order drawn.
        wanted: how many were asked for; there may be fewer.
        left_out: rows that were looked at and not taken, by reason.
    """

    examples: list[SFTExample]
    wanted: int
    left_out: Counter[str] = field(default_factory=Counter)

    def note(self) -> str:
        """One line for the user."""
        reasons = ", ".join(f"{why} {n}" for why, n in sorted(self.left_out.items()))
        fewer = f" of the {self.wanted} asked for, the file has no more" if len(self.examples) < self.wanted else ""
        return f"general rows mixed in: {len(self.examples)}{fewer}" + (f"; left out: {reasons}" if reasons else "")


def read_general(path: Path, wanted: int, seed: int, *, max_characters: int | None = None,
                 languages: Sequence[str] = ()) -> General:
    """Up to ``wanted`` rows of the file, drawn with ``seed`` among those that are short enough and in a language.

    Rows are alpaca's (``instruction``, ``input``, ``output``, ``system``, ``history``), ShareGPT's (``conversations``)
    or OpenAI's (``messages``). A chat is taken up to its last answer.

    Args:
        max_characters: the longest row taken, all its turns together.
        languages: ISO 639-1; a row too short to tell its language is taken.

    Raises:
        UserError: names the row and the field.
    """
    left_out: Counter[str] = Counter()
    rows = list(_examples(path, left_out))
    drawn: list[SFTExample] = []
    for example in Random(seed).sample(rows, len(rows)):
        if len(drawn) == wanted:
            break
        texts = [example.system, *(t.content for t in example.history), example.prompt, example.response]
        if max_characters is not None and sum(map(len, texts)) > max_characters:
            left_out["too_long"] += 1
        elif not fits_languages("\n".join(texts[1:])[:_LANGUAGE_FROM], languages):
            left_out["language"] += 1
        else:
            drawn.append(example)
    return General(drawn, wanted, left_out)


def _examples(path: Path, left_out: Counter[str]) -> Iterator[SFTExample]:
    for n, row in read_rows(path):
        where = f"{path}:{n}"
        if not is_conversation(row):
            yield _alpaca(row, where, n)
            continue
        talk = read_conversation(row, where)
        if isinstance(talk, str):
            left_out[talk] += 1
            continue
        turns = talk.turns[:len(talk.turns) // 2 * 2]  # a last question has no answer to learn
        if not turns:
            left_out["no_answer"] += 1
            continue
        *history, question, answer = turns
        yield SFTExample(record_id=content_id([t.content for t in turns]), prompt=question.content,
                         response=answer.content, history=tuple(history), system=talk.system,
                         provenance={"source": "replay", "line": n})


def _alpaca(row: dict[str, Any], where: str, n: int) -> SFTExample:
    for name in ("instruction", "output"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise UserError("expected a non-empty string", where=f"{where}: field '{name}'",
                            fix="general rows are alpaca's (instruction, input, output), ShareGPT's (conversations) "
                            "or OpenAI's (messages)")
    prompt = "\n".join(filter(None, (row["instruction"], str(row.get("input") or ""))))  # as LLaMA-Factory joins them
    history = read_history(row.get("history") or None, f"{where}: field 'history'", foreign=True, alternating=True)
    return SFTExample(record_id=content_id(prompt, row["output"]), prompt=prompt, response=row["output"],
                      history=history, system=str(row.get("system") or ""),
                      provenance={"source": "replay", "line": n})
