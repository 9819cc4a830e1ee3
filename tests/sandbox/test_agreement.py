"""The jail changes no verdict: 104 functions (64 published with AutoIF, 40 of other styles) against plain exec."""

import json
from pathlib import Path
from typing import Any

from if_factory.sandbox import Limits, Pool


def plain(source: str, inputs: list[Any]) -> list[Any]:
    """Values of plain CPython, or the name of what was raised."""
    module: dict[str, Any] = {"__name__": "verifier"}
    exec(compile(source, "<verifier>", "exec", dont_inherit=True), module)
    found = []
    for given in inputs:
        try:
            found.append(module["evaluate"](given))
        except Exception as e:
            found.append(f"raised {type(e).__name__}")
    return found


def test_every_function_of_the_reference_data_agrees_with_plain_python(strong: None, shared: Path) -> None:
    functions = cases = 0
    with Pool(workers=1, limits=Limits()) as pool:
        for name in ("autoif_verifiers", "style_probes"):
            for line in (shared / "data" / "sandbox" / f"{name}.jsonl").read_text().splitlines():
                row = json.loads(line)
                inputs = [case[0] for case in row["cases"]]
                found = pool.run(row["func"], inputs, runs=2)
                jailed = [value if returned else reason.partition(":")[0] for value, returned, reason
                          in zip(found.values, found.returned, found.reasons, strict=True)]
                assert jailed == plain(row["func"], inputs), row["func"]
                assert found.loaded
                assert not found.flaky
                functions += 1
                cases += len(inputs)
    assert (functions, cases) == (104, 386)
