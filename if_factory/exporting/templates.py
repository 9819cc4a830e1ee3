"""The names of LLaMA-Factory's chat templates, read from the installed one's source without importing it."""

from __future__ import annotations

import importlib.util
import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path


@cache
def template_names() -> frozenset[str]:
    """The templates of the installed LLaMA-Factory; empty when none is installed.

    Read as text: importing llamafactory costs seconds and fails in a broken environment.
    """
    spec = importlib.util.find_spec("llamafactory")
    if spec is None or not spec.origin:
        return frozenset()
    source = Path(spec.origin).parent / "data" / "template.py"
    if not source.is_file():
        return frozenset()
    return frozenset(re.findall(r'register_template\(\s*name="([^"]+)"', source.read_text(encoding="utf-8")))


def template_problem(name: str) -> str | None:
    """Why ``name`` is no template of the installed LLaMA-Factory; ``None`` if it is one or none is installed."""
    known = template_names()
    if not known or name in known:
        return None
    near = get_close_matches(name, known, n=3)
    return f"unknown template '{name}'" + (f"; did you mean {' or '.join(near)}?" if near else "")
