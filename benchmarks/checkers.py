"""How long our checkers take for the reference's 5,712 checks, and where they agree with it.

    python benchmarks/checkers.py [path to the shared reference data]

The reference's own figure is a recorded one: 2.87, 3.11 and 3.02 s for a whole run over the same rows (start,
reading and writing included) on 2 CPU cores. Ours is printed with and without the start (imports, reading the file),
each a fresh process, best and all of five; with a reason for every failed check, and as verdicts alone, which is
what the reference gives. Sources are compiled before (as pip leaves a package), into a folder that is removed
afterwards. Figures: docs/constraints.md, "How long it takes".
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path

REFERENCE_SECONDS = (2.87, 3.11, 3.02)
ROUNDS = 5


def once(path: Path, *, reasons: bool) -> dict[str, float]:
    """Seconds of one run in this process: whole (from process start) and checks only, plus CPU seconds."""
    from if_factory.constraints.verify import verify
    from if_factory.files import read_rows
    from if_factory.inputs.ifeval import read_constraints

    rows = [(row, read_constraints(row, f"{path}:{n}")) for n, row in read_rows(path)]
    started, cpu = time.perf_counter(), time.process_time()
    verdicts = [verify(row["response"], constraints, ifeval_compat=True, reasons=reasons) for row, constraints in rows]
    checks, checks_cpu = time.perf_counter() - started, time.process_time() - cpu
    agree = sum(v.passed is recorded for (row, _), found in zip(rows, verdicts, strict=True)
                for v, recorded in zip(found, row["follow_instruction_list"], strict=True))
    return {"checks": checks, "checks_cpu": checks_cpu, "agree": agree, "total": sum(map(len, verdicts))}


def per_type(path: Path) -> list[tuple[str, int, int, int]]:
    """``(type, checks, agreeing in compat mode, agreeing in the default mode)``."""
    from if_factory.constraints.verify import verify
    from if_factory.files import read_rows
    from if_factory.inputs.ifeval import read_constraints

    total: Counter[str] = Counter()
    agree: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
    for number, row in read_rows(path):
        constraints = read_constraints(row, f"{path}:{number}")
        total.update(c.type for c in constraints)
        for compat in agree:
            found = verify(row["response"], constraints, ifeval_compat=compat)
            for c, v, recorded in zip(constraints, found, row["follow_instruction_list"], strict=True):
                agree[compat][c.type] += v.passed is recorded
    return [(t, total[t], agree[True][t], agree[False][t]) for t in sorted(total)]


def timed(path: Path, mode: str) -> list[dict[str, float]]:
    """Five runs, each in a process of its own."""
    import resource  # not at the top: what the timed process imports is timed
    import subprocess
    import tempfile

    runs = []
    with tempfile.TemporaryDirectory() as byte_code:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = byte_code
        for _ in range(ROUNDS + 1):
            started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            out = subprocess.run([sys.executable, __file__, mode, str(path)], env=env, capture_output=True, text=True,
                                 check=True)
            whole, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            runs.append({**json.loads(out.stdout), "whole": whole, "whole_cpu": cpu})
    return runs[1:]  # the first one compiles


def main() -> None:
    default = os.environ.get("IF_FACTORY_SHARED", str(Path(__file__).parents[1].parent / "shared"))
    shared = Path(sys.argv[1] if len(sys.argv) > 1 else default)
    path = shared / "data" / "complex" / "checked_res_llama2.jsonl"
    if not path.is_file():
        sys.exit(f"{path}: no such file\n  what to do: give the folder of the shared reference data as argument")
    runs = timed(path, "--once")
    bare = timed(path, "--verdicts")
    for row in per_type(path):
        print("{:<48}{:>5} checks  compat {:>5}  default {:>5}".format(*row))
    reference = min(REFERENCE_SECONDS)
    print(f"\nagreement (compat): {runs[0]['agree']:.0f} of {runs[0]['total']:.0f}")
    print(f"reference, whole run (recorded): {', '.join(map(str, REFERENCE_SECONDS))} s")
    for name, label, of in (("whole", "ours, whole process", runs), ("whole_cpu", "ours, whole process, CPU", runs),
                            ("checks", "ours, checks only", runs),
                            ("checks_cpu", "ours, checks only, CPU", runs),
                            ("whole", "verdicts alone, whole process", bare),
                            ("whole_cpu", "verdicts alone, whole process, CPU", bare),
                            ("checks_cpu", "verdicts alone, checks only, CPU", bare)):
        values = [run[name] for run in of]
        print(f"{label}: best {min(values):.3f} s ({', '.join(f'{v:.2f}' for v in values)}), "
              f"{reference / min(values):.1f}x faster than the reference's best whole run")


if __name__ == "__main__":
    if sys.argv[1:2] in (["--once"], ["--verdicts"]):
        print(json.dumps(once(Path(sys.argv[2]), reasons=sys.argv[1] == "--once")))
    else:
        main()
