"""How far an evaluation is: answers done, tokens per second, time left; on the console and in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from if_factory.errors import UserError

_EVERY = 10.0  # seconds between two lines where the console keeps every line; a terminal's line is rewritten


class Progress:
    """Counts answers and tokens of all models together; use as a context manager.

    Args:
        answers: how many will be asked for in all.
        log: file that gets one line per message, with the time; appended to, so that a continued evaluation shows.
        console: where to show it; a terminal sees one line that changes.
        clock: seconds, for tests.
    """

    def __init__(self, answers: int, log: Path, console: TextIO | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.answers, self.done, self.tokens = answers, 0, 0
        self.console = console or sys.stderr
        self._terminal = self.console.isatty()
        self._clock = clock
        self._started: float | None = None
        self._told = -_EVERY
        self._label = ""
        self._width = 0
        self._generating = False
        self._asked = self._in_answers = 0  # answers generated now, and their tokens
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            self._log = log.open("a", encoding="utf-8")
        except OSError as e:
            raise UserError(f"cannot write: {e.strerror or e}", where=str(log)) from None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._terminal and self._width:
            self.console.write("\n")
        self._log.close()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._write(text, stays=True)

    def model(self, label: str, name: str) -> None:
        """The next answers are this model's."""
        self._label, self._generating = label, False
        self.say(f"{label}: {name}")

    def generated(self, tokens: int) -> None:
        """So many tokens more, of answers that may not be finished."""
        if self._started is None:
            self._started = self._clock()
        self._generating = True
        self.tokens += tokens
        self._tell()

    def answer(self, tokens: int) -> None:
        """One answer more. One that comes before its model generated anything was in the log and took no time."""
        self.done += 1
        if self._generating:
            self._asked += 1
            self._in_answers += tokens
        self._tell(last=self.done == self.answers)

    def line(self) -> str:
        """``before: 50 of 200 answers, 312 tokens/s, 2 min 10 s left``."""
        text = f"{self._label}: {self.done} of {self.answers} answers"
        seconds = self._clock() - self._started if self._started is not None else 0.0
        if seconds < 1 or not self.tokens:  # the first tokens have no rate yet
            return text
        rate = self.tokens / seconds
        text += f", {rate:.0f} tokens/s"
        if self._in_answers and self.done < self.answers:
            unfinished = self.tokens - self._in_answers
            wanted = (self.answers - self.done) * self._in_answers / self._asked
            text += f", {_time(max(0.0, wanted - unfinished) / rate)} left"
        return text

    def _tell(self, *, last: bool = False) -> None:
        now = self._clock()
        if last or now - self._told >= (1.0 if self._terminal else _EVERY):
            self._told = now
            self._write(self.line(), stays=last)

    def _write(self, text: str, *, stays: bool) -> None:
        self._log.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        self._log.flush()
        if not self._terminal:
            self.console.write(text + "\n")
        else:
            self.console.write("\r" + text.ljust(self._width) + ("\n" if stays else ""))
            self._width = 0 if stays else len(text)
        self.console.flush()


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
