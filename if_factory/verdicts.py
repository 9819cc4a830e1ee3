"""Constraints and verdicts: what the checkers take and give.

Plain dataclasses, so that checking imports no pydantic, which takes longer than a thousand checks. Models of
``records`` hold them as fields like any other; ``model_validate`` and ``model_dump`` are pydantic's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

if TYPE_CHECKING:
    from pydantic import TypeAdapter

ConstraintKind = Literal["code", "generated_code", "judge"]


class Outcome(StrEnum):
    """``NO_VERDICT`` is neither: a checker that crashed makes no answer good and no answer bad."""

    PASS = "pass"
    FAIL = "fail"
    NO_VERDICT = "no_verdict"


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        from pydantic import TypeAdapter

        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


@dataclass(frozen=True, slots=True)
class _Checked:
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    @classmethod
    def model_validate(cls, value: Any) -> Self:
        """One read from a file or a reply.

        Raises:
            pydantic.ValidationError: a field is missing, unknown or of the wrong kind.
        """
        found: Self = _adapter(cls).validate_python(value)
        return found

    def model_dump(self, *, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
        """The fields in their order; with ``mode="json"`` only what JSON has."""
        found: dict[str, Any] = _adapter(type(self)).dump_python(self, mode=mode)
        return found


@dataclass(frozen=True, slots=True)
class Constraint(_Checked):
    """One thing a response must satisfy.

    ``type`` is IFEval's instruction id where IFEval has one (``keywords:existence``), so rows interoperate
    with IFEval, IFBench and Tulu data. ``kind`` says who decides: a checker, generated code, or a judge.
    """

    type: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    kind: ConstraintKind = "code"


@dataclass(frozen=True, slots=True)
class Verdict(_Checked):
    """The outcome of one constraint on one response. Verdicts are aligned with constraints by position."""

    outcome: Outcome
    reason: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASS

    @property
    def failed(self) -> bool:
        return self.outcome is Outcome.FAIL


VERDICT_OF = {True: Verdict(outcome=Outcome.PASS), False: Verdict(outcome=Outcome.FAIL)}  # of a function's answer
