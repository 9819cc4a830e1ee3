"""What `if-factory evaluate` does around the measuring: suite from its options, progress, log, judge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

from if_factory.chat.base import Backend
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.evaluation.generate import Answer, evaluate
from if_factory.evaluation.passrate import Item, Results
from if_factory.evaluation.progress import Progress
from if_factory.evaluation.suites import held_out_suite, load_suite, named_types, never_trained, types_trained
from if_factory.judge.judge import Ask
from if_factory.pipeline.rundir import RunDir
from if_factory.recipe import parse

Open = Callable[[tuple[Path, ...], Callable[[int], None]], Backend]
"""Makes a backend from adapters and a function that is told of tokens as they are generated."""


def suite_like(name: str, n: int | None, *, types: Collection[str] = (), low: int | None = None,
               high: int | None = None,
               run_folder: Path | None = None) -> tuple[list[Item], frozenset[str] | None]:
    """The prompts to evaluate on, and the constraint types that were trained (``None`` where that is unknown).

    Args:
        name: ``held_out``, or the path of a file.
        types, low, high: for ``held_out``, over what the run drew.
        run_folder: the run that the training data is from.

    Raises:
        UserError: see ``held_out_suite`` and ``load_suite``; no finished run in the folder.
    """
    trained = None if run_folder is None else types_trained(run_folder)
    if name != "held_out":
        return load_suite(Path(name))[:n], trained
    drawn = _drawn_like(run_folder)
    low, high = low or drawn.get("min_constraints", 1), high or drawn.get("max_constraints", 3)
    # Without names of its own a run drew from all types by default: those it really has were trained.
    wanted = tuple(types) or tuple(drawn.get("include", ())) or tuple(sorted(trained or ()))
    trained = named_types(wanted) if trained is None else trained
    return held_out_suite(n, low=low, high=high, types=wanted, unseen=never_trained(trained)), trained


def _drawn_like(run_folder: Path | None) -> dict[str, Any]:
    """The options of a run that say which constraints it drew and how many."""
    if run_folder is None:
        return {}
    return parse(RunDir(run_folder).recipe(), where=f"{run_folder}/recipe.yaml").method_options().model_dump()


async def run(items: Sequence[Item], open_model: Open, chains: Mapping[str, tuple[Path, ...]], out: Path, *,
              trained: Collection[str] | None = None, max_tokens: int = 512, concurrency: int = 64,
              system: str = "", read: int = 60,
              judge: AbstractAsyncContextManager[ChatClient] | None = None) -> Results:
    """Evaluate the base model with each chain of adapters and show how far it is; see ``generate.evaluate``.

    Answers are kept in ``out/asked.jsonl``: a killed evaluation continues, one more adapter asks only its own.
    """
    async with contextlib.AsyncExitStack() as stack:
        log = stack.enter_context(contextlib.closing(ResponseLog(out / "asked.jsonl")))
        ask: Ask | None = None
        if judge:
            ask = partial((await stack.enter_async_context(judge)).chat, stage="evaluate")
        progress = stack.enter_context(Progress(len(items) * len(chains), out / "evaluation.log"))

        def answered(label: str, item: Item, answer: Answer) -> None:
            progress.answer(answer.completion_tokens)

        models = {label: open_model(chain, progress.generated) for label, chain in chains.items()}
        return await evaluate(items, models, out, max_tokens=max_tokens, concurrency=concurrency, system=system,
                              log=log, trained=trained, read=read, judge=ask, on_model=progress.model,
                              on_answer=answered)
