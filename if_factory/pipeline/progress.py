"""The live display of a run: a table on a terminal, a plain line now and then in a log file.

It reads the runner's counters a few times a second from a thread of its own; nothing is sent to it, so a run
costs the same with and without it.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from if_factory.chat.budget import Tally, Usage
from if_factory.chat.client import ChatClient
from if_factory.pipeline.ledger import Ledger, Row

_HZ = 3  # redraws per second


class Progress:
    """An ``Observer``.

    Args:
        file: where to show; a table is drawn if it is a terminal.
        every: seconds between plain lines if it is not.
    """

    def __init__(self, file: TextIO | None = None, every: float = 15) -> None:
        self.console = Console(file=file or sys.stderr, markup=False, emoji=False)
        self.every = every
        self._live: Live | None = None
        self._ticker: threading.Thread | None = None
        self._over = threading.Event()
        self._speed = _Speed()

    def start(self, ledger: Ledger, models: Mapping[str, ChatClient], total: int | None) -> None:
        self.ledger, self.models, self.total = ledger, models, total
        self.usage = next((m.usage for m in models.values()), Usage())  # a run's models share one
        self._speed = _Speed()
        self._over.clear()
        if self.console.is_terminal:
            self._live = Live(get_renderable=self.table, console=self.console, refresh_per_second=_HZ,
                              redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        else:
            self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
            self._ticker.start()

    def stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None
        if self._ticker:
            self._over.set()
            self._ticker.join()
            self._ticker = None
            print(self.line(), file=self.console.file, flush=True)

    def _tick(self) -> None:
        while not self._over.wait(self.every):
            print(self.line(), file=self.console.file, flush=True)

    # ------------------------------------------------------------------ what is shown

    def line(self) -> str:
        """One line for a log file."""
        last, tally = self.ledger.rows[-1], self.usage.total()
        dropped = sum(row.dropped.total() for row in self.ledger.rows)
        of = f"/{self.total}" if self.total is not None else ""
        return (f"seeds {self.ledger.rows[0].taken}{of}  finished {last.produced}  dropped {dropped}  "
                + "  ".join(self._facts(tally)))

    def table(self) -> RenderableType:
        """The rows of the ledger, what the models did, and how far the run is."""
        rows = Table(box=None, pad_edge=False, header_style="dim")
        rows.add_column("stage")
        for name in ("in", "out", "at work", "dropped"):
            rows.add_column(name, justify="right", min_width=8)
        rows.add_column("why", style="dim", no_wrap=True, overflow="ellipsis")
        for row in self.ledger.rows:
            dropped = dict(row.dropped)  # a copy: the run goes on while this is drawn
            why = ", ".join(f"{reason} {n}" for reason, n in sorted(dropped.items(), key=lambda kv: -kv[1])[:3])
            rows.add_row(row.stage, f"{row.taken:,}", f"{row.produced:,}", f"{_open(row):,}",
                         f"{sum(dropped.values()):,}", why)
        facts = Text("  ".join(self._facts(self.usage.total())), style="dim", no_wrap=True, overflow="ellipsis")
        bar = [ProgressBar(total=1, completed=self.share(), width=60)] if self.total is not None else []
        return Group(rows, *bar, facts)

    def share(self) -> float:
        """How much of the run is done, 0 to 1: the mean over stages of the records that have left each one.

        What has not been made yet is taken to be as many per seed as so far. A stage that asks no model takes no time.
        """
        if not self.total:
            return 0.0
        expected, parts = float(self.total), []
        asking = {stage for stage, _ in list(self.usage.tallies)}
        for row in self.ledger.rows[1:]:
            done = row.advanced + row.dropped.total()
            if not asking or row.stage in asking or not row.taken:
                parts.append(min(1.0, done / expected) if expected else 1.0)
            if done:
                expected *= row.produced / done
        return sum(parts) / len(parts) if parts else 0.0

    def _facts(self, tally: Tally) -> list[str]:
        in_flight = sum(m.in_flight for m in self.models.values())
        requests_per_s, tokens_per_s = self._speed.of(tally)
        facts = [f"{tally.requests:,} requests, {in_flight} in flight, {requests_per_s:.1f}/s",
                 f"{tokens_per_s:,.0f} tokens/s",
                 f"cost {'?' if tally.cost is None else f'{tally.cost:.4f} USD'}"]
        if tally.replayed:
            facts.append(f"{tally.replayed:,} from the log")
        if tally.retries:
            facts.append(f"{tally.retries:,} retries")
        if tally.failed:
            facts.append(f"{tally.failed:,} failed")
        return [*facts, f"{_clock(self._speed.elapsed)} elapsed, {self._left()} left"]

    def _left(self) -> str:
        share, elapsed = self.share(), self._speed.elapsed
        return _clock(elapsed / share * (1 - share)) if share > 0.02 and elapsed > 2 else "?"


class _Speed:
    """Requests and completion tokens per second over about the last ten seconds."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._marks = [(self.started, 0, 0)]

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def of(self, tally: Tally) -> tuple[float, float]:
        now = time.monotonic()
        # Tokens of replayed answers were not made now; they are taken out in proportion.
        answers = tally.requests + tally.replayed
        fresh = tally.completion_tokens * tally.requests // answers if answers else 0
        self._marks.append((now, tally.requests, fresh))
        while len(self._marks) > 2 and now - self._marks[1][0] > 10:
            self._marks.pop(0)
        then, requests, tokens = self._marks[0]
        span = max(now - then, 1e-9)
        return max(0.0, (tally.requests - requests) / span), max(0.0, (fresh - tokens) / span)


def _open(row: Row) -> int:
    return max(0, row.taken - row.advanced - sum(dict(row.dropped).values()))


def _clock(seconds: float) -> str:
    minutes, s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"
