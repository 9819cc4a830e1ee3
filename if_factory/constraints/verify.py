"""Deciding constraints on a response: strict or loose, each verdict with a reason."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

from if_factory.constraints.base import ConstraintType, get
from if_factory.verdicts import Constraint, Outcome, Verdict

Mode = Literal["strict", "loose"]
_warned: set[str] = set()  # types of the user's own whose checker raised: said once
_PASS, _FAIL = Verdict(Outcome.PASS), Outcome.FAIL


def verify(response: str, constraints: Sequence[Constraint], mode: Mode = "strict", *,
           ifeval_compat: bool = False, reasons: bool = True) -> tuple[Verdict, ...]:
    """One verdict per constraint, by position.

    ``loose`` is IFEval's: a constraint passes if it holds for the response or for one of seven variants
    without its first line, its last line, or asterisks. A checker that raises gives ``no_verdict``; so does a
    constraint that only a judge can decide. ``generated_code`` is decided in the sandbox, one fork per function
    (``generated.verify_many`` takes many responses at once). ``ifeval_compat`` reproduces the reference checkers
    where they are known to err (docs/constraints.md lists the cases). ``reasons=False`` leaves out why a check
    failed, which costs about as much as the check.

    Raises:
        UserError: an unknown constraint type, or generated code on a machine that cannot isolate it.
    """
    return tuple([_verdict(response, c, mode, ifeval_compat, reasons) for c in constraints])


def _verdict(response: str, constraint: Constraint, mode: Mode, compat: bool, reasons: bool) -> Verdict:
    if constraint.kind == "generated_code":
        return _generated(response, constraint, mode)
    if constraint.kind != "code":
        return Verdict(outcome=Outcome.NO_VERDICT, reason=f"decided by {constraint.kind}, not by a checker")
    kind = get(constraint.type)
    if not response or response.isspace():
        return Verdict(outcome=Outcome.FAIL, reason="empty response")
    try:
        check = kind.check_compat if compat else kind.check
        if mode == "strict":
            if check(response, constraint.kwargs):
                return _PASS
        elif any(check(text, constraint.kwargs) for text in loose_variants(response) if text.strip()):
            return _PASS
    except Exception as e:
        if kind.file and kind.type not in _warned:
            _warned.add(kind.type)
            warnings.warn(f"the checker of '{kind.type}' ({kind.file}) raised {type(e).__name__}: {e}; its verdicts "
                          "are missing", stacklevel=3)
        return Verdict(outcome=Outcome.NO_VERDICT, reason=f"checker raised {type(e).__name__}: {e}")
    return Verdict(_FAIL, _why(kind, response, constraint, compat) if reasons else "")


def _why(kind: ConstraintType, response: str, constraint: Constraint, compat: bool) -> str:
    try:
        return (kind.why_compat if compat else kind.why)(response, constraint.kwargs)
    except Exception as e:  # the reference decides texts that our own measures do not: its verdict stands
        return f"no reason can be given: {e}"


def _generated(response: str, constraint: Constraint, mode: Mode) -> Verdict:
    from if_factory.constraints.generated import verify_many  # starts no process until it is needed

    if not response.strip():
        return Verdict(outcome=Outcome.FAIL, reason="empty response")
    texts = [response] if mode == "strict" else [t for t in loose_variants(response) if t.strip()]
    found = verify_many(texts, constraint)
    return next((v for v in found if v.passed), found[0])


def loose_variants(response: str) -> list[str]:
    """IFEval's eight readings of a response (google-research, ``instruction_following_eval``, loose mode)."""
    lines = response.split("\n")
    cuts = [response, "\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip()]
    return cuts + [cut.replace("*", "") for cut in cuts]


