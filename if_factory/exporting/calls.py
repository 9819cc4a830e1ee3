"""Tools and function calls: what LLaMA-Factory's formatters take and what makes them raise.

Each template names a tool format; the formats differ in what they look at. Restated from llamafactory 0.9.5
``data/formatter.py`` and ``data/tool_utils.py``; nothing is formatted here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from if_factory.exporting.templates import PLAIN, TemplateFacts

_UNWRAP = {"default", "glm4", "minimax1", "minimax2"}  # take tool["function"] of a wrapped tool, "" if it has none
_BY_ARGUMENT = {"minimax2", "qwen3_5", "glm4_moe", "seed_oss", "lfm2"}  # write the arguments one by one


def tools_problem(tools: Any, facts: TemplateFacts = PLAIN) -> str | None:
    """Why the template refuses this tools column of a row, or ``None``."""
    try:
        value = json.loads(tools)
    except RecursionError:
        return "the tools are nested too deeply"
    except (ValueError, TypeError):
        return "the tools are not a JSON string"
    if not isinstance(value, list | dict | str):
        return f"the tools are {value!r:.40}, not a list of tools"
    if len(value) == 0 or facts.tools == "seed_oss":
        return None
    if not isinstance(value, list):
        return "the tools are one tool without a list around it" if isinstance(value, dict) else \
            "the tools are a JSON text, not a list of tools"
    return next((why for tool in value if (why := _tool_problem(tool, facts.tools))), None)


def _tool_problem(tool: Any, form: str) -> str | None:
    if not isinstance(tool, dict):
        return f"a tool is {tool!r:.40}, not an object"
    if form in _UNWRAP or form == "gemma4":
        tool = tool.get("function", "" if form in _UNWRAP else tool) if tool.get("type") == "function" else tool
    if form in ("default", "glm4", "gemma4") and not (isinstance(tool, dict) and "name" in tool):
        return "a tool has no name"
    if form == "default":
        try:
            _default_tool(tool)
        except (TypeError, KeyError, AttributeError):
            return f"the tool {tool['name']!r:.40} has no well-formed `parameters` with `properties`, which " \
                   "the default tool format needs"
    if form == "gemma4":
        try:
            _gemma_tool(tool)
        except (TypeError, KeyError, AttributeError):
            return f"the tool {tool['name']!r:.40} has parameters that are no JSON schema"
    return None


def _default_tool(tool: dict[str, Any]) -> None:
    for name, parameter in tool["parameters"]["properties"].items():
        _ = name in tool["parameters"].get("required", [])
        if parameter.get("enum", None):
            ", ".join(parameter["enum"])
        if parameter.get("items", None):
            parameter["items"].get("type", "")


def _gemma_tool(tool: dict[str, Any]) -> None:
    if parameters := tool.get("parameters"):
        if properties := parameters.get("properties"):
            for _, schema in properties.items():
                schema.get("type")
        if parameters.get("required"):
            list(parameters["required"])
    if response := tool.get("response"):
        response.get("type")


def call_problem(content: str, facts: TemplateFacts = PLAIN) -> str | None:
    """Why the template refuses a function-call turn, or ``None``.

    The call is JSON, one object or a list; thoughts and the words around a call that the template knows
    (``<tool_call>``) may stand beside it.
    """
    said = 'a function call is not JSON {"name": ..., "arguments": ...}'
    try:
        calls = json.loads(_json_part(content, facts))
        calls = calls if isinstance(calls, list) else [calls]
        for call in calls:
            call["name"], call["arguments"]
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        return said
    if facts.calls == "glm4" and len(calls) != 1:
        return "the glm4 tool format takes exactly one function call in a turn"
    if facts.calls in _BY_ARGUMENT and not all(isinstance(c["arguments"], dict) for c in calls):
        return f"the arguments of a function call are not an object, which the {facts.calls} tool format needs"
    if facts.calls in ("glm4_moe", "seed_oss") and not all(isinstance(c["name"], str) for c in calls):
        return "the name of a function call is not a string"
    return None


def _json_part(content: str, facts: TemplateFacts) -> str:
    if facts.call_words and (inside := _between(facts.call_words, content)):
        return inside[1]
    if facts.thought_words and (thought := _between(facts.thought_words, content)):
        return content.replace(thought[0], "")
    return content


def _between(words: tuple[str, str], content: str) -> re.Match[str] | None:
    return re.search(rf"{re.escape(words[0])}(.*?){re.escape(words[1])}", content, re.DOTALL)


CallCheck = Callable[[str], str | None]
