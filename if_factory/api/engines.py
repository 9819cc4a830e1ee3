"""Where the work of a command is done: in this process, or on a Ray."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any, Literal

from if_factory.chat.cores import usable_cores
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
        local: dict[str, Any] = {"num_cpus": workers or usable_cores(), "include_dashboard": False} \
            if address == "local" else {}
        try:
            _require_listener(address)
            ray.init(address=address, logging_level=logging.WARNING, **local)
        except (OSError, RuntimeError, ValueError) as e:
            raise UserError(f"Ray cannot be reached: {e}", where=f"--ray-address {address}",
                            fix="look whether it runs with `ray status`; without an address one is started here"
                            ) from None
    try:
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if mine:
            ray.shutdown()


def _require_listener(address: str) -> None:
    """Raises ``OSError`` where nothing listens at ``HOST:PORT``: Ray itself goes on trying for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
