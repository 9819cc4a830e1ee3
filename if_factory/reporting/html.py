"""One self-contained HTML page about a run: where records went, what it cost, what came out, what it helped.

The page is made from files only: a run folder, and where they exist the results of an evaluation and the output
folders of training. What is not there yet is left out and named. Model text is untrusted: the template escapes
everything, and the page's content policy forbids scripts and anything from outside.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from if_factory.errors import UserError
from if_factory.files import read_text, write_atomic
from if_factory.pipeline.rundir import RunDir
from if_factory.records import Candidate, Outcome, Record
from if_factory.reporting import plots

MARKS = {Outcome.PASS: "✓", Outcome.FAIL: "✗", Outcome.NO_VERDICT: "?"}


def write_report(run_folder: Path | str, *, evaluation: Path | None = None, saves: Path | None = None,
                 out: Path | None = None, samples: int = 6) -> Path:
    """Write the page and return its path (default ``<run folder>/report.html``).

    Args:
        evaluation: folder with ``results.json`` and ``ranking.json``; default ``<run folder>/evaluation``.
        saves: folder whose subfolders are the ``output_dir`` of training stages; default ``<run folder>/saves``.
        samples: records shown, spread evenly over the run; and as many with a failing answer.

    Raises:
        UserError: no finished run in the folder, or a file of it is broken.
    """
    folder = Path(run_folder)
    page = render(folder, evaluation=evaluation or folder / "evaluation", saves=saves or folder / "saves",
                  samples=samples)
    target = out or folder / "report.html"
    write_atomic(target, page)
    return target


def render(folder: Path, *, evaluation: Path, saves: Path, samples: int = 6) -> str:
    """The page as text; a function of the files alone, so the same files give the same page."""
    run = RunDir(folder)
    ledger = run.ledger().to_dict()
    # Format 1 was written before anybody decided which answers are useful: it has no headline.
    records, results = run.records(), _results(evaluation / "results.json", "evaluate", (1, 2))
    ranking = _results(evaluation / "ranking.json", "rank", (1,))
    stages = training_stages(saves)
    pictures = {
        "funnel": lambda: plots.funnel(ledger),
        "headline": lambda: plots.headline(results) if results and results.get("headline") else None,
        "pass_rates": lambda: plots.pass_rates(results) if results else None,
        "ranking": lambda: plots.ranking(ranking) if ranking else None,
        "losses": lambda: plots.loss_curves(stages) if stages else None,
    }
    usage = run.usage()
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}"
    environment.filters["count"] = lambda n: f"{n:,}"
    return environment.get_template("report.html.jinja").render(
        name=folder.resolve().name, recipe=run.recipe(), complete=run.complete(), ledger=ledger,
        emission=run.emission(), usefulness=run.usefulness(), usage=usage, total=_total(usage), records=len(records),
        difficulties=_difficulties(records), results=results, ranking=ranking, stages=stages,
        good=[_shown(r, c) for r, c in _spread(_first(records, lambda c: c.verified and c.useful), samples)],
        bad=[_shown(r, c) for r, c in _spread(_first(records, lambda c: bool(c.failed_positions)), samples)],
        dropped=run.dropped()[:50], dropped_total=len(run.dropped()),
        plots={name: _picture(draw) for name, draw in pictures.items()})


def training_stages(saves: Path) -> dict[str, Path]:
    """Output folders under ``saves`` (or ``saves`` itself) that hold a trainer log, in the order of names."""
    logs = sorted({p.parent for name in ("trainer_log.jsonl", "trainer_state.json")
                   for p in saves.glob(f"**/{name}") if not p.parent.name.startswith("checkpoint-")})
    return {str(p.relative_to(saves)) if p != saves else saves.name: p for p in logs}


def _results(path: Path, command: str, formats: tuple[int, ...]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(read_text(path))
        if found["format"] in formats:
            return dict(found)
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError("not the results of an evaluation", where=str(path),
                    fix=f"make it again with `if-factory {command}`")


def _picture(draw: Callable[[], Any]) -> Markup | None:
    """Inline SVG; ``None`` where matplotlib is missing or there is nothing to draw (the tables say it all)."""
    if importlib.util.find_spec("matplotlib") is None:
        return None
    figure = draw()
    return Markup(plots.svg(figure)) if figure else None  # noqa: S704 our own drawing, all text in it is paths


def _total(usage: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("answers", "failed", "prompt_tokens", "completion_tokens", "truncated", "filtered")
    costs = [row["cost"] for row in usage]
    return {**{k: sum(row[k] for row in usage) for k in keys},
            "cost": None if any(c is None for c in costs) else sum(costs)}


def _difficulties(records: list[Record]) -> list[dict[str, Any]]:
    """Per difficulty: records, and for each source of answers how many records have a verified one of it."""
    sources = sorted({c.source for r in records for c in r.candidates})
    rows = []
    for level in sorted({r.difficulty for r in records}):
        group = [r for r in records if r.difficulty == level]
        rows.append({"level": level, "records": len(group), "verified": {
            s: sum(any(c.source == s and c.verified for c in r.candidates) for r in group) for s in sources}})
    return rows


def _first(records: list[Record], wanted: Callable[[Candidate], bool]) -> list[tuple[Record, Candidate]]:
    """Each record with its last wanted answer: later answers are the corrected ones."""
    found = ((r, next((c for c in reversed(r.candidates) if r.constraints and wanted(c)), None)) for r in records)
    return [(r, c) for r, c in found if c]


def _spread(rows: list[tuple[Record, Candidate]], n: int) -> list[tuple[Record, Candidate]]:
    step = max(1, len(rows) // max(1, n))
    return rows[::step][:n]


def _shown(record: Record, candidate: Candidate) -> Mapping[str, Any]:
    checks = [{"mark": MARKS[v.outcome], "outcome": v.outcome.value, "text": c.text or c.type, "type": c.type,
               "reason": v.reason} for c, v in zip(record.constraints, candidate.verdicts, strict=False)]
    return {"id": record.id, "prompt": record.prompt, "text": candidate.text, "source": candidate.source,
            "model": candidate.model, "checks": checks}
