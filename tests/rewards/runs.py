"""A finished run folder made by hand: for tests of what is exported from one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from if_factory.chat.budget import Usage
from if_factory.pipeline.ledger import Ledger
from if_factory.pipeline.result import RunResult
from if_factory.pipeline.rundir import RunDir
from if_factory.recipe import parse
from if_factory.records import Candidate, Constraint, Record, Turn

NO_COMMA = Constraint(type="punctuation:no_comma", text="Do not use commas")
LOWER = Constraint(type="change_case:english_lowercase", text="Write in small letters")
DIGITS = Constraint(type="digits:none", text="Use no digits")
JUDGED = Constraint(type="soft:tone", text="Be warm", kind="judge")
VOTED = Constraint(type="generated:function", kind="generated_code", text="Mention the sea", kwargs={
    "functions": ["def evaluate(response):\n    return 'sea' in response.lower()"], "threshold": 0.5})
ANSWERS = ("the sea is wide and full of fish.", "The sea, in short, is wide.",
           "i am sorry but i cannot help with that.")


def record(prompt: str, *constraints: Constraint, answers: Sequence[str] = (), system: str = "",
           history: Sequence[Turn] = (), difficulty: float | None = None) -> Record:
    made = Record.from_seed(prompt, system=system, history=history, method="complex_to_simple")
    made = made.child(" ".join([prompt, *(f"{c.text}." for c in constraints)]), constraints,
                      len(constraints) if difficulty is None else difficulty)
    return made.with_candidates(*(Candidate(text=a, source="vanilla", model="student") for a in answers))


def write_run(folder: Path, records: Sequence[Record], plugins: Sequence[Path] = ()) -> Path:
    recipe = parse({"name": "demo", "method": "complex_to_simple", "models": {"student": {"endpoint": "http://localhost:1/v1"}},
                    "constraints": {"plugins": list(map(str, plugins))}})
    with RunDir(folder) as run:
        run.claim(recipe.resolved())
        run.write(RunResult(records, [], Ledger([]), True), Usage())
    return folder


def some_records() -> list[Record]:
    past = (Turn(role="user", content="Hello."), Turn(role="assistant", content="Hello! How are you?"))
    return [
        record("Describe the sea.", NO_COMMA, LOWER, answers=ANSWERS),
        record("Describe the shore.", JUDGED),
        record("Describe a harbour.", NO_COMMA, JUDGED, system="Be brief."),
        record("And the tide?", VOTED, history=past),
        record("Describe the sea.", NO_COMMA, LOWER, answers=ANSWERS[:1]),
        record("Describe a ship.", NO_COMMA, DIGITS, VOTED),
    ]
