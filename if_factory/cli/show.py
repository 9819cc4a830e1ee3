"""How results look in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from if_factory.api import BatchReport, Contamination, ExportReport, Plan, RlReport, RunReport, WaveReport
    from if_factory.api.calibrating import GateReport
    from if_factory.chat.budget import Usage
    from if_factory.exporting.acceptance import CheckReport
    from if_factory.judge.calibration import Calibration
    from if_factory.methods.base import Emission
    from if_factory.pipeline.ledger import Ledger
    from if_factory.records import Record

# Names, reasons and prompts are shown as they are: `x[/b]` is no markup and `:smile:` no sign.
console = Console(markup=False, emoji=False)
_UNFINISHED = Text("not finished", style="yellow")
_MARK = {"pass": ("✓", "green"), "fail": ("✗", "red"), "no_verdict": ("?", "yellow")}


def counted(n: int, what: str) -> str:
    """``1 row``, ``2 rows``."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _span(low: float, high: float, form: str = ",") -> str:
    """``3 - 5``, or one figure where both are shown alike."""
    ends = f"{low:{form}}", f"{high:{form}}"
    return ends[0] if ends[0] == ends[1] else " - ".join(ends)


def show_plan(planned: Plan, tokens_per_second: float) -> None:
    """Requests and tokens by stage and role, and what they come to."""
    seeds = counted(planned.seeds, "seed")
    if not planned.calls:
        console.print(f"{seeds}: no calls; code does all of it")
        return
    table = Table("stage", "role", "requests", "prompt tokens", "completion tokens", title=seeds, title_justify="left")
    for c in planned.calls:
        table.add_row(c.stage, c.role, *(_span(c.low * each, c.high * each)
                                         for each in (1, c.prompt_tokens, c.completion_tokens)))
    console.print(table)
    console.print(f"time   {_span(*planned.minutes, '.0f')} min at {tokens_per_second:g} output tokens/s")
    if planned.unbounded:
        console.print(f"bound  none: {', '.join(planned.unbounded)} without max_tokens, so answers may be as long "
                      "as the server allows; the figures take its usual length")
    else:
        console.print(f"bound  {planned.most_tokens:,} completion tokens, every answer at its max_tokens")
    console.print("price  unknown (a model has no `price`)" if planned.usd is None
                  else f"price  {_span(*planned.usd, '.2f')} USD")


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
        title = Text(f"{record.id}  difficulty {record.difficulty:g}")
        console.print(Panel(body, title=title, title_align="left"))
    show_emission(emission)


def show_run(report: RunReport) -> None:
    """The ledger, the rows, what was asked, and the next command."""
    show_ledger(report.result.ledger)
    show_emission(report.emission)
    total = report.usage.total()
    cost = "unknown" if total.cost is None else f"{total.cost:.4f} USD"
    console.print(f"requests {total.requests:,} asked, {total.replayed:,} from the log; tokens "
                  f"{total.prompt_tokens:,} in, {total.completion_tokens:,} out; truncated {total.truncated:,}; "
                  f"retries {total.retries:,}; cost {cost}")
    if asked := requests_per_row(report.usage, report.emission):
        console.print("requests per emitted row: " + ", ".join(f"{role} {n:.1f}" for role, n in asked.items()))
    if report.batch:
        show_wave(report.batch)
    if report.complete and not report.emission.rows.total():
        console.print("no rows to export: the tables above say why")
    elif report.complete:
        console.print(f"next: if-factory export {report.folder} --into <LLaMA-Factory>/data", highlight=False)
    elif report.result.stopped_by != "batch":
        console.print(Text(f"stopped by {report.result.stopped_by}", style="yellow"),
                      f"{report.result.to_continue}; `export` takes what is finished so far", sep=": ")
    if report.sandbox:
        console.print(f"generated code was isolated by {report.sandbox}", highlight=False)


