"""LLaMA-Factory's chat templates, read from the installed one's source without importing it."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """What ``check`` needs to know of a template.

    ``tools`` and ``calls`` are its tool formats; ``thinks``: it adds an empty thinking block, with loss, to
    answers that have none; ``media``: it looks at ``<image>`` and the like in the text.
    """

    name: str = ""
    tools: str = "default"
    calls: str = "default"
    thought_words: tuple[str, str] | None = ("<think>\n", "\n</think>\n\n")
    call_words: tuple[str, str] | None = ("<tool_call>", "</tool_call>")
    thinks: bool = False
    media: bool = False


PLAIN = TemplateFacts()


@cache
def templates() -> Mapping[str, TemplateFacts]:
    """The templates of the installed LLaMA-Factory; empty when none is installed.

    Read as text: importing llamafactory costs seconds and fails in a broken environment.
    """
    spec = importlib.util.find_spec("llamafactory")
    if spec is None or not spec.origin:
        return {}
    source = Path(spec.origin).parent / "data" / "template.py"
    if not source.is_file():
        return {}
    found = {}
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and \
                getattr(node.value.func, "id", "") == "register_template":
            facts = _facts({k.arg: k.value for k in node.value.keywords if k.arg})
            found[facts.name] = facts
    return found


def _facts(given: dict[str, ast.expr]) -> TemplateFacts:
    def inner(key: str, argument: str) -> Any:
        call = given.get(key)
        words = {k.arg: k.value for k in call.keywords} if isinstance(call, ast.Call) else {}
        return _literal(words.get(argument))

    cls = getattr(given.get("template_class"), "id", "Template")
    words = None if cls == "Llama2Template" else ""  # that class passes neither thoughts nor call words on
    media = inner("mm_plugin", "name") or (_first(given.get("mm_plugin")) if "mm_plugin" in given else "base")
    return TemplateFacts(
        str(_literal(given.get("name"))),
        tools=inner("format_tools", "tool_format") or "default",
        calls=inner("format_function", "tool_format") or "default",
        thought_words=None if words is None else _literal(given.get("thought_words")) or PLAIN.thought_words,
        call_words=None if words is None else _literal(given.get("tool_call_words")) or PLAIN.call_words,
        thinks="Reasoning" in cls, media=media != "base")


def _first(call: ast.expr | None) -> Any:
    return _literal(call.args[0]) if isinstance(call, ast.Call) and call.args else None


def _literal(node: ast.expr | None) -> Any:
    try:
        return ast.literal_eval(node) if node is not None else None
    except ValueError:
        return None


def template_names() -> frozenset[str]:
    """The names of the installed LLaMA-Factory's templates; empty when none is installed."""
    return frozenset(templates())


def template_problem(name: str) -> str | None:
    """Why ``name`` is no template of the installed LLaMA-Factory; ``None`` if it is one or none is installed."""
    known = template_names()
    if not known or name in known:
        return None
    near = get_close_matches(name, known, n=3)
    return f"unknown template '{name}'" + (f"; did you mean {' or '.join(near)}?" if near else "")
