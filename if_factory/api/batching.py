"""A run by batch files: what ``run --batch`` opens, and sending, watching and reading the batches."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from if_factory.api.common import AnyPath, wait
from if_factory.api.models import price_of, refuse_namesake
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from if_factory.files import write_atomic
from if_factory.recipe import ModelSpec, Recipe

if TYPE_CHECKING:
    from if_factory.batches.folder import BatchFile, BatchFolder
    from if_factory.batches.service import BatchService
    from if_factory.batches.wave import Wave

_NOTE = "batches.json"  # in the run folder: which batch folders are its own
_LOCAL = ("written", "sending")  # states in which a local file of results may have been made
Action = Literal["submit", "status", "fetch"]


@dataclass(frozen=True)
class WaveReport:
    """What a run by batches wrote, and what it waits for.

    Attributes:
        folder: of the batch files.
        number: of the wave, from 1; of the last one where nothing was written.
        opened: requests written now.
        waiting: requests that are in earlier files whose results have not been read.
        files: the files written now.
        open_files: all files whose results have not been read, these included.
        lost: requests that are not asked again, their records dropped.
    """

    folder: Path
    number: int
    opened: int
    waiting: int
    files: list[BatchFile] = field(repr=False)
    open_files: list[BatchFile] = field(repr=False)
    lost: int = 0


@dataclass(frozen=True)
class BatchReport:
    """The files of a batch folder after a command.

    Attributes:
        files: all of them, with their states.
        news: file name -> what the command did or found, in words; only where it did.
        counts: what the results read now held, by the keys of ``if_factory.batches.answers.MEANINGS``.
        log: the run's response log.
    """

    folder: Path
    files: list[BatchFile] = field(repr=False)
    news: dict[str, str]
    counts: dict[str, int]
    log: Path

    @property
    def open_files(self) -> list[BatchFile]:
        """Those whose results have not been read."""
        return [file for file in self.files if file.state != "done"]


# ---------------------------------------------------------------- the run's side


@contextlib.contextmanager
def open_wave(folder: AnyPath, run: Path) -> Iterator[Wave]:
    """The wave that a run in the folder ``run`` writes into the batch folder ``folder``."""
    from if_factory.batches.folder import BatchFolder
    from if_factory.batches.wave import Wave

    with BatchFolder(Path(folder)) as batches:
        batches.belongs_to(run)
        note = run / _NOTE
        known = set(json.loads(note.read_text(encoding="utf-8"))) if note.exists() else set()
        if (mine := str(Path(folder).resolve())) not in known:
            write_atomic(note, json.dumps(sorted({*known, mine}), indent=2) + "\n")
        with Wave(batches) as wave:
            yield wave


def wave_report(wave: Wave) -> WaveReport:
    """What a finished wave holds."""
    folder = wave.folder
    return WaveReport(folder.path, folder.wave, wave.opened, len(wave.waiting), wave.files,
                      [file for file in folder.files if file.state != "done"],
                      sum(known.lost for known in folder.unanswered.values()))


def refuse_pending(run: Path) -> None:
    """Before a run asks its models directly.

    Raises:
        UserError: requests of it are at a batch service, and would be paid twice.
    """
    note = run / _NOTE
    for folder in json.loads(note.read_text(encoding="utf-8")) if note.exists() else ():
        try:
            files = json.loads((Path(folder) / "batch.json").read_text(encoding="utf-8"))["files"]
        except (OSError, ValueError, KeyError):
            continue  # the batch folder is gone, and with it every way to read its results
        if sent := sum(file["requests"] for file in files if file["state"] in ("sending", "sent")):
            raise UserError(f"{sent} requests of this run are in batches that were sent", where=folder,
                            fix=f"read their answers with `if-factory batch fetch {folder}` first, or go on with "
                            "`--batch`; asked directly they would be paid twice")


@contextlib.asynccontextmanager
async def open_batch_models(recipe: Recipe, log: ResponseLog, usage: Usage, budget: Budget,
                            wave: Wave) -> AsyncIterator[dict[str, ChatClient]]:
    """The recipe's models as clients that write what they are asked into ``wave``."""
    from if_factory.batches.answers import base_url_of
    from if_factory.batches.backend import BatchBackend
    from if_factory.batches.client import BatchClient, Spending

    async with contextlib.AsyncExitStack() as stack:
        backends: dict[str, BatchBackend] = {}
        served: dict[str, str] = {}
        for role, spec in sorted(recipe.models.items()):
            if spec.embedded:
                raise UserError("the embedded model is not asked by batch files", where=f"models.{role}.endpoint",
                                fix="name a URL, or `vllm:MODEL` for `vllm run-batch`; or run without --batch")
            backend = BatchBackend(base_url_of(spec.urls[0]), spec.model or _vllm_name(recipe, spec),
                                   api_key_env=spec.api_key_env, wait=spec.wait_for_server)
            stack.push_async_callback(backend.close)
            if not backend.model:
                await backend.discover()
            refuse_namesake(served, backend.model, ", ".join(spec.urls), role)
            backend.recall(wave.folder.servers.get(f"{_endpoint(recipe, spec)} {backend.model}", {}))
            backends[role] = backend
        prices = {backend.model: price_of(recipe.models[role]) for role, backend in backends.items()}
        spending = Spending(budget, log, len(wave.pending), prices)
        yield {role: BatchClient(
            role, backend, _endpoint(recipe, recipe.models[role]), wave, spending, log=log, budget=budget, usage=usage,
            concurrency=recipe.models[role].concurrency, temperature=recipe.models[role].temperature,
            top_p=recipe.models[role].top_p, max_tokens=recipe.models[role].answer_tokens, seed=recipe.seed,
            price=price_of(recipe.models[role]), extra_body=recipe.models[role].extra_body)
            for role, backend in backends.items()}