def show_wave(wave: WaveReport) -> None:
    """What was written into batch files, and the commands that go on from there."""
    if wave.lost:
        console.print(f"{wave.lost:,} requests are lost for good; {wave.folder}/unanswered.jsonl says why, and without "
                      "it they are asked again", highlight=False)
    if not wave.open_files:
        return
    console.print(_UNFINISHED, f"wave {wave.number} has {wave.opened:,} new requests in "
                  f"{counted(len(wave.files), 'file')}; {wave.waiting:,} requests of earlier files have no results yet",
                  sep=": ", highlight=False)
    table = Table("file", "requests", "MB", "state", "model", title=f"batch files in {wave.folder}",
                  title_justify="left")
    for file in wave.open_files:
        table.add_row(file.name, f"{file.requests:,}", f"{file.bytes / 1e6:.1f}", file.state, file.model)
    console.print(table)
    local = next((f for f in wave.open_files if f.state == "written"), None)
    served = [f for f in wave.open_files if not f.endpoint.startswith("vllm:")]
    console.print("next:", highlight=False)
    if served:
        console.print(f"  if-factory batch submit {wave.folder}; then, until it ends with status 0: "
                      f"if-factory batch fetch {wave.folder}", highlight=False, soft_wrap=True)
    if local:
        path = wave.folder / local.name
        model = local.endpoint.removeprefix("vllm:") if local.endpoint.startswith("vllm:") else local.model
        named = "" if model == local.model else f" --served-model-name {local.model}"
        console.print(f"  {'or ' if served else ''}for each file: vllm run-batch -i {path} -o "
                      f"{wave.folder / local.beside('.output.jsonl')} --model {model}{named}; "
                      f"then if-factory batch fetch {wave.folder}", highlight=False, soft_wrap=True)
    console.print("  then the same run again, for the next wave", highlight=False)


def show_batch(report: BatchReport) -> None:
    """Each file's state, and what was read."""
    from if_factory.batches.answers import MEANINGS

    table = Table("file", "requests", "state", "batch", "now", title=f"batch files in {report.folder}",
                  title_justify="left")
    shown = [f for f in report.files if f.state != "done" or f.name in report.news]
    for file in shown:
        state = f"{file.state}, {file.status}" if file.status else file.state
        table.add_row(file.name, f"{file.requests:,}", state, file.batch_id, report.news.get(file.name, ""))
    if shown:
        console.print(table)
    if done := len(report.files) - len(shown):
        console.print(f"done: {counted(done, 'file')}", highlight=False)
    for kind, n in report.counts.items():
        console.print(f"{n:,} {MEANINGS[kind]}", highlight=False)
    if report.open_files:
        console.print(_UNFINISHED, f"no results yet for {counted(len(report.open_files), 'file')}", sep=": ",
                      highlight=False)
    else:
        console.print("next: run again with --batch, for the next wave or the end", highlight=False)


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
    show_usefulness(emission)


def show_usefulness(emission: Emission) -> None:
    """Who decided whether answers attempt their requests, and one refused text per reason."""
    who = list(emission.deciders)
    console.print("usefulness was decided by rules only" if who == ["rules"]
                  else f"usefulness was decided by {', '.join(who)}")
    for reason, refusals in sorted(emission.shown.items()):
        for refusal in refusals[:1]:
            asked, said = (" ".join(t.split()) for t in (refusal.asked, refusal.text))
            console.print(Text(f"  {reason}: ", style="yellow").append(f"{asked[:100]} -> {said[:160]}", style="dim"))


def show_unfinished(ledger: Ledger) -> None:
    """What a stopped run leaves out of an export."""
    if unfinished := sum(row.unfinished for row in ledger.rows):
        console.print(_UNFINISHED, f"the run was stopped; {counted(unfinished, 'record')} of it had not reached the "
                      "end and cannot be exported yet; `if-factory run` continues it", sep=": ", soft_wrap=True)


def show_export(report: ExportReport, ledger: Ledger) -> None:
    """Rows written and accepted by dataset, what was refused, and what became of dataset_info.json.

    ``ledger``, the run's, says why there may be nothing.
    """
    if not report.datasets:
        dropped = sum((row.dropped for row in ledger.rows), Counter[str]())
        why = ", ".join(f"{reason} {n}" for reason, n in sorted(dropped.items())) or "none"
        show_emission(report.emission)
        console.print(f"nothing to export: no rows; dropped in the run: {why}")
        return
    table = Table("dataset", "rows written", "rows accepted", "file")
    for w in report.datasets:
        table.add_row(w.name, str(w.written), str(w.accepted), w.path.name)
    console.print(table)
    show_emission(report.emission)
    if report.general:
        console.print(report.general.note(), highlight=False)
    if report.card:
        console.print(f"dataset card: {report.card}", highlight=False)
    merged = report.merged
    kinds = {"added": merged.added, "replaced": merged.replaced, "unchanged": merged.unchanged}
    changes = "; ".join(f"{what} {', '.join(names)}" for what, names in kinds.items() if names)
    console.print(f"entries in {merged.path}: {changes or 'none'}", highlight=False)
    if report.left_over:
        console.print(f"left from an earlier export of this name, and still registered: {', '.join(report.left_over)}",
                      highlight=False)


