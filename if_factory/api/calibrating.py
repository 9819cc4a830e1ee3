"""What decides about answers, measured against labels: a judge, and the usefulness gate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from if_factory.api.common import AnyPath, wait
from if_factory.api.models import judge_at
from if_factory.files import dump_json, write_atomic, write_jsonl
from if_factory.judge.calibration import Calibration, read_labelled
from if_factory.judge.calibration import calibrate as measure_judge
from if_factory.judge.judge import Variant
from if_factory.records import Usefulness
from if_factory.usefulness.calibration import GateFigures, Step, calibrate_gate, figures, read_answers, sweep
from if_factory.usefulness.gate import Gate
from if_factory.usefulness.settings import UsefulnessSpec


@dataclass(frozen=True)
class GateReport:
    """The usefulness gate on labelled rows: by split, and the thresholds that were tried."""

    figures: dict[str, GateFigures]
    steps: list[Step]
    deciders: tuple[str, ...]
    threshold: float


def calibrate_usefulness(labelled: AnyPath, out: AnyPath, *, judge: str | None = None, model: str | None = None,
                         api_key_env: str = "OPENAI_API_KEY", concurrency: int = 16, tries: int = 3,
                         prompts: str | None = None, relevance: str = "auto",
                         threshold: float | None = None) -> GateReport:
    """Measure the usefulness gate against labelled answers: precision, recall, by reason, decider and split.

    Args:
        labelled: rows ``{prompt, response, answers}`` (docs/usefulness.md).
        out: folder for usefulness.json, decided.jsonl and the log of replies.
        judge: a URL, ``embedded`` or ``embedded:/path/to.gguf``; default no judge.
        relevance: ``auto``, ``off`` or a sentence-transformers model.
        threshold: of relevance; default the calibrated one.

    Raises:
        UserError: a row is wrong, or the judge cannot be reached.
    """
    out, rows = Path(out), read_answers(Path(labelled))
    gate = Gate(UsefulnessSpec(relevance=relevance, threshold=threshold))

    async def decide() -> list[Usefulness]:
        if judge is None:
            return await calibrate_gate(rows, gate)
        async with judge_at(judge, out, name=model, api_key_env=api_key_env, concurrency=concurrency) as asked:
            return await calibrate_gate(rows, gate, partial(asked.chat, stage="calibrate"), tries=tries,
                                        prompts=prompts)

    found = wait(decide())
    scored = gate.decide([row.item for row in rows], whole=True)  # an opening's score is none to try thresholds on
    splits = {row.split for row in rows}
    groups = {"all": rows} if len(splits) == 1 else {s: [r for r in rows if r.split == s] for s in sorted(splits)}
    said = {row.row: u for row, u in zip(rows, found, strict=True)}
    report = GateReport({name: figures(group, [said[r.row] for r in group]) for name, group in groups.items()},
                        sweep(rows, scored), (*gate.deciders, *(["judge"] if judge else [])), gate.threshold)
    write_atomic(out / "usefulness.json", dump_json({
        "deciders": list(report.deciders), "threshold": report.threshold,
        "figures": {name: f.as_dict() for name, f in report.figures.items()},
        "sweep": [{"threshold": s.threshold, "precision": s.refused_rightly.as_dict(),
                   "recall": s.refused.as_dict(), "kept": s.kept.as_dict()} for s in report.steps]}, indent=2) + "\n")
    write_jsonl(out / "decided.jsonl", ({"row": row.row, "label": row.answers, **u.model_dump(mode="json")}
                                        for row, u in zip(rows, found, strict=True)))
    return report


def calibrate(labelled: AnyPath, out: AnyPath, *, judge: str = "embedded", model: str | None = None,
              api_key_env: str = "OPENAI_API_KEY", concurrency: int = 16, low: float = 1, high: float = 5,
              samples: int = 1, tries: int = 3, prompts: str | None = None,
              prompt_variant: Variant = "full") -> Calibration:
    """Measure a judge against labelled rows: accuracy, kappa, position bias, unread replies.

    Args:
        labelled: rows of pairs, criteria or scores with their labels (docs/judge.md).
        out: folder for calibration.json, judged.jsonl and the log of replies.
        judge: a URL, ``embedded``, or ``embedded:/path/to.gguf``.
        model: its name there; default the first it serves.
        api_key_env: environment variable that holds the key.
        concurrency: requests in flight.
        low, high: the ends of the scale of scores.
        samples: scores averaged per row.
        tries: requests per judgement.
        prompts: folder with judge templates of your own.
        prompt_variant: ``full`` or ``small``, as the option of the methods.

    Raises:
        UserError: a row is wrong, or the judge cannot be reached.
    """
    out, rows = Path(out), read_labelled(Path(labelled), low, high)

    async def ask() -> Calibration:
        async with judge_at(judge, out, name=model, api_key_env=api_key_env, concurrency=concurrency) as asked:
            return await measure_judge(partial(asked.chat, stage="calibrate"), rows, low=low, high=high,
                                       samples=samples, tries=tries, prompts=prompts, variant=prompt_variant)

    found = wait(ask())
    figures = {kind: f.as_dict() for kind, f in found.figures.items()}
    write_atomic(out / "calibration.json", dump_json(figures, indent=2) + "\n")
    write_jsonl(out / "judged.jsonl", found.judged)
    return found
