"""What `check` found in a dataset, and the settings of a training YAML that decide which rows arrive."""

from __future__ import annotations

from dataclasses import dataclass, field

from if_factory.exporting.entry import Problem
from if_factory.exporting.loading import PIECE
from if_factory.exporting.rules import Effect, TrainingStage

IORPO_NOTE = ("stage iorpo comes with if-factory[train]; stock LLaMA-Factory trains the responses on the true "
              "instructions in stage sft and refuses the dataset in stage dpo")
PROMPTS_NOTE = "prompts for stages that generate their own answers (ppo, grpo); other stages drop every row"
KTO_BATCH = 1000  # preprocessing_batch_size: KTO pairs each row with the answer of the row before it in its batch


@dataclass(slots=True)
class CheckReport:
    """``accepted`` of ``rows`` will be trained in ``stage``; 0 if anything ``fails``.

    ``cut_lines`` say what ``cutoff_len`` cuts, where it was asked for; ``cut``: of an answer or a prompt's end.
    ``prompts``: the rows have no answers, and need none. ``unread``: the file could not be looked at here (a library
    is missing), which says nothing about it.
    """

    name: str
    stage: TrainingStage
    rows: int = 0
    accepted: int = 0
    problems: list[Problem] = field(default_factory=list)
    unread: bool = False
    cut_lines: list[str] = field(default_factory=list)
    cut: bool = False
    prompts: bool = False

    @property
    def note(self) -> str:
        """What to know about the stage itself; empty for LLaMA-Factory's own stages."""
        return PROMPTS_NOTE if self.prompts else IORPO_NOTE if self.stage == "iorpo" else ""

    @property
    def ok(self) -> bool:
        """Every row is trained. Rows that are kept with a remark do not change that, nor does an unread file."""
        return self.unread or (self.rows > 0 and self.accepted == self.rows and not self.fails and not self.cut)

    @property
    def fails(self) -> list[Problem]:
        return [p for p in self.problems if p.effect == "fails"]

    def add(self, row: int | None, where: str, reason: str, effect: Effect) -> None:
        self.problems.append(Problem(row, where, reason, effect))


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """What of a training YAML decides which rows arrive: ``preprocessing_num_workers``,
    ``preprocessing_batch_size``, ``max_samples`` and ``template``. ``piece`` is the loader's own (bytes)."""

    workers: int = 1
    batch: int = KTO_BATCH
    max_samples: int | None = None
    template: str | None = None
    piece: int = PIECE
