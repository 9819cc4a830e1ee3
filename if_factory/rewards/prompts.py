"""The prompts of a run as reinforcement learning takes them: each once, with what decides its reward.

A constraint that only a judge can decide is counted in the row, and is part of the reward only where the trainer has a
judge. A prompt without any other has no verified reward and is left out, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from if_factory.records import Candidate, Constraint, Example, Record
from if_factory.rewards.difficulty import Rate, prompt_id
from if_factory.rewards.solved import solved_by_code
from if_factory.rewards.truth import ground_truth_of
from if_factory.usefulness.gate import Gate
from if_factory.usefulness.settings import UsefulnessSpec


class PromptExample(Example):
    """A prompt without an answer.

    Attributes:
        constraints: those that decide the reward.
        ground_truth: the string of them.
        undecided: how many further constraints only a judge can decide.
        pass_rate: the share of the student's answers that satisfy them all and are useful; ``None``: not measured.
            Measured by ``difficulty.py``, or of the answers that the run has.
        measured: how many answers that is of.
    """

    ground_truth: str
    undecided: int = 0
    pass_rate: float | None = None
    measured: int = 0

    def messages(self) -> list[dict[str, str]]:
        """The conversation so far, as ``{"role", "content"}``: system prompt, history, prompt."""
        said = [{"role": "system", "content": self.system}] if self.system else []
        return [*said, *(t.model_dump() for t in self.history), {"role": "user", "content": self.prompt}]


@dataclass
class Prompts:
    """The prompts, in the order of the records, and how many records gave none, by reason."""

    examples: list[PromptExample] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def prompts_of(records: Iterable[Record], rates: Mapping[str, Rate] | None = None) -> Prompts:
    """One example per distinct conversation: the first record's, measured on the student's answers to all of them.

    Args:
        rates: what was measured, by ``prompt_id``; it stands in place of what the run's own answers say.
    """
    found = Prompts()
    kept: dict[tuple[Any, ...], tuple[Record, tuple[Constraint, ...], list[str]]] = {}
    for record in records:
        verifiable = tuple(c for c in record.constraints if c.kind != "judge")
        if not verifiable:
            found.refused["no_constraint_that_code_decides"] += 1
            continue
        key = (record.system, record.history, record.prompt)
        if key in kept:
            found.refused["same_prompt"] += 1
        _, constraints, answers = kept.setdefault(key, (record, verifiable, []))
        if constraints == verifiable:
            answers += [c.text for c in record.candidates if c.model == "student"]
    gate = Gate(UsefulnessSpec(relevance="off"))  # the rules: what a reward sees by default
    for key, (record, constraints, answers) in kept.items():
        truth = ground_truth_of(constraints, record.prompt, [c for c in record.constraints if c.kind == "judge"])
        measured = (rates or {}).get(prompt_id(*key))
        rate, number = ((measured.by_code, measured.decided_by_code) if measured and measured.decided_by_code
                        else _of_the_run(gate, record, constraints, answers))
        found.examples.append(PromptExample(
            record_id=record.id, prompt=record.prompt, system=record.system, history=record.history,
            difficulty=record.difficulty, constraints=constraints, ground_truth=truth,
            undecided=len(record.constraints) - len(constraints), measured=number, pass_rate=rate,
            provenance={"method": record.method, "seed_prompt": record.seed_prompt}))
    return found


def _of_the_run(gate: Gate, record: Record, constraints: Sequence[Constraint], answers: Sequence[str]
                ) -> tuple[float | None, int]:
    """The pass rate of the student's answers in the run, and of how many it is."""
    asked = record.model_copy(update={"constraints": tuple(constraints), "candidates": tuple(
        Candidate(text=text, source="student") for text in answers)})
    known = [s for s in solved_by_code(gate, [asked])[0] if s is not None]
    return (round(sum(known) / len(known), 4) if known else None), len(known)


def learnable(examples: Sequence[PromptExample], low: float, high: float) -> tuple[list[PromptExample], int]:
    """Prompts whose measured pass rate lies strictly between ``low`` and ``high``, or was not measured; and how many
    others there were. All answers right or all wrong teach nothing: no answer is better than another."""
    kept = [e for e in examples if e.pass_rate is None or low < e.pass_rate < high]
    return kept, len(examples) - len(kept)
