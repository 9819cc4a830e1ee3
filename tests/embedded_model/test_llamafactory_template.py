"""Training sees the turns that serving sees: LLaMA-Factory without `template:` uses the model's own."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.e2e,
              pytest.mark.skipif(importlib.util.find_spec("llamafactory") is None,
                                 reason="LLaMA-Factory is not installed")]
TURNS = [{"role": "user", "content": "Name 3 fruits.\n"}, {"role": "assistant", "content": "1. Apples"},
         {"role": "user", "content": "More?"}, {"role": "assistant", "content": "No."}]


def texts(hf_model: Path, template: str | None, system: str | None) -> tuple[str, str]:
    """What LLaMA-Factory trains on, and what the chat template says."""
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(hf_model)
    turns = ([{"role": "system", "content": system}] if system else []) + TURNS
    own = tokenizer.apply_chat_template(turns, tokenize=False)
    chosen = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=template))
    pairs = chosen.encode_multiturn(tokenizer, TURNS, system)
    return tokenizer.decode([i for pair in pairs for part in pair for i in part]), own


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_no_template_key_trains_on_exactly_the_models_turns(hf_model: Path, system: str | None) -> None:
    trained, own = texts(hf_model, None, system)
    assert trained == own


def test_the_template_of_that_name_has_another_default_system_turn(hf_model: Path) -> None:
    trained, own = texts(hf_model, "smollm2", None)
    assert trained.replace("Hugging Face.", "Hugging Face") == own
    assert trained != own
