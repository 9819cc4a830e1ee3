"""Workers, or a whole node, killed in the middle of a run on Ray: nothing may be lost and nothing paid for twice.

    python benchmarks/ray_failures.py workers --kills 100      # random workers of a Ray on this machine
    python benchmarks/ray_failures.py node --nodes 8           # a simulated cluster, one CPU per node; one node killed

The endpoint is a fake one in this process (`tests/support/fake_endpoint.py`), which counts how often each request came.
Prints the requests beyond those of a run on the local engine, and how many the run itself said were in flight in what
was killed; ends with status 1 where files differ or more was asked again than was in flight. Needs the extra `ray`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["IF_FACTORY_EMBEDDINGS"] = "off"
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from if_factory import api
from tests.support.command_run import OUTCOME
from tests.support.method_cases import CASES, write_recipe


class InFlight(logging.Handler):
    """Adds up what the run says of workers that died."""

    def __init__(self) -> None:
        super().__init__()
        self.deaths, self.requests = 0, 0

    def emit(self, record: logging.LogRecord) -> None:
        if found := re.search(r"is gone .* with (\d+) requests in flight", record.getMessage()):
            self.deaths += 1
            self.requests += int(found[1])


def workers() -> list[psutil.Process]:
    """The processes of this machine's Ray in which a worker of the run lives."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if (process.info["cmdline"] or [""])[0].startswith("ray::Worker"):
            found.append(process)
    return found


def kill_workers(kills: int, over: threading.Event, pause: float) -> int:
    """Kill random workers until ``over``; returns how many."""
    rng, killed = Random(1), 0
    while killed < kills and not over.wait(pause * (0.5 + rng.random())):
        if found := workers():
            try:
                rng.choice(found).send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
            killed += 1
    return killed


def compare(method: str, seeds: int, delay: float, number: int, disturb: Callable[[threading.Event], int]) -> bool:
    """Run ``method`` on the local engine, then on Ray while ``disturb`` runs beside; prints what became of it."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    server = CASES[method].server()
    url = asyncio.run_coroutine_threadsafe(server.start(), loop).result()
    in_flight = InFlight()
    logging.getLogger("if_factory").addHandler(in_flight)
    with tempfile.TemporaryDirectory() as tmp:
        recipe = write_recipe(Path(tmp), method, url, seeds)
        server.delay = 0
        api.run(recipe, f"{tmp}/local")
        whole = server.requests
        server.delay, over, killed = delay, threading.Event(), []
        thread = threading.Thread(target=lambda: killed.append(disturb(over)))
        thread.start()
        began = time.monotonic()
        try:
            api.run(recipe, f"{tmp}/ray", engine="ray", ray_workers=number)
        finally:
            over.set()
            thread.join()
        other = [f for f in OUTCOME if Path(tmp, "ray", f).read_bytes() != Path(tmp, "local", f).read_bytes()]
        for name in other:
            both = zip(*(Path(tmp, engine, name).read_text(encoding="utf-8").splitlines()
                         for engine in ("local", "ray")), strict=False)
            print(name, *(f"\n  {a[:300]}\n  {b[:300]}" for a, b in both if a != b))
    again = server.requests - 2 * whole
    print(f"{method}, {seeds} seeds, {whole} requests, {number} workers, {time.monotonic() - began:.0f} s: "
          f"{killed[0]} killed, {in_flight.deaths} deaths of workers noticed; {again} requests asked again, "
          f"{in_flight.requests} were in flight; files {'DIFFER: ' + ', '.join(other) if other else 'the same'}",
          flush=True)
    return not other and again <= in_flight.requests


def on_nodes(nodes: int, run: Callable[[Callable[[threading.Event], int]], bool], after: float) -> bool:
    """``run`` on a simulated cluster, one node of which is killed ``after`` seconds of work."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        added = [cluster.add_node(num_cpus=1, object_store_memory=80_000_000) for _ in range(nodes)]
        ray.init(address=cluster.address, logging_level=logging.WARNING)

        def kill_node(over: threading.Event) -> int:
            while not workers() and not over.wait(0.2):
                pass
            if over.wait(after):
                return 0
            cluster.remove_node(added[0], allow_graceful=False)
            return 1

        return run(kill_node)
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["workers", "node"])
    parser.add_argument("--method", default="complex_to_simple", choices=sorted(CASES))
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=2, help="workers on this machine")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two kills, on average")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--after", type=float, default=5.0, help="seconds of work before the node is killed")
    parser.add_argument("--delay", type=float, default=0.2, help="of the endpoint, in seconds")
    args = parser.parse_args()
    if args.what == "workers":
        good = compare(args.method, args.seeds, args.delay, args.workers,
                       lambda over: kill_workers(args.kills, over, args.pause))
    else:
        good = on_nodes(args.nodes, lambda kill: compare(args.method, args.seeds, args.delay, args.nodes, kill),
                        args.after)
    sys.exit(not good)


if __name__ == "__main__":
    main()