def show_rl(report: RlReport) -> None:
    """The files, how many prompts there are and were left out, and how the trainer is told of them."""
    console.print(f"{report.data}: {report.rows} prompts, the student's pass rate measured for {report.measured}",
                  highlight=False)
    if report.refused:
        console.print("left out: " + ", ".join(f"{why} {n}" for why, n in sorted(report.refused.items())))
    if report.reward is not None:
        console.print(f"{report.reward}: the reward function", highlight=False)
    console.print(f"for the trainer: {report.use}", highlight=False, soft_wrap=True)
    sizes = ", ".join(f"{name} {n}" for name, n in report.datasets.items())
    console.print(f"{report.merged.path}: {sizes}", highlight=False)


def rows_read(rows: int) -> None:
    """Progress of `check` on a large file, where someone looks on."""
    import sys

    if sys.stderr.isatty() and rows > 50_000:
        print(f"\r{rows:,} rows", end="", file=sys.stderr, flush=True)


def show_check(reports: Sequence[CheckReport], limit: int | None) -> None:
    for report in reports:
        head = Text.assemble((report.name, "bold"), f"  {counted(report.rows, 'row')}, ",
                             (f"{report.accepted} accepted", "green" if report.ok else "red"))
        console.print(head, soft_wrap=True)
        if report.note:
            console.print(f"  {report.note}", highlight=False)
        for line in report.cut_lines:
            console.print(f"  {line}", highlight=False)
        for problem in report.problems[:limit]:
            console.print(f"  {problem}", highlight=False)
        if limit is not None and len(report.problems) > limit:
            console.print(f"  ... and {len(report.problems) - limit} more (--all-problems)")


def show_contamination(dataset: str, found: Contamination, *, cosine: float, ngram: int) -> None:
    """One line per benchmark."""
    table = Table("benchmark", "prompts", f"sharing {ngram} words", f"of cosine >= {cosine:g}",
                  "benchmark prompts rephrased", title_justify="left",
                  title=f"{dataset}: {found.rows} rows, {found.prompts} prompts")
    for s in found.summaries:
        rephrased = f"{s.rephrased_tests} ({100 * s.rephrased_share:.2f} %)" if found.judged else "not asked"
        table.add_row(s.benchmark, str(s.tests), str(s.shared_ngram), str(s.similar), rephrased)
    console.print(table)


def show_calibration(found: Calibration, judge: str) -> None:
    """One line per kind of judgement, and further shares below; ``judge`` says who was measured."""
    table = Table("kind", "labels", "decided", "accuracy", "95 % interval", "kappa", "unread", title=f"judge: {judge}",
                  title_justify="left")
    for kind, f in found.figures.items():
        table.add_row(kind, str(f.n), str(f.decided), "-" if f.accuracy is None else f"{f.accuracy:.3f}",
                      f"{f.low:.3f} - {f.high:.3f}", "-" if f.kappa is None else f"{f.kappa:.3f}",
                      f"{f.unread / f.n:.3f}")
    console.print(table)
    for kind, f in found.figures.items():
        shares = [f"{name.replace('_', ' ')} {v:.3f}" for name, v in f.more.items() if v is not None]
        if shares:
            console.print(f"{kind}: {', '.join(shares)}", highlight=False)


def show_gate(report: GateReport) -> None:
    """The usefulness gate on labelled answers, by split; then its refusals by reason and by who refused."""
    def cells(share: Any) -> tuple[str, str]:
        low, high = share.interval
        return f"{share.k} of {share.n}", "-" if share.value is None else f"{share.value:.3f} ({low:.3f} - {high:.3f})"

    table = Table("rows", "what", "k of n", "share (95 % interval)",
                  title=f"decided by {', '.join(report.deciders)}; threshold {report.threshold:g}",
                  title_justify="left")
    for split, f in report.figures.items():
        table.add_row(split, "refusals that are right (precision)", *cells(f.refused_rightly))
        table.add_row("", "non-answers refused (recall)", *cells(f.refused))
        table.add_row("", "answers kept", *cells(f.kept))
        for name, share in {**f.by_decider, **f.by_reason}.items():
            table.add_row("", f"  right among {name}", *cells(share))
    console.print(table)
