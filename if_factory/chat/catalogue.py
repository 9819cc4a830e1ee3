"""The list of models that a server serves: which of them chat, and what a server says its model is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_NO_CHAT = re.compile(r"embed|rerank|(?:^|[/_-])(?:bge|e5|gte|jina|nomic|colbert|minilm|whisper|tts|stt|asr|"
                      r"clip|dall-e|sdxl|flux|moderation|reward|classifier)(?:[._-]|\d|$)", re.IGNORECASE)
_KINDS = ("type", "task", "object_type", "model_type", "category")


def listed(body: bytes) -> list[dict[str, Any]]:
    """The entries of a ``/models`` answer, each with an ``id``; none if it is not such a list."""
    try:
        data = json.loads(body)
        entries = data["data"] if isinstance(data, dict) else data
        return [dict(entry) for entry in entries if entry["id"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def chat_models(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids that can be chat models, in the server's order: by what it says of each, else by name."""
    return [str(entry["id"]) for entry in entries if _can_chat(entry)]


def _can_chat(entry: Mapping[str, Any]) -> bool:
    capabilities = entry.get("capabilities")
    if isinstance(capabilities, dict) and isinstance(able := capabilities.get("completion_chat"), bool):
        return able
    if isinstance(capabilities, list) and capabilities and all(isinstance(each, str) for each in capabilities):
        return any(each in ("completion", "chat", "chat_completion", "chat-completion", "text-generation", "tools")
                   for each in capabilities)
    kinds = " ".join(str(entry[key]) for key in _KINDS if isinstance(entry.get(key), str))
    return not (_NO_CHAT.search(kinds) or _NO_CHAT.search(str(entry["id"])))


def about(entries: Sequence[Mapping[str, Any]], model: str) -> dict[str, Any]:
    """What tells one model from another under the same name: ``root`` (vLLM, SGLang: what was loaded; its last
    part, as folders move) and ``size``, ``n_params``, ``n_vocab`` (llama.cpp). Empty where nothing is said."""
    entry = next((e for e in entries if e["id"] == model), None) or {}
    meta = entry.get("meta")
    found = {key: meta[key] for key in ("size", "n_params", "n_vocab") if isinstance(meta, dict) and key in meta}
    root = str(entry.get("root") or "").rstrip("/").rpartition("/")[2]
    if root and root != model.rpartition("/")[2]:
        found["root"] = root
    return found
