"""SFT rows as LLaMA-Factory's version 1 (``USE_V1=1``) holds them itself, so that no converter comes between.

A message has its own ``loss_weight`` there: the last answer is trained; those of the history are only where the method
verified them. Its ``alpaca`` converter has no history and makes an empty system message of an empty ``system``; its
``sharegpt`` one trains every answer. Source: llamafactory 0.9.5 ``v1/utils/types.py``, ``v1/core/data_engine.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from if_factory.errors import UserError
from if_factory.records import Example, SFTExample


def v1_row(e: Example, every_answer: bool = False) -> dict[str, Any]:
    """``{"messages": [{role, content, loss_weight}]}``; the system prompt is the first message. ``every_answer``: those
    of the history were verified too and are trained.

    Raises:
        UserError: an example that is not for SFT.
    """
    if not isinstance(e, SFTExample):
        raise UserError("LLaMA-Factory's version 1 trains SFT only; its DPO trainer is not there yet",
                        where="--format v1", fix="use alpaca or sharegpt, without USE_V1")
    talk = [_message("system", e.system, 0.0)] if e.system else []
    talk += [_message(turn.role, turn.content, float(every_answer and turn.role == "assistant")) for turn in e.history]
    return {"messages": [*talk, _message("user", e.prompt, 0.0), _message("assistant", e.response, 1.0)]}


def v1_dataset(name: str, path: Path) -> str:
    """The YAML that ``train_dataset`` names; a relative path counts from where training is started."""
    return yaml.safe_dump({name: {"path": path.as_posix(), "source": "local"}}, sort_keys=False)


def _message(role: str, text: str, loss_weight: float) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "value": text}], "loss_weight": loss_weight}
