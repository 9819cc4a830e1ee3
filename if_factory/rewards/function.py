"""The reward function, in trl's protocol, and what is behind each reward."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from if_factory.chat.thinking import answer_text
from if_factory.constraints.base import load_plugin
from if_factory.constraints.generated import verify_many
from if_factory.errors import UserError
from if_factory.records import Outcome
from if_factory.rewards.checks import FAIL, LATER, NONE, PASS, How, Job, checked
from if_factory.rewards.truth import CRITERION, asked_of, read_truth
from if_factory.rewards.workers import Workers

if TYPE_CHECKING:
    from if_factory.rewards.judge import EndpointJudge

_logger = logging.getLogger(__name__)

Text = str | Sequence[Mapping[str, Any]]
"""A text, or a conversation as a list of ``{"role", "content"}``."""
Undecided = Literal["none", "group_mean"]
RewardFunction = Callable[..., list[float | None]]
_SAID = {Outcome.PASS: PASS, Outcome.FAIL: FAIL, Outcome.NO_VERDICT: NONE}
_MEANS = {PASS: True, FAIL: False, NONE: None}


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer.

    Attributes:
        reward: in [0, 1]; ``None`` where a verdict that it depends on cannot be had.
        satisfied: by constraint; ``None`` is no verdict. Empty where a checker hung or took its process down.
        useless: why the answer does not attempt the request (a reason of docs/usefulness.md); empty otherwise.
    """

    reward: float | None
    satisfied: tuple[bool | None, ...]
    useless: str = ""


class Rewarder:
    """Judges answers by ``ground_truth`` strings. Safe for threads; the arguments are those of ``reward_of``."""

    def __init__(self, *, how: How = "fraction", usefulness: bool = True, relevance: bool | str = False,
                 undecided: Undecided = "none", workers: int | None = None, seconds: float = 10.0,
                 plugins: Sequence[str | Path] = (),
                 judge: str | Mapping[str, Any] | EndpointJudge | None = None) -> None:
        for name, given, known in (("how", how, get_args(How)), ("undecided", undecided, get_args(Undecided))):
            if given not in known:
                raise UserError(f"is {given!r}", where=f"reward_of: {name}", fix="one of: " + ", ".join(known))
        self.how, self.usefulness, self.undecided = how, usefulness, undecided
        self._relevance = relevance
        for plugin in plugins:
            load_plugin(Path(plugin))
        number = int(bool(plugins)) if workers is None else workers
        self._workers = Workers(number, seconds, [Path(p).resolve() for p in plugins]) if number > 0 else None
        self._told: set[str] = set()
        if isinstance(judge, (str, Mapping)):
            from if_factory.rewards.judge import EndpointJudge, judge_options

            judge = EndpointJudge(judge_options(judge, "judge"))
        self._judge = judge

    @cached_property
    def _gate(self) -> Any:
        from if_factory.usefulness.gate import Gate
        from if_factory.usefulness.settings import UsefulnessSpec

        gate = Gate(UsefulnessSpec(relevance=self._relevance if isinstance(self._relevance, str) else "auto"))
        if "relevance" not in gate.deciders:
            raise UserError("relevance needs a sentence-transformers model", where="reward_of: relevance",
                            fix='pip install "if-factory[embed]", or name a model or its folder')
        return gate

    def judge(self, prompts: Sequence[Text], completions: Sequence[Text],
              ground_truth: Sequence[str]) -> list[Judged]:
        """One ``Judged`` per answer, in order.

        Raises:
            UserError: the lists differ in length, or a ``ground_truth`` is not one; names its position.
        """
        if not len(prompts) == len(completions) == len(ground_truth):
            raise UserError(f"{len(prompts)} prompts, {len(completions)} completions, {len(ground_truth)} strings",
                            where="ground_truth", fix="give one of each per answer")
        texts = [answer_text(_last(c, "assistant")) for c in completions]
        groups: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
        for i, (prompt, truth) in enumerate(zip(prompts, ground_truth, strict=True)):
            self._check(truth, i)
            *history, last = _asked(prompt)
            groups.setdefault((truth, last, tuple(history)), []).append(i)
        jobs = [Job(truth, prompt, history, tuple(texts[i] for i in places), self.usefulness, self.how,
                    self._judge is not None)
                for (truth, prompt, history), places in groups.items()]
        said = self._workers.run(jobs) if self._workers else [[checked(job, t) for t in job.texts] for job in jobs]
        said = _generated(jobs, said)
        if self._judge:
            said = _by_judge(self._judge, jobs, said)
        judged: list[Judged | None] = [None] * len(texts)
        for places, found in zip(groups.values(), said, strict=True):
            for i, one in zip(places, found, strict=True):
                judged[i] = _judged(one, self.how)
        found_all = [j for j in judged if j is not None]
        assert len(found_all) == len(texts)
        if self.usefulness and self._relevance:
            self._by_relevance(found_all, texts, groups)
        if self.undecided == "group_mean":
            _fill(found_all, list(groups.values()))
        return found_all

    def _check(self, truth: Any, place: int) -> None:
        """Read once per string; say once which constraints nothing here can decide."""
        if not isinstance(truth, str):
            raise UserError(f"expected a string, found {type(truth).__name__}", where=f"ground_truth[{place}]",
                            fix="the column ground_truth holds one JSON string per row")
        try:
            read = read_truth(truth)
        except UserError as e:
            raise UserError(e.problem, where=f"ground_truth[{place}]: {e.where}", fix=e.fix) from None
        for name in read.undecidable:
            if name not in self._told and not (self._judge and name == CRITERION):
                self._told.add(name)
                _logger.warning("no checker for the constraint %r: answers to its prompts have no reward (None)", name)

    def _by_relevance(self, judged: list[Judged], texts: Sequence[str],
                      groups: Mapping[tuple[str, str, tuple[str, ...]], Sequence[int]]) -> None:
        """What the rules let through, and what would earn something, must be about its request."""
        from if_factory.usefulness.gate import Item

        keys = {i: key for key, places in groups.items() for i in places}
        left = [i for i, j in enumerate(judged) if not j.useless and j.reward != 0.0]
        found = self._gate.decide([Item(asked_of(*keys[i]), texts[i]) for i in left])
        for i, usefulness in zip(left, found, strict=True):
            if usefulness.answers is False:
                judged[i] = Judged(0.0, judged[i].satisfied, usefulness.reason)

    def close(self) -> None:
        """End the worker processes."""
        if self._workers:
            self._workers.close()


