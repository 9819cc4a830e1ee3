"""Rows as trl reads them, as conversations: SFT ``prompt, completion`` (or ``messages``); DPO ``prompt, chosen,
rejected``; KTO ``prompt, completion, label``.

trl trains the completion of an SFT row alone, so the answers in a history, which were never verified, have no loss. Of
``messages`` it trains every token, or every answer with ``assistant_only_loss``.

trl takes LLaMA-Factory's alpaca and sharegpt rows too, and trains something else on them (docs/files.md). I-ORPO
has no trainer there. Source: trl 0.24 and 1.16, ``data_utils``.
"""

from __future__ import annotations

from typing import Any

from if_factory.errors import UserError
from if_factory.records import Example, KTOExample, PreferenceExample, SFTExample, TripleExample


def trl_row(e: Example, every_answer: bool = False) -> dict[str, Any]:
    """The system prompt is the first message. ``every_answer``: those of the history were verified too, so an SFT row
    is one conversation, ``messages``.

    Raises:
        UserError: an I-ORPO triple.
    """
    prompt = [_message("system", e.system)] if e.system else []
    prompt += [_message(turn.role, turn.content) for turn in e.history]
    prompt.append(_message("user", e.prompt))
    if isinstance(e, PreferenceExample):
        return {"prompt": prompt, "chosen": [_message("assistant", e.chosen)],
                "rejected": [_message("assistant", e.rejected)]}
    if isinstance(e, KTOExample):
        return {"prompt": prompt, "completion": [_message("assistant", e.response)], "label": e.label}
    if isinstance(e, TripleExample):
        raise UserError("trl has no trainer for I-ORPO triples", where="--format trl",
                        fix="use alpaca or sharegpt")
    assert isinstance(e, SFTExample)
    answer = _message("assistant", e.response)
    return {"messages": [*prompt, answer]} if every_answer else {"prompt": prompt, "completion": [answer]}


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
