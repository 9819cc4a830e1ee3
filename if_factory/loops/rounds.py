"""What every loop does between two trainings: train one adapter on some rows, ask a model that was trained."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from if_factory.chat.budget import Budget, Price, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from if_factory.exporting.dataset_info import FILE_NAME, merge_entries
from if_factory.exporting.formats import write_dataset
from if_factory.records import SFTExample
from if_factory.training.curriculum import CurriculumOptions, write_curriculum
from if_factory.training.run import run_curriculum, stages_in


@dataclass(frozen=True, slots=True)
class Trainer:
    """How adapters are trained: always from ``model``, one stage of SFT, everything below ``folder``.

    ``settings`` are LLaMA-Factory keys, ``cli`` the command that trains (default ``llamafactory-cli``). A training
    that was finished on the same rows and keys is not run again, a killed one continues from its last checkpoint.
    """

    model: str
    folder: Path
    template: str | None = None
    seed: int = 0
    cpu: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print
    cli: Sequence[str] = ()

    def sft(self, name: str, examples: Sequence[SFTExample], **settings: Any) -> Path:
        """Train a new adapter on ``examples`` and return its folder.

        Raises:
            UserError: no rows, or the training failed.
        """
        if not examples:
            raise UserError(f"there are no rows to train '{name}' on", where=str(self.folder))
        data, yamls = self.folder / "data", self.folder / "yaml" / name
        written = write_dataset(name, examples, data, "alpaca")
        merge_entries(data / FILE_NAME, {name: written.entry}, force=True)
        options = CurriculumOptions(
            model=self.model, template=self.template, name=name, bins=1, stages=("sft",), seed=self.seed,
            cpu=self.cpu, output_root=str(self.folder / "saves"), dataset_dir=str(data),
            stage_overrides={"sft": {**settings, **self.settings}})
        write_curriculum(options, {("sft", "all"): name}, yamls)
        return run_curriculum(stages_in(yamls), cli=self.cli, say=self.say)[-1].output_dir


@contextlib.asynccontextmanager
async def local_model(role: str, path: str, adapters: Sequence[Path], log: ResponseLog, usage: Usage, *,
                      batch: int, max_tokens: int, seed: int) -> AsyncIterator[ChatClient]:
    """The model in this process, with adapters, in the part of ``role``; its weights are dropped at the end."""
    from if_factory.chat.transformers_local import TransformersBackend

    backend = TransformersBackend(path, adapters=adapters, batch_size=batch)
    try:
        yield ChatClient(role, backend, log=log, budget=Budget(), usage=usage, concurrency=4 * batch,
                    max_tokens=max_tokens, seed=seed, price=Price(0, 0))
    finally:
        await backend.close()