def reward_of(*, how: How = "fraction", usefulness: bool = True, relevance: bool | str = False,
              undecided: Undecided = "none", workers: int | None = None, seconds: float = 10.0,
              plugins: Sequence[str | Path] = (),
              judge: str | Mapping[str, Any] | None = None) -> RewardFunction:
    """A reward function ``f(prompts, completions, ground_truth, **columns) -> list[float | None]``.

    Args:
        how: ``fraction`` of the constraints that hold, or 1.0 where ``all`` hold, else 0.0.
        usefulness: an answer that does not attempt the request earns 0.0, by the rules of docs/usefulness.md.
        relevance: also by embedding: ``True`` for the packaged model, or a model's name or folder.
        undecided: what an answer gets for which a verdict cannot be had: ``none`` is ``None`` (trl leaves it out of
            a sum over several reward functions; of one alone it makes 0); ``group_mean`` is the mean of the other
            answers to the same prompt in this call, which gives no advantage; ``None`` where there are none.
        workers: processes that run checkers. 0, the default, runs them in this process: they take about 0.1 ms each,
            and processes save no time (benchmarks/rewards.py). With ``plugins`` the default is 1, so that a checker
            of yours that hangs or takes its process down costs its own answer only.
        seconds: wall clock in a worker for the answers to one prompt; where it passes, each of them is tried alone.
        plugins: files of your own constraint types.
        judge: the URL of an OpenAI-compatible endpoint, or a mapping of ``judge.JudgeOptions``, for constraints that
            only a judge decides. An answer on which it gives no verdict is one without a verdict.

    Raises:
        UserError: an option that there is not; when called, see ``Rewarder.judge``.
    """
    rewarder = Rewarder(how=how, usefulness=usefulness, relevance=relevance, undecided=undecided, workers=workers,
                        seconds=seconds, plugins=plugins, judge=judge)

    def if_reward(prompts: Sequence[Text], completions: Sequence[Text], ground_truth: Sequence[str],
                  **columns: Any) -> list[float | None]:
        return [judged.reward for judged in rewarder.judge(prompts, completions, ground_truth)]

    if_reward.rewarder = rewarder  # type: ignore[attr-defined]
    return if_reward


