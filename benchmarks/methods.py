"""Every method from the command line at scale, against scripted models (named as such) behind one endpoint.

    python benchmarks/methods.py --seeds 5000
    python benchmarks/methods.py --seeds 300 --methods soft_steps,decif

One process runs `if-factory run`, this one serves it. Wall time stands beside the ideal, what the endpoint's delay
alone would take at this concurrency; peak is the run's largest resident set; requests per emitted row are what a
teacher that does as it is told costs, with the methods' default options but for what scripted words can satisfy.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.command_run import finish, start
from tests.support.method_cases import CASES, CONCURRENCY, DELAY, Case, write_recipe


async def measure(name: str, case: Case, seeds: int, folder: Path) -> list[str]:
    server = case.server()
    path = write_recipe(folder, name, await server.start(), seeds)
    began = time.monotonic()
    peak = await finish(await start(path, folder / "run"))
    seconds = time.monotonic() - began
    await server.stop()
    emission = json.loads((folder / "run" / "ledger.json").read_text())["emission"]
    rows = {kind: counts["rows"] for kind, counts in emission.items() if counts["rows"]}
    asked: dict[str, int] = {}
    for used in json.loads((folder / "run" / "usage.json").read_text()):
        asked[used["role"]] = asked.get(used["role"], 0) + used["answers"]
    per_row = ", ".join(f"{role} {n / max(1, sum(rows.values())):.1f}" for role, n in sorted(asked.items()))
    return [name, f"{seeds:,}", f"{server.requests:,}", f"{seconds:.1f}",
            f"{server.requests * DELAY / CONCURRENCY:.1f}", f"{peak / 2**20:.0f}",
            ", ".join(f"{kind} {n:,}" for kind, n in rows.items()), per_row]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--methods", default=",".join(CASES), help="with commas between them")
    given = parser.parse_args()
    print("| method | seeds | requests | wall s | ideal s | peak MiB | rows | requests per row |")
    print("|---|---|---|---|---|---|---|---|")
    for name in given.methods.split(","):
        with tempfile.TemporaryDirectory() as folder:
            cells = asyncio.run(measure(name, CASES[name], given.seeds, Path(folder)))
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
