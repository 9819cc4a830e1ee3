from __future__ import annotations

import pytest

from if_factory.chat.base import Completion, RequestFailed
from if_factory.chat.scripted import ScriptedBackend
from tests.chat.conftest import request


async def test_a_scripted_answer_may_be_a_text_a_completion_or_an_exception() -> None:
    answers = iter(["two words", Completion("x", "length", 1, 1), RequestFailed("gone")])
    backend = ScriptedBackend("scripted", lambda r: next(answers))
    assert await backend.chat(request("one two three")) == Completion("two words", "stop", 3, 2)
    assert (await backend.chat(request())).finish_reason == "length"
    with pytest.raises(RequestFailed):
        await backend.chat(request())
    assert len(backend.requests) == 3
