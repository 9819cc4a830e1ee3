"""How results look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from if_factory.chat.budget import Usage
    from if_factory.export.acceptance import CheckReport
    from if_factory.export.dataset_info import MergeReport
    from if_factory.export.formats import Written
    from if_factory.methods.base import Emission
    from if_factory.pipeline.ledger import Ledger
    from if_factory.pipeline.runner import RunResult
    from if_factory.records import Record

console = Console()
_MARK = {"pass": ("✓", "green"), "fail": ("✗", "red"), "no_verdict": ("?", "yellow")}


def show_records(records: Sequence[Record], emission: Emission) -> None:
    """Each record as a panel: the prompt, and every answer with a mark per constraint."""
    for record in records:
        body = Text(record.prompt + "\n", style="bold")
        for c in record.candidates:
            body.append(f"\n{c.source} ", style="cyan")
            for v in c.verdicts:
                body.append(_MARK[v.outcome][0], style=_MARK[v.outcome][1])
            body.append(f" {c.finish_reason}" if c.finish_reason != "stop" else "", style="yellow")
            body.append(f"\n{c.text}\n")
            for constraint, v in zip(record.constraints, c.verdicts, strict=True):
                if not v.passed:
                    body.append(f"  {_MARK[v.outcome][0]} {constraint.type}: {v.reason}\n", style="dim")
        console.print(Panel(body, title=f"{record.id}  difficulty {record.difficulty:g}", title_align="left"))
    show_emission(emission)


def show_run(folder: Path, result: RunResult, usage: Usage, emission: Emission) -> None:
    show_ledger(result.ledger)
    show_emission(emission)
    total = usage.total()
    cost = "unknown" if total.cost is None else f"{total.cost:.4f} USD"
    console.print(f"requests {total.requests:,} asked, {total.replayed:,} from the log; tokens "
                  f"{total.prompt_tokens:,} in, {total.completion_tokens:,} out; truncated {total.truncated:,}; "
                  f"retries {total.retries:,}; cost {cost}")
    if asked := requests_per_row(usage, emission):
        console.print("requests per emitted row: " + ", ".join(f"{role} {n:.1f}" for role, n in asked.items()))
    if result.complete:
        console.print(f"next: if-factory export {folder} --into <LLaMA-Factory>/data", highlight=False)
    else:
        console.print(f"[yellow]stopped by {result.stopped_by}[/]: the same command continues where it was; "
                      "`export` takes what is finished so far")


def requests_per_row(usage: Usage, emission: Emission) -> dict[str, float]:
    """Role -> answers that this run took, now or from the log, per row of any dataset; empty without rows."""
    rows = emission.rows.total()
    asked: dict[str, int] = {}
    for (_, role), tally in usage.tallies.items():
        asked[role] = asked.get(role, 0) + tally.requests + tally.replayed
    return {role: n / rows for role, n in sorted(asked.items()) if n} if rows else {}


def show_ledger(ledger: Ledger) -> None:
    table = Table("stage", "in", "out", "dropped", "unfinished", "reasons", title="ledger", title_justify="left")
    for row in ledger.rows:
        reasons = ", ".join(f"{why} {n}" for why, n in sorted(row.dropped.items()))
        table.add_row(row.stage, str(row.taken), str(row.produced), str(row.dropped.total()),
                      str(row.unfinished), reasons)
    console.print(table)


def show_emission(emission: Emission) -> None:
    table = Table("data", "rows", "not emitted, by reason (records)", title="verified rows", title_justify="left")
    for kind, counts in emission.counts().items():
        why = ", ".join(f"{reason} {n}" for reason, n in counts["refused"].items())
        table.add_row(kind, str(counts["rows"]), why)
    console.print(table)


def show_export(written: Sequence[Written], emission: Emission, report: MergeReport) -> None:
    table = Table("dataset", "rows written", "rows accepted", "file")
    for w in written:
        table.add_row(w.name, str(w.written), str(w.accepted), w.path.name)
    console.print(table)
    show_emission(emission)
    merged = {"added": report.added, "replaced": report.replaced, "unchanged": report.unchanged}
    changes = "; ".join(f"{what} {', '.join(names)}" for what, names in merged.items() if names)
    console.print(f"{report.path}: {changes}", highlight=False)


def show_check(reports: Sequence[CheckReport], limit: int | None) -> None:
    for report in reports:
        style = "green" if report.ok else "red"
        console.print(f"[bold]{report.name}[/]  {report.rows} rows, [{style}]{report.accepted} accepted[/]")
        if report.note:
            console.print(f"  {report.note}", highlight=False, markup=False)
        for problem in report.problems[:limit]:
            console.print(f"  {problem}", highlight=False, markup=False)
        if limit is not None and len(report.problems) > limit:
            console.print(f"  ... and {len(report.problems) - limit} more (--all-problems)")
