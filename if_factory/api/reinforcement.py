"""From a finished run to prompts for reinforcement learning, with verified rewards, for LLaMA-Factory and others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from if_factory.api.common import AnyPath, prepare, recipe_of_run
from if_factory.api.datasets import bins_of, difficulty_of, parts_of
from if_factory.errors import UserError, suggest
from if_factory.exporting.dataset_info import FILE_NAME, TRUTH_KEY, MergeReport, merge_entries, require_mergeable
from if_factory.files import write_atomic, write_jsonl
from if_factory.pipeline.rundir import RunDir
from if_factory.rewards.checks import How
from if_factory.rewards.difficulty import read_rates
from if_factory.rewards.formats import (
    ENTRY_COLUMNS,
    FORMATS,
    TRAINERS,
    RlFormat,
    llamafactory_rows,
    reward_file,
    rows_of,
)
from if_factory.rewards.prompts import PromptExample, learnable, prompts_of
from if_factory.training.measured import By


@dataclass(frozen=True)
class RlReport:
    """What ``export_rl`` wrote.

    Attributes:
        data: the trainer's prompt dataset; ``rows``: how many there are in it.
        reward: the reward file; ``None`` where the trainer brings its own verifier.
        use: the trainer's options that name these files.
        datasets: LLaMA-Factory's prompt datasets, by name, with their rows.
        measured: prompts for which the student's pass rate is known.
        refused: records and prompts that were left out, by reason.
        merged: what became of dataset_info.json.
    """

    data: Path
    rows: int
    reward: Path | None
    use: str
    datasets: dict[str, int]
    measured: int
    refused: Counter[str] = field(repr=False)
    merged: MergeReport = field(repr=False)


def export_rl(run_folder: AnyPath, into: AnyPath, *, trainer: RlFormat = "trl", bins: str | int | None = None,
              pass_rate: tuple[float, float] | None = None, files: str = "", force: bool = False,
              difficulty: By | None = None, keep: Sequence[str] = ()) -> RlReport:
    """Write a run's prompts with what decides their rewards: a dataset and a reward file for ``trainer``, and an
    ordinary prompt dataset for LLaMA-Factory, registered in dataset_info.json.

    Each prompt is written once, in the run's order. A prompt of which no constraint can be decided by code is left
    out; so is one that the trainer's format cannot hold. Both are counted.

    Args:
        run_folder: the folder of a run.
        into: LLaMA-Factory's data folder, or any other.
        trainer: one of ``FORMATS``.
        bins: as in ``export``, for LLaMA-Factory's datasets.
        pass_rate: keep only prompts whose measured pass rate lies strictly between the two; unmeasured ones stay.
        files: a folder inside ``into`` for the files.
        force: replace entries of the same name in dataset_info.json.
        difficulty: what the bins of LLaMA-Factory's datasets go by; ``keep``: as in ``export``.

    Raises:
        UserError: there is no run, no prompt is left, or an entry of the same name and other content is there.
    """
    if trainer not in FORMATS:
        raise UserError(f"unknown trainer {trainer!r}", where="--rl",
                        fix=suggest(trainer, FORMATS) or "one of: " + ", ".join(FORMATS))
    recipe, into = recipe_of_run(run_folder), Path(into)
    prepare(recipe)
    rates = read_rates(Path(run_folder))
    cut = bins_of(recipe, bins, difficulty_of(run_folder, rates, difficulty), keep)
    found = prompts_of(RunDir(run_folder).iter_records(), rates)
    examples, refused = found.examples, Counter(found.refused)
    if pass_rate is not None:
        examples, refused["pass_rate"] = learnable(examples, *pass_rate)
    rows, unfit = rows_of(trainer, examples, f"if_factory/{recipe.method}")
    refused.update(unfit)
    if not rows:
        told = ", ".join(f"{reason} {n}" for reason, n in sorted(refused.items()) if n)
        raise UserError(f"no prompt of this run can be rewarded by {trainer} ({told or 'there are no records'})",
                        where=str(run_folder), fix="docs/rewards.md says which prompts can be")
    stem, suffix = f"{recipe.name}_rl", trainer.replace("-", "_")
    data = into / files / f"{stem}_{suffix}.jsonl"
    reward = data.with_name(f"{recipe.name}_reward_{suffix}.py") if TRAINERS[trainer].reward else None
    whole = [e for e in examples if _pairs(e)]
    parts = parts_of(whole, cut, lambda e: getattr(e, "pass_rate", None)) if whole else []
    named = dict([*([(stem, whole)] if whole else []), *((f"{stem}_{label}", part) for label, part in parts)])
    entries = {name: _entry((Path(files) / f"{name}.jsonl").as_posix()) for name in named}
    require_mergeable(into / FILE_NAME, entries, force=force)
    write_jsonl(data, rows)
    if reward is not None:
        write_atomic(reward, reward_file(trainer, [recipe.path(p) for p in recipe.constraints.plugins]))
    sizes = {name: write_jsonl(into / files / f"{name}.jsonl", llamafactory_rows(part)) for name, part in named.items()}
    merged = merge_entries(into / FILE_NAME, entries, force=force)
    return RlReport(data, len(rows), reward, TRAINERS[trainer].use.format(data=data, reward=reward), sizes,
                    sum(e.pass_rate is not None for e in examples), +refused, merged)


def serve_rewards(data: AnyPath, *, port: int = 8600, host: str = "127.0.0.1", how: How = "fraction",
                  usefulness: bool = True, relevance: bool | str = False, after: str | None = None,
                  undecided: float | None = None, workers: int | None = None, plugins: Sequence[AnyPath] = (),
                  say: Callable[[str], None] = print) -> None:
    """Answer reward requests over HTTP until Ctrl-C: LLaMA-Factory's ``reward_model_type: api``, slime's and
    OpenRLHF's remote forms, and ``/health``.

    Args:
        data: prompts with what decides their rewards: a file that ``export_rl`` wrote.
        port: 0 takes a free one.
        host: the address to listen on; there is no access control, so leave it to this machine or a private network.
        how: as in ``rewards.reward_of``; so are ``usefulness``, ``relevance``, ``workers`` and ``plugins``.
        after: what the chat template puts between prompt and answer; default: the marks of common templates.
        undecided: the reward where no verdict can be had; ``None`` refuses the request.
        say: told the address once the server listens.

    Raises:
        UserError: the file is not one of prompts, or the port is taken.
    """
    from if_factory.rewards.function import Rewarder
    from if_factory.rewards.known import KnownPrompts, read_known
    from if_factory.rewards.server import RewardServer, serve

    known = KnownPrompts(read_known(Path(data)), after)
    rewarder = Rewarder(how=how, usefulness=usefulness, relevance=relevance, undecided="group_mean", workers=workers,
                        plugins=plugins)
    serve(RewardServer(known, rewarder, undecided), host, port, say=say)


def _pairs(e: PromptExample) -> bool:
    """Whether the history is one that alpaca rows can hold."""
    roles = [t.role for t in e.history]
    return roles == ["user", "assistant"] * (len(roles) // 2)


def _entry(file_name: str) -> dict[str, Any]:
    return {"file_name": file_name, "formatting": "alpaca", "ranking": False, "columns": dict(ENTRY_COLUMNS),
            TRUTH_KEY: "ground_truth"}
