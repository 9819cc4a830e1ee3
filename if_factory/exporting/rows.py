"""Checked examples as rows, alpaca, sharegpt, trl or v1, kept in a temporary file as the lines that will be written."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

from if_factory.errors import UserError
from if_factory.exporting.dataset_info import CORRUPTED
from if_factory.exporting.rules import TrainingStage
from if_factory.exporting.trl import trl_row
from if_factory.exporting.v1 import v1_row
from if_factory.files import TemporaryLines, dump_json
from if_factory.records import Example, KTOExample, PreferenceExample, SFTExample, TripleExample

Format = Literal["alpaca", "sharegpt", "trl", "v1"]
UNREGISTERED = ("trl", "v1")  # formats that dataset_info.json is not for
_KINDS: dict[type[Example], TrainingStage] = {SFTExample: "sft", PreferenceExample: "dpo", KTOExample: "kto",
                                              TripleExample: "iorpo"}
_NUMBERED = '{"row": 0, '


class Rows:
    """The rows of one dataset, each serialised once; memory holds a few numbers for each.

    Args:
        folder: on whose disk the temporary file is; ``None`` is the system's folder for temporary files.
        every_answer: those of the history were verified too. ``trl`` and ``v1`` rows then train them; in the other
            formats the curriculum decides (``mask_history``).
    """

    def __init__(self, fmt: Format, folder: Path | None = None, *, every_answer: bool = False) -> None:
        self.format = fmt
        self._make = partial(_WHOLE[fmt], every_answer=every_answer) if fmt in _WHOLE else _MAKERS[fmt]
        self.difficulties = array("d")
        self.rates: list[float | None] = []  # none as long as no row has one
        self._lines = TemporaryLines(folder)  # each row's two lines, one after the other
        self._kinds: set[type[Example]] = set()
        self._answers = array("Q")
        self._histories = bytearray()

    def append(self, example: Example, rate: float | None = None) -> None:
        """File an example; ``rate`` is the pass rate of its prompt, where it was measured.

        Raises:
            UserError: the format cannot hold it, or the disk is full.
        """
        if rate is not None and not self.rates:
            self.rates = [None] * len(self)
        if rate is not None or self.rates:
            self.rates.append(rate)
        row, provenance = dump_json(self._make(example)), dump_json(provenance_row(example))
        self._lines.append(f"{row}\n{provenance.removeprefix(_NUMBERED)}\n".encode())
        self._kinds.add(type(example))
        self.difficulties.append(example.difficulty)
        self._histories.append(bool(example.history))
        if isinstance(example, KTOExample):
            self._answers.append(int.from_bytes(blake2b(_bytes(example.response), digest_size=8).digest(), "big"))

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def kind(self) -> TrainingStage:
        """The stage the rows are for. Raises ``ValueError`` if they are mixed."""
        if len(self._kinds) != 1:
            raise ValueError(f"one dataset holds one kind of example, not {sorted(t.__name__ for t in self._kinds)}")
        return _KINDS[next(iter(self._kinds))]

    def lines(self, place: int, row: int = 0) -> tuple[bytes, bytes]:
        """The row at a place (from 0) as a line of the data file, and its line of the sidecar, where it is number
        ``row``."""
        data, _, provenance = self._lines[place].partition(b"\n")
        return data + b"\n", b'{"row": %d, ' % row + provenance

    def record_ids(self, places: Sequence[int]) -> Iterator[str]:
        return (json.loads(self.lines(place)[1])["record_id"] for place in places)

    def answers(self, places: Sequence[int]) -> array[int]:
        """A hash of each KTO row's answer: equal for equal answers."""
        return array("Q", map(self._answers.__getitem__, places))

    def has_history(self, place: int) -> bool:
        return bool(self._histories[place])


def alpaca_row(e: Example) -> dict[str, Any]:
    """``instruction, input, system, history`` and ``output`` | ``chosen, rejected`` | ``output, label`` |
    ``output, instruction_corrupted``."""
    return {"instruction": e.prompt, "input": "", **_answer(e), "system": e.system, "history": _pairs(e)}


def sharegpt_row(e: Example) -> dict[str, Any]:
    """``conversations, system`` and, for preferences, ``chosen, rejected`` as ``{from, value}``; KTO ``label``;
    I-ORPO ``instruction_corrupted``, a string that stands for the last user turn.

    SFT, KTO and I-ORPO conversations end with the answer, preference conversations with the prompt.
    """
    talk = [_turn("human" if t.role == "user" else "gpt", t.content) for t in e.history]
    talk.append(_turn("human", e.prompt))
    row: dict[str, Any] = {"conversations": talk}
    if isinstance(e, PreferenceExample):
        row |= {"chosen": _turn("gpt", e.chosen), "rejected": _turn("gpt", e.rejected)}
    elif isinstance(e, SFTExample | KTOExample | TripleExample):
        talk.append(_turn("gpt", e.response))
        row |= {k: v for k, v in _answer(e).items() if k != "output"}
    return row | {"system": e.system}


_MAKERS: dict[str, Callable[[Example], dict[str, Any]]] = {"alpaca": alpaca_row, "sharegpt": sharegpt_row}
_WHOLE: dict[str, Callable[..., dict[str, Any]]] = {"trl": trl_row, "v1": v1_row}


def provenance_row(e: Example, row: int = 0) -> dict[str, Any]:
    """Of row number ``row``: identity, difficulty, constraints as data, and what the method recorded."""
    made = {"row": row, "record_id": e.record_id, "difficulty": e.difficulty,
            "constraints": [c.model_dump() for c in e.constraints]}
    if isinstance(e, PreferenceExample):
        made["violated_positions"] = list(e.violated)
    if isinstance(e, TripleExample):
        made["corrupted_positions"] = list(e.corrupted)
    return made | {k: v for k, v in e.provenance.items() if k not in made}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _turn(role: str, text: str) -> dict[str, str]:
    return {"from": role, "value": text}


def _pairs(e: Example) -> list[list[str]]:
    roles = [t.role for t in e.history]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise UserError("the history must alternate user and assistant and end with the assistant",
                        where=f"record {e.record_id}", fix="use sharegpt, or correct the seed's history")
    return [[q.content, a.content] for q, a in zip(e.history[::2], e.history[1::2], strict=True)]


def _answer(e: Example) -> dict[str, Any]:
    if isinstance(e, PreferenceExample):
        return {"chosen": e.chosen, "rejected": e.rejected}
    if isinstance(e, KTOExample):
        return {"output": e.response, "label": e.label}
    if isinstance(e, TripleExample):
        return {"output": e.response, CORRUPTED: e.prompt_rejected}
    assert isinstance(e, SFTExample)
    return {"output": e.response}