def _endpoint(recipe: Recipe, spec: ModelSpec) -> str:
    """The URL whose batches are used, or ``vllm:`` and what vLLM is to be started with."""
    if spec.vllm is None:
        return spec.urls[0]
    path = recipe.path(spec.vllm)
    return f"vllm:{path.resolve() if path.is_dir() else spec.vllm}"


def _vllm_name(recipe: Recipe, spec: ModelSpec) -> str | None:
    """What vLLM calls the model of ``vllm:MODEL``, as when the run starts it; ``None`` for a URL."""
    if spec.vllm is None:
        return None
    named = spec.args.get("served-model-name", spec.args.get("served_model_name"))
    path = recipe.path(spec.vllm)
    return str(named) if named else path.name if path.is_dir() else spec.vllm


# ---------------------------------------------------------------- the batches' side


def batch(folder: AnyPath, action: Action = "status", *, results: Sequence[AnyPath] = ()) -> BatchReport:
    """Send the batch files of a folder, ask how they are, or read their results into the run's log.

    Args:
        folder: that ``run`` wrote batch files into.
        action: ``submit`` sends every file that has not been sent; ``status`` asks the service; ``fetch`` downloads
            what has ended, and reads it into the log. Results that lie beside a file (``vllm run-batch -o`` with the
            name that ``run`` gives) are read too.
        results: with ``fetch``: local files of results, whatever their names; their lines find their requests by key.

    Raises:
        UserError: the service refuses or cannot be reached, ``openai`` is not installed, the run is at work, or a file
            is broken. What was done until then is kept.
    """
    from if_factory.batches.folder import BatchFolder

    with BatchFolder(Path(folder)) as batches:
        log = batches.run_folder / "responses.jsonl"
        batches.pending()  # files deleted before they were sent are no longer open
        work = _Work(batches, log)
        with contextlib.ExitStack() as stack:
            stack.callback(work.close)
            if action == "submit":
                work.submit()
            elif action == "fetch":
                wait(work.fetch([Path(each) for each in results]))
            else:
                work.look()
        batches.save()
        return BatchReport(batches.path, batches.files, work.news, work.counts, log)


class _Work:
    def __init__(self, folder: BatchFolder, log: Path) -> None:
        self.folder, self.log = folder, log
        self.news: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self._services: dict[tuple[str, str], BatchService] = {}

    def close(self) -> None:
        for service in self._services.values():
            service.close()

    def _service(self, file: BatchFile) -> BatchService:
        from if_factory.batches.service import BatchService

        account = (file.endpoint, file.api_key_env)
        if account not in self._services:
            self._services[account] = BatchService(self.folder, file)
        return self._services[account]

    def submit(self) -> None:
        with contextlib.closing(ResponseLog(self.log)) as log:
            for file in self.folder.files:
                if file.state == "written" and (known := sum(row["key"] in log for row in self.folder.asked(file))):
                    file.state, file.status = "done", "answered without it"
                    self.news[file.name] = (f"not sent: {known} of its {file.requests} requests have been answered "
                                            "since; run again to have the others written anew")
                elif file.state in _LOCAL:
                    self._service(file).send(file)
                    self.news[file.name] = f"sent as {file.batch_id}"

    def look(self) -> None:
        for file in self.folder.files:
            if file.state == "sent":
                found = self._service(file).progress(file)
                file.status = found.status
                self.news[file.name] = (f"{found.done} of {found.total or file.requests} done, {found.failed} failed"
                                        + (f": {found.why}" if found.why else ""))

    async def fetch(self, results: Sequence[Path]) -> None:
        from if_factory.batches.answers import Results

        with contextlib.closing(ResponseLog(self.log)) as log:
            if results:
                await self._given(log, results)
            for file in [file for file in self.folder.files if file.state != "done"]:
                local = self.folder.path / file.beside(".output.jsonl")
                if file.state == "sent":
                    paths, status = await asyncio.to_thread(self._download, file)
                elif local.exists():
                    paths, status = [local], "answered here"
                else:
                    continue
                if paths is None:
                    continue
                read = Results(self.folder, log, [file])
                for path in paths:
                    await read.take(path)
                read.close(file, status)
                self._count(file.counts)
                self.news[file.name] = f"{self.news.get(file.name, '')} {words(file.counts)}".strip()

    async def _given(self, log: ResponseLog, results: Sequence[Path]) -> None:
        """Files of results by name; a file of requests is done once each of its requests has had a line."""
        from if_factory.batches.answers import Results

        read = Results(self.folder, log, self.folder.files)
        for path in results:
            await read.take(path)
        read.keep()
        self._count(read.counts)
        self.news[", ".join(map(str, results))] = words(read.counts)
        for file in self.folder.files:
            if file.state != "done" and all(row["key"] in read.seen or row["key"] in log
                                            for row in self.folder.asked(file)):
                file.state, file.status = "done", "answered here"

    def _download(self, file: BatchFile) -> tuple[list[Path] | None, str]:
        service = self._service(file)
        found = service.progress(file)
        file.status = found.status
        self.news[file.name] = found.status + (f": {found.why};" if found.why else ";" if found.ended else "")
        if not found.ended:
            return None, ""
        paths = []
        for file_id, ending in ((found.output, ".output.jsonl"), (found.errors, ".errors.jsonl")):
            if file_id:
                paths.append(self.folder.path / file.beside(ending))
                service.download(file, file_id, paths[-1])
        return paths, found.status

    def _count(self, counts: dict[str, int]) -> None:
        for kind, n in counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + n


def words(counts: dict[str, int]) -> str:
    """``answered 12, empty 1``."""
    return ", ".join(f"{kind.replace('_', ' ')} {n}" for kind, n in counts.items() if n) or "no lines"
