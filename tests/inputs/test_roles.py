"""One list of the names that files use for who speaks, whichever reader meets them."""

import pytest

from if_factory.inputs.conversations import Conversation, read_conversation
from if_factory.inputs.history import read_history
from if_factory.inputs.roles import ROLES, role_of
from if_factory.inputs.rows import answers_of, prompt_of


@pytest.mark.parametrize("assistant", [name for name, role in ROLES.items() if role == "assistant"])
@pytest.mark.parametrize("user", [name for name, role in ROLES.items() if role == "user"])
def test_every_reader_knows_every_name(user: str, assistant: str) -> None:
    turns = [{"from": user, "value": "Hi?"}, {"from": assistant, "value": "Hello."}]
    read = read_conversation({"conversations": turns}, "f:1")
    assert isinstance(read, Conversation)
    assert [t.role for t in read.turns] == ["user", "assistant"]
    assert [t.role for t in read_history(turns, "f:1: field 'history'", foreign=True)] == ["user", "assistant"]
    assert prompt_of({"conversations": turns}) == "Hi?"
    assert [a.text for a in answers_of({"conversations": turns})] == ["Hello."]


def test_openai_names_are_read_too_and_unknown_ones_are_none() -> None:
    assert role_of({"role": "system", "content": "x"}) == "system"
    assert role_of({"from": "tool", "value": "x"}) is None
