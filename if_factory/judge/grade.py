"""Whether a text keeps to one constraint: yes, partly or no, as Suri's judge says (arXiv 2406.19371)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator

from if_factory.chat.parse import Failure
from if_factory.chat.schemas import schema_of
from if_factory.judge.judge import PROMPTS, Ask, ask_until_read, mark_for, shown
from if_factory.judge.reply import read_one
from if_factory.prompts import load

GRADES = ("yes", "partly", "no")
_SAME = {"partially": "partly", "partial": "partly", "true": "yes", "false": "no"}


def _word(value: object) -> object:
    word = str(value).strip().casefold().rstrip(".")
    return _SAME.get(word, word)


class Grade(BaseModel):
    """``satisfied``, with what the judge says for it."""

    quote: str = ""
    reason: str = ""
    satisfied: Annotated[Literal["yes", "partly", "no"], BeforeValidator(_word)]


async def judge_grade(ask: Ask, prompt: str, response: str, constraint: str, *, tries: int = 3) -> Grade | Failure:
    """One constraint of one text, asked at temperature 0; a ``Failure`` where no reply can be read.

    Each constraint is a request of its own, so that none influences another.
    """
    text = load(PROMPTS, "judge_grade", None).render(
        prompt=shown(prompt), response=shown(response), constraint=shown(constraint),
        mark=mark_for(prompt, response, constraint))
    grade, _ = await ask_until_read(ask, text, partial(read_one, model=Grade, key="satisfied"), tries=tries,
                                    prompts=None, schema=schema_of(Grade), temperature=0.0)
    return grade
