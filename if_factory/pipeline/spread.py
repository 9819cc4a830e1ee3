"""An ordered map over blocks of rows: in this process, or on workers of the Ray that it is connected to.

A block's result depends on the block alone, so where a worker dies, Ray gives its block to another one, and the results
are those of one process, in the order of the blocks.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Semaphore
from typing import Any, TypeVar

from if_factory.constraints.base import load_plugin, plugins
from if_factory.constraints.generated import Settings, configure, isolation_used, note_isolation, settings
from if_factory.errors import UserError

Block = TypeVar("Block")
Found = TypeVar("Found")
_WAITING = 4  # blocks per worker that are under way or wait for an earlier one
_DECIDING = ("IF_FACTORY_EMBEDDINGS", "IF_FACTORY_CACHE")  # by name: a user's variable of such a name may hold a key
_RETRIES = 5  # times that a block is tried again after the death of a worker


def in_blocks(rows: Iterable[Found], size: int) -> Iterator[list[Found]]:
    """The rows in lists of ``size``, the last one of what is left."""
    rest = iter(rows)
    while block := list(islice(rest, size)):
        yield block


def spread(opens: Callable[[], Callable[[Block], Found]], blocks: Iterable[Block], workers: int | None = None
           ) -> Iterator[Found]:
    """What a function makes of each block, in the order of the blocks. They are read a few at a time.

    Args:
        opens: makes the function, once per process. On Ray it, blocks and results are pickled.
        workers: blocks under way at once on Ray; ``None``: here, one after the other.

    Raises:
        UserError: the function's; or workers die again and again over a block.
    """
    if workers is None:
        yield from map(opens(), blocks)
        return
    from ray.exceptions import RayError, RayTaskError

    try:
        for found, isolation in in_order(_on_ray(opens), blocks, workers):
            if isinstance(found, UserError):
                raise found
            if isolation:
                note_isolation(isolation)
            yield found
    except RayTaskError:  # our own fault, with its traceback
        raise
    except RayError as e:
        raise UserError(f"worker after worker died over the same rows; the last one: {e}", where="ray",
                        fix="look into Ray's logs (memory, packages on the nodes), then run the same command again"
                        ) from None


def in_order(submit: Callable[[Block], Future[Found]], blocks: Iterable[Block], workers: int) -> Iterator[Found]:
    """The results of ``submit`` in the order of the blocks, of which at most ``workers`` are under way."""
    free, waiting = Semaphore(workers), deque[Future[Found]]()
    for block in blocks:
        free.acquire()
        waiting.append(submit(block))
        waiting[-1].add_done_callback(lambda _: free.release())
        while waiting and (waiting[0].done() or len(waiting) >= _WAITING * workers):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


# ---------------------------------------------------------------- on Ray


@dataclass(frozen=True)
class _Process:
    """What of this process decides about rows, to be the same in a worker's."""

    folder: str
    environment: Mapping[str, str]
    plugins: tuple[Path, ...]
    sandbox: Settings

    @classmethod
    def here(cls) -> _Process:
        ours = {name: os.environ[name] for name in _DECIDING if name in os.environ}
        return cls(os.getcwd(), ours, plugins(), settings())

    def adopt(self) -> None:
        with contextlib.suppress(OSError):  # another machine, and paths that are absolute
            os.chdir(self.folder)
        os.environ.update(self.environment)
        for path in self.plugins:
            load_plugin(path)
        workers, limits, allow_weak = self.sandbox
        configure(workers=workers, limits=limits, allow_weak=allow_weak)


def _on_ray(opens: Callable[[], Callable[[Block], Any]]) -> Callable[[Block], Future[tuple[Any, str | None]]]:
    import ray

    kept = [ray.put((_Process.here(), opens))]  # in a list Ray passes it by name, to be fetched once per process
    task = ray.remote(num_cpus=1, max_retries=_RETRIES, scheduling_strategy="SPREAD")(_work)

    def submit(block: Block) -> Future[tuple[Any, str | None]]:
        future: Future[tuple[Any, str | None]] = task.remote(kept, block).future()
        return future

    return submit


_opened: tuple[Any, Callable[[Any], Any]] | None = None  # the last function of this worker, by its name in Ray


def _work(kept: list[Any], block: Any) -> tuple[Any, str | None]:
    """In a worker: what the function makes of the block or the ``UserError`` it raises, and the sandbox it used."""
    import ray

    global _opened
    try:
        if _opened is None or _opened[0] != kept[0]:
            process, opens = ray.get(kept[0])
            process.adopt()
            _opened = kept[0], opens()
        return _opened[1](block), isolation_used()
    except UserError as e:
        return e, None
