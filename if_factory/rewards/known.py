"""Prompts that are known with their ``ground_truth``, and recognising one inside a text with a chat template's tokens.

LLaMA-Factory's reward servers are sent prompt and answer as one text, so the constraints must be found by the prompt.
White space is not compared: decoding a tokenised text may change it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from if_factory.chat.thinking import answer_text
from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.rewards.function import content
from if_factory.rewards.truth import read_truth

_KEY = 24  # characters by which long prompts are looked up
# What chat templates put between the last user turn and the answer: the end of the turn, then the assistant's mark.
_ANSWER_BEGINS = re.compile(
    r"\s*(?:(?:<\|im_end\|>|<\|eot_id\|>|<\|end\|>|<end_of_turn>|<turn\|>|<\|end_of_turn\|>|<｜end▁of▁sentence｜>|"
    r"<\|END_OF_TURN_TOKEN\|>|</s>|<\|user_end\|>)\s*)?"
    r"(?:<\|im_start\|>\s*assistant|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>|<\|assistant\|>|"
    r"<start_of_turn>\s*model|<\|turn>\s*model|<｜Assistant｜>|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>|"
    r"<\|start\|>\s*assistant|\[/INST\]|###\s*(?:Response|Assistant)\s*:|ASSISTANT\s*:|Assistant\s*:)[ \t]*\n*",
)


@dataclass(frozen=True, slots=True)
class Known:
    """A prompt of a data file: user turns, oldest first, all earlier turns, and the string that decides rewards."""

    turns: tuple[str, ...]
    users: tuple[str, ...]
    truth: str


class KnownPrompts:
    """Finds the prompt in a text.

    Args:
        after: the text that the chat template puts between prompt and answer; default: the marks of common ones.
    """

    def __init__(self, prompts: Sequence[Known], after: str | None = None) -> None:
        self._prompts = tuple(prompts)
        self._after = re.compile(re.escape(after)) if after else _ANSWER_BEGINS
        self._first: dict[str, list[int]] = {}
        self._short: list[int] = []
        self._squeezed = [tuple(_squeeze(turn)[0] for turn in known.turns) for known in self._prompts]
        self.exact: dict[str, Known] = {}
        for i, (known, turns) in enumerate(zip(self._prompts, self._squeezed, strict=True)):
            self.exact.setdefault(turns[-1], known)
            if len(turns[0]) < _KEY:
                self._short.append(i)
            else:
                self._first.setdefault(turns[0][:_KEY], []).append(i)

    def __len__(self) -> int:
        return len(self._prompts)

    def find(self, text: str) -> tuple[Known, str]:
        """The prompt that a text of prompt and answer begins with, and the answer.

        Of several, the one that begins first, and of those the one of which most is there: a prompt may be the
        beginning of another one, a turn of its history, or quoted in an answer.

        Raises:
            UserError: no known prompt is in the text, or it cannot be told where the answer begins.
        """
        plain, places = _squeeze(text)
        best: tuple[int, int, int, int] | None = None  # start, minus length, end, prompt
        for i, start in self._starts(plain):
            if best is not None and start > best[0]:
                continue
            end = start
            for turn in self._squeezed[i]:
                at = plain.find(turn, end)
                if at < 0:
                    break
                end = at + len(turn)
            else:
                found = (start, -sum(map(len, self._squeezed[i])), end, i)
                best = found if best is None else min(best, found)
        if best is None:
            raise UserError(f"no known prompt in the text {_shown(text)}", where="prompt",
                            fix="serve the file that the trainer's prompts come from; a prompt that cutoff_len cuts is "
                                "not recognised")
        rest = text[places[best[2] - 1] + 1:]
        mark = self._after.match(rest)
        if mark is None:
            raise UserError(f"cannot tell where the answer begins after the prompt: {_shown(rest)}", where="prompt",
                            fix="say what the chat template puts between prompt and answer with --after")
        return self._prompts[best[3]], rest[mark.end():]

    def _starts(self, plain: str) -> Iterator[tuple[int, int]]:
        """Prompts whose first turn may begin at a place of the text."""
        for at in range(len(plain) - _KEY + 1):
            for i in self._first.get(plain[at:at + _KEY], ()):
                if plain.startswith(self._squeezed[i][0], at):
                    yield i, at
        for i in self._short:
            if (at := plain.find(self._squeezed[i][0])) >= 0:
                yield i, at

    def of_prompt(self, prompt: str) -> Known:
        """The known prompt that a text is, or that it holds and ends with but for the template's marks.

        Raises:
            UserError: it is none.
        """
        known = self.exact.get(_squeeze(prompt)[0])
        if known is not None:
            return known
        try:
            known, rest = self.find(prompt)
        except UserError as e:
            raise UserError(f"no known prompt: {_shown(prompt)}", where="prompt", fix=e.fix) from None
        if answer_text(rest).strip():  # a template may open the reasoning
            raise UserError(f"no known prompt: {_shown(prompt)}", where="prompt",
                            fix="serve the file that the trainer's prompts come from")
        return known


def _squeeze(text: str) -> tuple[str, list[int]]:
    """The text without white space, and where each character of it was."""
    places = [i for i, c in enumerate(text) if not c.isspace()]
    return "".join(text[i] for i in places), places


def _shown(text: str) -> str:
    return repr(text if len(text) <= 160 else f"{text[:80]}...{text[-80:]}")


# ---------------------------------------------------------------- reading a data file


def read_known(path: Path) -> list[Known]:
    """The prompts of a file of ``export --rl``, in any of its formats, or of rows with ``ground_truth``.

    Raises:
        UserError: names the row and the field; also for a file without a prompt.
    """
    found = []
    for n, row in read_rows(path):
        where = f"{path}:{n}"
        turns = _turns(row)
        users = tuple(text for role, text in turns if role == "user" and text.strip())
        if not users or turns[-1][0] != "user" or not turns[-1][1].strip():
            raise UserError("no prompt: expected messages that end with the user's, or a text", where=where,
                            fix="give a file that `if-factory export --rl` wrote")
        truth = _truth(row)
        if truth is None:
            raise UserError("missing", where=f"{where}: field 'ground_truth'",
                            fix="give a file that `if-factory export --rl` wrote")
        try:
            read_truth(truth)
        except UserError as e:
            raise UserError(e.problem, where=f"{where}: {e.where}", fix=e.fix) from None
        found.append(Known(tuple(t for role, t in turns if role != "system" and t.strip()), users, truth))
    if not found:
        raise UserError("the file has no rows", where=str(path))
    return found


def _turns(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    given = next((row[name] for name in ("prompt", "messages", "input") if isinstance(row.get(name), list)), None)
    if given is not None:
        return [(str(m.get("role")), content(m)) for m in given if isinstance(m, dict)]
    if isinstance(row.get("instruction"), str):
        pairs = [p for p in row.get("history") or [] if isinstance(p, list) and len(p) == 2]
        said = [(role, str(text)) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
        extra = row.get("input")
        return [*said, ("user", f"{row['instruction']}\n{extra}" if extra else row["instruction"])]
    text = next((row[name] for name in ("prompt", "input") if isinstance(row.get(name), str)), "")
    return [("user", text)]


def _truth(row: Mapping[str, Any]) -> str | None:
    rule = row.get("reward_model")
    found = (row.get("ground_truth"), rule.get("ground_truth") if isinstance(rule, dict) else None, row.get("label"))
    text = next((t for t in found if isinstance(t, str)), None)
    if text is None and "instruction_id_list" in row:  # a row of IFEval
        kept = ("instruction_id_list", "kwargs", "constraints", "prompt")
        text = json.dumps({key: row[key] for key in kept if key in row})
    return text
