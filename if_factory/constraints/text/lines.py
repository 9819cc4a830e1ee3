"""Lines, paragraphs and numbered items."""

from __future__ import annotations

import re

from if_factory.constraints.text.normal import later


def lines(text: str) -> list[str]:
    """Lines that are not blank, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def paragraphs(text: str) -> list[str]:
    """Blocks separated by at least one blank line, stripped, none empty."""
    return [p.strip() for p in re.split(r"\n[ \t\r]*\n", text) if p.strip()]


_ITEM = later(r"^[ \t]*(\d{1,6})([.)])[ \t]+(\S.*)$", re.MULTILINE)


def numbered_items(text: str) -> list[tuple[int, str, str]]:
    """Number, mark (``.`` or ``)``) and text of lines that open with ``1.`` or ``1)`` and a space, outside
    code.
    """
    from if_factory.constraints.text.markdown import without_code

    if not _ITEM.search(text):
        return []
    return [(int(n), mark, item.strip()) for n, mark, item in _ITEM.findall(without_code(text))]
