"""How LLaMA-Factory works through a dataset: shards, batches of 1,000 rows, and what a batch without rows does.

Both of its steps, the converter and the processor, are ``Dataset.map`` calls. The converter's rows are typed 1,000
at a time and every later batch must fit the first; the types of the shards (``preprocessing_num_workers``) must be
equal. A batch of which the processor drops every row returns no columns, and then the whole call raises.
Source: ``datasets`` 4.0.0 ``arrow_writer``, ``arrow_dataset``; llamafactory 0.9.5 ``data/loader.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from if_factory.exporting import arrow
from if_factory.exporting.arrow import Type, Unloadable
from if_factory.exporting.rules import Turns

WRITER_BATCH = 1000  # datasets' writer_batch_size, which LLaMA-Factory leaves as it is


class ConverterTypes:
    """The Arrow types of what the converter returns in one shard, a thousand rows at a time."""

    def __init__(self) -> None:
        self.first: Type | None = None
        self._now = Type("object")
        self._rows = 0

    def add(self, t: Turns, row: int) -> None:
        """The converted row ``row``. Raises ``Unloadable`` if its types do not fit the rows before it."""
        for name, turns in (("_prompt", t.prompt), ("_response", t.response)):
            part = self._part(name)
            part.kind = "list"
            if turns:
                items = part.parts.setdefault("[]", Type())
                items.kind = "object"
                content = items.parts.setdefault("content", Type())
                for _, text in turns:
                    self._learn(content, text, row, "messages")
        self._learn(self._part("_system"), t.system, row, "system")
        self._learn(self._part("_tools"), t.tools, row, "tools")
        self._rows += 1
        if self._rows == WRITER_BATCH:
            self.flush(row)

    @property
    def room(self) -> int:
        """The number of rows that the open batch still takes, at least 1."""
        return WRITER_BATCH - self._rows

    def add_texts(self, rows: int, system: bool, row: int) -> None:
        """``rows`` alpaca rows, at most ``room``, of which only texts are known; ``row``: the last one's number.

        ``system``: at least one of them has a system prompt. Raises ``Unloadable`` as ``add`` does.
        """
        t = Turns([("user", "")], [("assistant", "")], "" if system else None)
        self._rows += rows - 1
        self.add(t, row)

    def _part(self, name: str) -> Type:
        part = self._now.parts.get(name)
        if part is None:
            part = self._now.parts[name] = Type()
        return part

    @staticmethod
    def _learn(t: Type, value: Any, row: int, what: str) -> None:
        if value is None or (t.kind == "string" and type(value) is str):
            return
        try:
            arrow.learn(t, value, "python", row, what)
        except Unloadable as e:
            raise Unloadable(f"{e.reason} (after conversion)", row=row, field=what) from None

    def flush(self, row: int) -> None:
        """The end of a batch or of the shard."""
        if not self._rows:
            return
        for part in (self._part("_prompt"), self._part("_response")):
            part.parts.setdefault("[]", Type())
        now, self._now, self._rows = self._now, Type("object"), 0
        if self.first is None:
            self.first = now
            return
        try:
            arrow.fits(self.first, now, lambda path: (), f"the first {WRITER_BATCH} rows")
        except Unloadable as e:
            name = e.field.partition(".")[0].partition("[")[0].lstrip("_")
            what = {"prompt": "messages", "response": "the answers"}.get(name, name)
            raise Unloadable(f"{what}: empty in all of the first {WRITER_BATCH} rows and not in a later batch, "
                             "whose type LLaMA-Factory then refuses: put a row that has it first"
                             if "empty" in e.reason else f"{what} {e.reason}", row=row, field=name) from None


def types_agree(found: Sequence[Type]) -> str | None:
    """The name of a column whose types differ between shards, or ``None``."""
    for name in ("_prompt", "_response", "_system", "_tools"):
        kinds = [t.parts[name] for t in found if t.parts[name].kind != "null"]
        if any(not kinds[0].same(other) for other in kinds[1:]):
            return name.lstrip("_")
    return None