def reward(prompts: Sequence[Text], completions: Sequence[Text], ground_truth: Sequence[str],
           **columns: Any) -> list[float | None]:
    """``reward_of()``: the fraction of the constraints that hold, 0 for what does not attempt the request.

    Args:
        prompts: texts, or conversations as lists of messages; so are ``completions``.
        ground_truth: one JSON string per answer (``truth.read_truth``).
        columns: whatever else the trainer passes; not looked at.

    Returns:
        Numbers in [0, 1], and ``None`` where a verdict cannot be had.

    Raises:
        UserError: see ``Rewarder.judge``.
    """
    global _default
    if _default is None:
        _default = Rewarder()
    return [judged.reward for judged in _default.judge(prompts, completions, ground_truth)]


_default: Rewarder | None = None


# ---------------------------------------------------------------- texts


def _last(given: Text, role: str) -> str:
    if isinstance(given, str):
        return given
    return next((content(m) for m in reversed(given) if m.get("role", role) == role), "")


def content(message: Mapping[str, Any]) -> str:
    """The text of a message; of one in parts, its texts joined."""
    said = message.get("content", "")
    if isinstance(said, str):
        return said
    parts = said if isinstance(said, list) else []
    return "".join(str(p.get("text", "")) for p in parts if isinstance(p, dict))


def _asked(prompt: Text) -> list[str]:
    """The user turns, oldest first; at least one."""
    if isinstance(prompt, str):
        return [prompt]
    return [content(m) for m in prompt if m.get("role") == "user"] or [""]


# ---------------------------------------------------------------- verdicts to rewards


def _generated(jobs: Sequence[Job], said: Sequence[Sequence[tuple[str, str] | None]]
               ) -> list[list[tuple[str, str] | None]]:
    """The verdicts of generated code filled in: each function runs once over all answers to its prompt."""
    found = [list(each) for each in said]
    work = []
    for j, job in enumerate(jobs):
        places = [i for i, one in enumerate(found[j]) if one and LATER in one[0] and not one[1]]
        constraints = read_truth(job.truth).constraints
        work += [(j, places, n, c) for n, c in enumerate(constraints) if c.kind == "generated_code" and places]
    if work:
        with ThreadPoolExecutor(2, thread_name_prefix="rewards") as threads:
            verdicts = list(threads.map(lambda w: verify_many([jobs[w[0]].texts[i] for i in w[1]], w[3]), work))
        for (j, places, n, _), column in zip(work, verdicts, strict=True):
            for i, verdict in zip(places, column, strict=True):
                outcomes, useless = found[j][i] or ("", "")
                found[j][i] = (outcomes[:n] + _SAID[verdict.outcome] + outcomes[n + 1:], useless)
    return found


def _by_judge(judge: EndpointJudge, jobs: Sequence[Job], said: Sequence[Sequence[tuple[str, str] | None]]
              ) -> list[list[tuple[str, str] | None]]:
    """The judge's verdicts filled in, where code and rules have not decided the reward already."""
    from if_factory.rewards.judge import Item

    found = [list(each) for each in said]
    work = []
    for j, job in enumerate(jobs):
        truth = read_truth(job.truth)
        places = {n: c for n, c in enumerate(truth.counted(judge=True)) if c.kind == "judge"}
        work += [(j, i, places, one[0]) for i, one in enumerate(found[j])
                 if places and one and not one[1] and not (job.how == "all" and FAIL in one[0])]
    items = [Item(read_truth(jobs[j].truth).prompt or jobs[j].prompt, jobs[j].texts[i], list(places.values()))
             for j, i, places, _ in work]
    for (j, i, places, outcomes), verdicts in zip(work, judge.holds(items), strict=True):
        decided = list(outcomes)
        for n, holds in zip(places, verdicts, strict=True):
            decided[n] = NONE if holds is None else PASS if holds else FAIL
        found[j][i] = "".join(decided), ""
    return found


def _judged(found: tuple[str, str] | None, how: How) -> Judged:
    if found is None:
        return Judged(None, ())
    outcomes, useless = found
    satisfied = tuple(_MEANS.get(o) for o in outcomes)
    if useless or (how == "all" and FAIL in outcomes):
        return Judged(0.0, satisfied, useless)
    if NONE in outcomes:
        return Judged(None, satisfied)
    return Judged(1.0 if how == "all" else outcomes.count(PASS) / len(outcomes), satisfied)


def _fill(judged: list[Judged], groups: Sequence[Sequence[int]]) -> None:
    for places in groups:
        known = [r for i in places if (r := judged[i].reward) is not None]
        for i in places:
            if known and judged[i].reward is None:
                judged[i] = Judged(sum(known) / len(known), judged[i].satisfied)
