"""What every loop does between two trainings: train one adapter on some rows, ask a model that was trained."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from if_factory.chat.base import Backend
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

    ``settings`` are LLaMA-Factory keys, ``cli`` the command that trains (default ``llamafactory-cli``), ``by_rows``
    further keys by the number of rows, which win. A training that was finished on the same rows and keys is not run
    again, a killed one continues from its last checkpoint.
    """

    model: str
    folder: Path
    template: str | None = None
    seed: int = 0
    cpu: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = print
    cli: Sequence[str] = ()
    by_rows: Callable[[int], Mapping[str, Any]] = lambda rows: {}

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
            stage_overrides={"sft": {**settings, **self.settings, **self.by_rows(len(examples))}},
            rows={name: len(examples)}, settings=tuple(self.settings))
        write_curriculum(options, {("sft", "all"): name}, yamls)
        return run_curriculum(stages_in(yamls), cli=self.cli, say=self.say)[-1].output_dir

    def merges(self, name: str) -> Path:
        """The YAML with which ``llamafactory-cli export`` merges the adapter of that name."""
        return self.folder / "yaml" / name / f"{name}_export.yaml"


def to_serve(what: str, merge: Path | str, option: str) -> str:
    """What a user is told where a loop stops because nobody serves the model that it would ask next."""
    return (f"{what} has no endpoint. Merge what was trained:\n"
            f"  llamafactory-cli export {merge}\n"
            f"serve it, and run this command again with --endpoint {option}=URL")


def served(url: str, batch: int) -> Backend:
    """A server of a model that was trained, merged and started by the user, asked as models in this process are."""
    from if_factory.chat.http import OpenAIBackend

    return OpenAIBackend(url, None, concurrency=4 * batch)


@contextlib.asynccontextmanager
async def served_model(role: str, url: str, trained: Path, folder: Path, usage: Usage, *, batch: int,
                       max_tokens: int, seed: int) -> AsyncIterator[ChatClient]:
    """The same behind a URL, in the part of ``role``.

    A server says a name and not which weights it has, and the next model may be served under the same name: the
    answers are in a log in ``folder`` that is called after the adapter and its content.
    """
    weights = trained / "adapter_model.safetensors"
    content = hashlib.sha256(weights.read_bytes()).hexdigest()[:12] if weights.is_file() else "whole"
    log = ResponseLog(folder / f"responses_{trained.name}_{content}.jsonl")
    client = ChatClient(role, served(url, batch), log=log, budget=Budget(), usage=usage, concurrency=4 * batch,
                        max_tokens=max_tokens, seed=seed, price=Price(0, 0))
    try:
        yield client
    finally:
        await client.close()
        log.close()


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
