"""Our reward function in the protocols of trainers that are not trl. A reward file of two lines imports one of these.

These trainers take numbers only. An answer without a verdict gets the mean of the other answers to its prompt where a
call has them (EasyR1, ms-swift); else 0.0 with ``undecided`` 1.0 beside it, so that the trainer's log shows how many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from if_factory.errors import UserError
from if_factory.rewards.function import Judged, Rewarder


def verl(**options: Any) -> Callable[..., dict[str, float]]:
    """verl's ``compute_score(data_source, solution_str, ground_truth, extra_info, ...) -> {"score": ...}``.

    Args:
        options: those of ``reward_of``.
    """
    rewarder = Rewarder(**options)

    def compute_score(data_source: Any = None, solution_str: str = "", ground_truth: str = "", extra_info: Any = None,
                      **more: Any) -> dict[str, float]:
        (judged,) = rewarder.judge([""], [solution_str], [ground_truth])
        return {"score": judged.reward or 0.0, **_parts(judged)}

    return compute_score


def easyr1(**options: Any) -> Callable[..., list[dict[str, float]]]:
    """EasyR1's batch form: ``compute_score([{"response", "ground_truth", ...}, ...]) -> [{"overall": ...}, ...]``.

    Args:
        options: those of ``reward_of``.
    """
    rewarder = Rewarder(**{"undecided": "group_mean", **options})

    def compute_score(reward_inputs: Sequence[Mapping[str, Any]], **more: Any) -> list[dict[str, float]]:
        found = rewarder.judge([""] * len(reward_inputs), [str(r["response"]) for r in reward_inputs],
                               [r["ground_truth"] for r in reward_inputs])
        return [{"overall": judged.reward or 0.0, **_parts(judged)} for judged in found]

    return compute_score


def ms_swift(base: type, **options: Any) -> type:
    """A subclass of ms-swift's ``ORM``, for its table ``orms``; called with ``completions`` and the row's columns.

    Args:
        base: ``swift.rewards.ORM``.
        options: those of ``reward_of``.
    """
    rewarder = Rewarder(**{"undecided": "group_mean", **options})

    class IfFactory(base):  # type: ignore[misc]
        """The fraction of an answer's constraints that hold."""

        def __call__(self, completions: Sequence[str], ground_truth: Sequence[str] = (),
                     **columns: Any) -> list[float | None]:
            if len(ground_truth) != len(completions):
                raise UserError("the rows have no column 'ground_truth'", where="ms-swift",
                                fix="train on the dataset that `if-factory export --rl ms-swift` wrote")
            found = rewarder.judge([""] * len(completions), completions, ground_truth)
            return [judged.reward for judged in found]

    return IfFactory


def openrlhf(**options: Any) -> Callable[..., dict[str, Any]]:
    """OpenRLHF's ``reward_func(queries, prompts, labels) -> {"rewards", "scores", "extra_logs"}``, of tensors [N].

    A query is its prompt and the answer, as text with special tokens.

    Args:
        options: those of ``reward_of``.
    """
    rewarder = Rewarder(**options)

    def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[str],
                    **more: Any) -> dict[str, Any]:
        import torch

        answers = [answer_in(query, prompt) for query, prompt in zip(queries, prompts, strict=True)]
        found = rewarder.judge([""] * len(answers), answers, labels)
        rewards = torch.tensor([judged.reward or 0.0 for judged in found])
        return {"rewards": rewards, "scores": rewards,
                "extra_logs": {"undecided": torch.tensor([_parts(j)["undecided"] for j in found]),
                               "useless": torch.tensor([_parts(j)["useless"] for j in found])}}

    return reward_func


def answer_in(query: str, prompt: str) -> str:
    """What follows the prompt in a text that holds both; a tokenizer may have put a token before it.

    Raises:
        UserError: the prompt is not in the text.
    """
    at = query.find(prompt)
    if at < 0 or not prompt:
        raise UserError(f"a query does not hold its prompt: {query[:80]!r}", where="reward",
                        fix="give the prompt as it was put to the model, chat template included")
    return query[at + len(prompt):]


def _parts(judged: Judged) -> dict[str, float]:
    """What a trainer may log beside the reward."""
    return {"undecided": float(judged.reward is None), "useless": float(bool(judged.useless)),
            "all_satisfied": float(bool(judged.satisfied) and all(s is True for s in judged.satisfied))}
