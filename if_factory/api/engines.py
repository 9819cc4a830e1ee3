"""Where the work of a command is done: in this process, or on a Ray."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any, Literal

from if_factory.errors import UserError

Engine = Literal["local", "ray"]


@contextlib.contextmanager
def workers_of(engine: Engine, address: str | None, workers: int | None) -> Iterator[int | None]:
    """What ``if_factory.pipeline.spread.spread`` takes as ``workers``, inside the block.

    Raises:
        UserError: see ``connected``.
    """
    if engine == "ray":
        with connected(address, workers) as number:
            yield number
    else:
        yield None


@contextlib.contextmanager
def connected(address: str | None, workers: int | None) -> Iterator[int]:
    """Connected to Ray inside the block; the number of workers that are wanted there, or for which there are CPUs.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError:
        raise UserError("the engine `ray` needs Ray", fix='pip install "if-factory[ray]"') from None
    mine = not ray.is_initialized()
    if mine:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unasked
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        local: dict[str, Any] = {"num_cpus": workers or _cpus(), "include_dashboard": False} \
            if address == "local" else {}
        try:
            ray.init(address=address, logging_level=logging.WARNING, **local)
        except (ConnectionError, RuntimeError, ValueError) as e:
            raise UserError(f"Ray cannot be reached: {e}", where=f"--ray-address {address}",
                            fix="look whether it runs with `ray status`; without an address one is started here"
                            ) from None
    try:
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if mine:
            ray.shutdown()


def _cpus() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
