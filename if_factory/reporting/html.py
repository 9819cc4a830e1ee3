"""One self-contained HTML page about a run: where records went, what it cost, what came out, what it helped.

The page is made from files only: a run folder, and where they exist the results of an evaluation and the output
folders of training. What is not there yet is left out and named. Model text is untrusted: the template escapes
everything, and the page's content policy forbids scripts and anything from outside.
"""

from __future__ import annotations

import importlib.util
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    records, results = _Seen(run.iter_records()), _results(evaluation / "results.json", "evaluate", (1, 2))
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
    dropped, dropped_total = [], 0
    for dropped_total, one in enumerate(run.iter_dropped(), 1):
        if dropped_total <= 50:
            dropped.append(one)
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
                                     undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}"
    environment.filters["count"] = lambda n: f"{n:,}"
    return environment.get_template("report.html.jinja").render(
        name=folder.resolve().name, recipe=run.recipe(), complete=run.complete(), ledger=ledger,
        emission=run.emission(), usefulness=run.usefulness(), usage=usage, total=_total(usage), records=records.total,
        difficulties=records.difficulties(), results=results, ranking=ranking, stages=stages,
        good=_samples(run, records.good, _good, samples), bad=_samples(run, records.bad, _bad, samples),
        dropped=dropped, dropped_total=dropped_total,
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


def _good(candidate: Candidate) -> bool:
    return candidate.verified and candidate.useful


def _bad(candidate: Candidate) -> bool:
    return bool(candidate.failed_positions)


class _Seen:
    """What the page says of all records, found out in one pass; of the records themselves only places stay.

    Attributes:
        total: how many there are.
        good, bad: the places (from 0) of those with an answer to show.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.total, self.good, self.bad = 0, array("Q"), array("Q")
        self._records: Counter[float] = Counter()
        self._verified: Counter[tuple[float, str]] = Counter()
        self._sources: set[str] = set()
        for place, record in enumerate(records):
            self.total += 1
            self._records[record.difficulty] += 1
            self._sources.update(c.source for c in record.candidates)
            for source in {c.source for c in record.candidates if c.verified}:
                self._verified[record.difficulty, source] += 1
            for wanted, places in ((_good, self.good), (_bad, self.bad)):
                if record.constraints and any(map(wanted, record.candidates)):
                    places.append(place)

    def difficulties(self) -> list[dict[str, Any]]:
        """Per difficulty: records, and for each source of answers how many records have a verified one of it."""
        return [{"level": level, "records": n, "verified": {s: self._verified[level, s] for s in sorted(self._sources)}}
                for level, n in sorted(self._records.items())]


def _samples(run: RunDir, places: Sequence[int], wanted: Callable[[Candidate], bool], n: int
             ) -> list[Mapping[str, Any]]:
    """Records spread evenly, each with its last wanted answer: later answers are the corrected ones."""
    shown = places[::max(1, len(places) // max(1, n))][:n]
    found = run.records_at(shown)
    return [_shown(found[i], next(c for c in reversed(found[i].candidates) if wanted(c))) for i in shown]


def _shown(record: Record, candidate: Candidate) -> Mapping[str, Any]:
    checks = [{"mark": MARKS[v.outcome], "outcome": v.outcome.value, "text": c.text or c.type, "type": c.type,
               "reason": v.reason} for c, v in zip(record.constraints, candidate.verdicts, strict=False)]
    return {"id": record.id, "prompt": record.prompt, "text": candidate.text, "source": candidate.source,
            "model": candidate.model, "checks": checks}
