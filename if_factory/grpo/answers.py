"""``answers.jsonl``: what the model wrote during a run, and what each answer earned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from if_factory.rewards.function import Judged

FILE = "answers.jsonl"


class AnswerLog:
    """Appends one row per answer; a run that is continued goes on in the same file.

    Args:
        folder: the run's output folder.
        process: each process but the first writes a file of its own.
    """

    def __init__(self, folder: Path, process: int = 0) -> None:
        self.path = folder / (f"answers.{process}.jsonl" if process else FILE)

    def add(self, step: int, mode: str, turns: Sequence[Sequence[dict[str, str]]], answers: Sequence[str],
            judged: Sequence[Judged]) -> None:
        """The answers of one generation.

        Args:
            step: updates made before it; ``mode``: ``train`` or ``eval``.
            turns: the user turns of each prompt.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as f:
            for asked, answer, j in zip(turns, answers, judged, strict=True):
                row: dict[str, Any] = {"step": step, "mode": mode, "prompt": asked[-1]["content"], "answer": answer,
                                       "reward": j.reward, "satisfied": j.satisfied, "useless": j.useless}
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
