"""The data model: constraints, verdicts, candidates, records, and the examples that are emitted.

One record type goes from seed to emitted row and its fields are never renamed on the way. What may leave the
factory as a training example is decided in ``emission``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypedDict, Unpack

from pydantic import BaseModel, ConfigDict, Field

# Part of the data model; they stand apart so that checkers need no pydantic.
from if_factory.verdicts import Constraint as Constraint
from if_factory.verdicts import Outcome as Outcome
from if_factory.verdicts import Verdict as Verdict


class _Frozen(BaseModel):
    # Validators are built at first use: a run uses few of the models, and building all takes as long as 100 requests.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Usefulness(_Frozen):
    """Whether a response attempts its request.

    Attributes:
        answers: ``None`` where nobody decided (a judge's reply could not be read).
        reason: one of ``WHAT`` where ``answers`` is false; what kept a judge from deciding where it is ``None``.
        decided_by: who said so last, ``rules``, ``relevance`` or ``judge``.
        score: similarity of request and answer in [-1, 1]; ``None`` where relevance had no say.
        score_of: ``opening`` where the score is that of the answer's first words, which were enough to keep it.
        excused: it may be the worse side of a pair all the same (the recipe's ``rejected_attempts: false``).
    """

    answers: bool | None
    reason: str = ""
    decided_by: Literal["rules", "relevance", "judge"] = "rules"
    score: float | None = None
    score_of: Literal["opening"] | None = None
    excused: bool = False


class Candidate(_Frozen):
    """One response to a record's prompt, where it came from, and what was found out about it.

    ``source`` is the method's name for how it was made (``vanilla``, ``generation``, ``discrimination``...).
    ``verdicts[i]`` belongs to ``record.constraints[i]``. ``finish_reason`` is the server's: an answer cut by
    ``length`` has no end and is never something to learn from. ``usefulness`` says whether it attempts the
    request; ``None`` is not decided yet, and then emission has the rules decide.
    """

    text: str
    source: str
    model: str = ""
    finish_reason: str = "stop"
    verdicts: tuple[Verdict, ...] = ()
    usefulness: Usefulness | None = None

    @property
    def useful(self) -> bool:
        """Nobody has found that it does not attempt the request."""
        return self.usefulness is None or self.usefulness.answers is True

    @property
    def may_be_rejected(self) -> bool:
        """As far as usefulness goes, it may stand on the worse side of a pair."""
        return self.useful or (self.usefulness is not None and self.usefulness.excused)

    @property
    def verified(self) -> bool:
        """Every constraint was decided and every decision is a pass."""
        return all(v.passed for v in self.verdicts)

    @property
    def failed_positions(self) -> tuple[int, ...]:
        return tuple(i for i, v in enumerate(self.verdicts) if v.failed)


class Turn(_Frozen):
    role: Literal["system", "user", "assistant"]
    content: str


# Made once: `json.dumps` with settings of its own makes an encoder for every call.
canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str).encode
compact = json.JSONEncoder(separators=(",", ":")).encode  # keys in their order, no blanks


def content_id(*parts: Any) -> str:
    """A 16-hex-digit hash of JSON-able parts: the same content has the same id in every run."""
    return id_of_json(canonical(parts))


def id_of_json(text: str) -> str:
    """``content_id`` of the parts whose list is ``text`` in ``canonical`` JSON."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def content_id_of_list(texts: Iterable[str]) -> str:
    """``content_id`` of the list of these texts, without holding it."""
    found = hashlib.blake2b(b"[[", digest_size=8)
    for i, text in enumerate(texts):
        found.update(("," if i else "").encode() + json.dumps(text, ensure_ascii=True).encode())
    found.update(b"]]")
    return found.hexdigest()


class Extra(TypedDict, total=False):
    """The keys of ``Record.extra`` that this package writes. Set them with ``Record.with_extra``."""

    # inputs: texts (Suri, Humpback)
    text_source: str  # the file that the text came from
    title: str
    row: dict[str, Any]  # the other columns of the text's row
    # From Complex to Simple writes none
    # Step-by-Step Mastery
    missing: list[str]  # reasons why soft constraints could not be written
    k: int  # the step
    steps: int  # K, the number of steps of this seed
    new: str  # type of the constraint that step k added
    judgement: dict[str, Any]  # winner, by, reason, carried; orders and raw where the judge was asked
    # Humpback and Conifer
    form: str  # Humpback: "seed" or "text"; Conifer: "conversation" or "internal"
    # Humpback
    score: float | None  # mean rating, 1 to 5; AutoIF: the quality score of the answer
    scores: Sequence[float | None]  # each rating; AutoIF: quality score by candidate, None if unread
    unread: int  # ratings that could not be parsed
    # Conifer
    categories: dict[str, list[str]]  # category -> constraint items
    together: list[str]  # categories of which one answer can meet several items
    refused: list[str]  # reason and detail, of a level that the teacher did not word
    question: str  # the reframed instruction that all levels share
    level: int
    version: str  # instruction with format and number constraints, before the request to explain
    feedback: str  # on the first failing attempt; empty if it could not be parsed
    attempt: int  # position of that attempt among the candidates
    turn_of: str  # id of the record whose history this one is part of
    answer_of_another_level: bool  # a later turn of its conversation has the same answer
    # Suri
    removed_lines: dict[str, int]  # lines removed by cleaning, by reason
    piece: int  # position of the segment in its text
    main_instruction: str
    asked: list[str]  # constraints by back-translation, before corruption
    pairs: list[dict[str, Any]]  # constraints with their corrupted forms and verdicts (suri.constraints.Pair)
    dropped: dict[str, int]  # constraints dropped on the way, by reason
    told: dict[str, dict[str, int]]  # counts of dropped constraints and skipped draws, on one record per text
    x_w_is_new: bool  # no earlier triple of this text has the same x_w
    prompt_rejected: str  # x_l
    corrupted_positions: list[int]
    corruptions: list[dict[str, Any]]  # the corrupted form of each constraint
    corruption_verdicts: list[dict[str, Any]]  # the text's verdict under each
    labels: list[dict[str, str]]
    surrogate_of: str  # dataset that a KTO row stands in for
    # AutoIF
    origin: str  # "seed", "augmented" or "augmentation" (a call that becomes instructions)
    call: int  # number of the augmentation call
    round: int  # of augmentation, from 1; the seeds' is 1
    counterexamples: list[str]  # instructions that no function can check
    pair_level: str  # "query" or "instruction" (the bare instruction, with its test cases as answers)
    place: int  # position of the instruction in that call's answer
    cut: bool  # the answer was cut off inside this instruction
    verifiable: bool | None  # the seed row's own mark
    written: list[tuple[str, Any]]  # functions with their test cases
    unread_answers: dict[str, int]  # answers that could not be parsed, by reason
    unread_cases: int
    cases: Sequence[Any]  # test cases that survived cross-validation
    case_votes: dict[str, list[bool | str]]  # by their text, what each function that survived said
    back_translations: list[str]
    consistency: list[Any]  # relation of the instruction to each back-translation
    instructions: list[str]
    bare: bool  # the prompt is the instruction itself; its test cases are the answers
    votes: list[Any]  # by candidate and constraint: functions that accept, functions with a verdict
    functions_passed: Any  # votes on the response, or on the chosen side
    functions_passed_rejected: Any
    iteration: int  # of online DPO
    # DecIF
    number: int
    draw: int  # number of the request for domains
    examples: list[str]  # domains shown in that request
    domain: str
    request: str
    scenario: str
    pool: list[str]  # the list that the record will be given one item of; AutoIF: what the call may show
    wild: bool  # written without drawn constraints
    task: str  # the instruction as the teacher wrote it, before anything is appended
    unworded: list[str]  # types of soft constraints that the teacher never worded
    stated: list[str]  # by drawn constraint: how it got into the prompt (decif.weaving)
    criteria: dict[str, int]  # criteria that are statements, and whether a second question was needed: counted
    refined_because: list[str]
    unfounded: list[str]  # contradictions between demands that the request does not make
    task_before_refinement: str


class Record(_Frozen):
    """Everything known about one prompt, from seed to emission.

    ``prompt`` is exactly what is sent to a model and what is emitted as the training prompt; ``seed_prompt``
    is what the user supplied. ``history`` holds earlier user/assistant turns. ``difficulty`` is what the
    method calls hard (for *From Complex to Simple*, the number of constraints). ``extra`` holds the columns of
    the user's row that have no field here, and what the steps of a method leave for later steps: the keys of
    ``Extra``. Whatever is in it when a record is emitted is part of the row's provenance.
    """

    id: str
    parent: str | None = None
    method: str = ""
    seed_prompt: str
    prompt: str
    system: str = ""
    history: tuple[Turn, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    difficulty: float = 0
    extra: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def from_seed(cls, prompt: str, *, system: str = "", history: Sequence[Turn] = (), method: str = "",
                  extra: dict[str, Any] | None = None) -> Record:
        return cls(id=content_id(prompt, system, [t.model_dump() for t in history]), method=method,
                   seed_prompt=prompt, prompt=prompt, system=system, history=tuple(history), extra=extra or {})

    def child(self, prompt: str, constraints: Sequence[Constraint], difficulty: float) -> Record:
        """A new record made from this one: new prompt and constraints, no candidates yet."""
        key = content_id(self.id, prompt, [c.model_dump() for c in constraints])
        return self.model_copy(update={"id": key, "parent": self.id, "prompt": prompt, "candidates": (),
                                       "constraints": tuple(constraints), "difficulty": difficulty})

    def with_candidates(self, *candidates: Candidate) -> Record:
        return self.model_copy(update={"candidates": self.candidates + candidates})

    def with_extra(self, *, without: Sequence[str] = (), **extra: Unpack[Extra]) -> Record:
        """The record with these keys added to ``extra``, or replaced in it, and the keys ``without`` removed."""
        kept = {key: value for key, value in self.extra.items() if key not in without}
        return self.model_copy(update={"extra": {**kept, **extra}})

    def messages(self) -> list[dict[str, str]]:
        """The chat sent to a model: system, history, prompt."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return [*first, *({"role": t.role, "content": t.content} for t in self.history),
                {"role": "user", "content": self.prompt}]


# ---------------------------------------------------------------- what leaves the factory


class Refusal(_Frozen):
    """Why an example was not emitted; counted in the ledger under ``reason``.

    ``asked`` and ``text`` are there where the response does not attempt the request, to be shown.
    """

    reason: str
    asked: str = ""
    text: str = ""


class Example(_Frozen):
    """What every emitted row carries beside its texts. ``provenance`` goes to the sidecar file."""

    record_id: str
    prompt: str
    system: str = ""
    history: tuple[Turn, ...] = ()
    difficulty: float = 0
    constraints: tuple[Constraint, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)


class SFTExample(Example):
    response: str


class PreferenceExample(Example):
    """``violated`` names the positions of the constraints that ``rejected`` fails.

    It is empty only where ``rejected`` fails none and lost a recorded comparison: ``provenance["lost"]`` says why.
    """

    chosen: str
    rejected: str
    violated: tuple[int, ...]


class KTOExample(Example):
    response: str
    label: bool


class TripleExample(Example):
    """An I-ORPO triple (x_w, x_l, y): ``response`` follows ``prompt`` and does not follow ``prompt_rejected``.

    ``corrupted`` names the positions of the constraints that ``prompt_rejected`` holds in corrupted form.
    """

    response: str
    prompt_rejected: str
    corrupted: tuple[int, ...]
