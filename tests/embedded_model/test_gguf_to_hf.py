"""The converted model is the served model: same tokens, same chat turns, same next words."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any
from urllib.request import Request, urlopen

import pytest

from if_factory.chat.embedded import EmbeddedServer
from if_factory.embedded_model import gguf_to_hf
from if_factory.embedded_model.gguf_to_hf import convert
from if_factory.errors import UserError

CHAT = [{"role": "user", "content": "In 2024, how many 'R's has strawberry?  Don't guess.\n\n- a\n"}]


def test_a_file_that_is_no_gguf_is_a_user_error(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    (tmp_path / "x.gguf").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match=r"x\.gguf: not a readable GGUF"):
        convert(tmp_path / "x.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("changed", "named"), [
    ({"tokenizer.ggml.pre": "qwen2"}, "tokenizer.ggml.pre=qwen2"),
    ({"general.architecture": "gemma3"}, "general.architecture=gemma3"),
    ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model=llama"),
    ({"tokenizer.chat_template": ""}, "no chat template"),
])
def test_a_model_whose_tokens_would_differ_is_refused_not_guessed(
        changed: dict[str, str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"general.architecture": "llama", "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
             "tokenizer.chat_template": "x"} | changed
    monkeypatch.setattr(gguf_to_hf, "metadata", lambda gguf: about)
    with pytest.raises(UserError, match=named):
        convert(tmp_path / "x.gguf", tmp_path / "out")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    pytest.importorskip("xllamacpp")
    with EmbeddedServer(parallel=1) as running:
        yield running


def ask(server: EmbeddedServer, path: str, body: dict[str, Any]) -> Any:
    request = Request(server.base_url.removesuffix("/v1") + path, json.dumps(body).encode(),
                      {"Content-Type": "application/json"})
    with urlopen(request, timeout=120) as reply:
        return json.load(reply)


def strings(count: int) -> list[str]:
    """Text that trips tokenizers: digits in runs, other scripts, white space, contractions, control tokens."""
    rng = Random(7)
    parts = ["the", " The", "n't", "'s", "'LL", " ", "  ", "\n", "\n\n", "\t", "\r\n", "123", " 45", "3.14",
             "²", "½", "Ⅷ", "٣", "é", "e\u0301", "日本", "語", "🙂", "\U0001f469\u200d\U0001f467", "\u200b",
             "\u00a0", "**", "<<", ">>", "<|im_end|>", "<|im_start|>", "_x", "$5", "{}", "naïve", "Straße",
             "привет", "שלום", ",", "."]
    made = ["".join(rng.choices(parts, k=rng.randint(1, 12))) for _ in range(count // 2)]
    anything = [chr(c) for c in range(1, 0x3000) if not 0xD800 <= c < 0xE000]
    return made + ["".join(rng.choices(anything, k=rng.randint(1, 20))) for _ in range(count - len(made))]


@pytest.mark.e2e
def test_three_thousand_strings_get_llama_cpps_tokens(hf_model: Path, server: EmbeddedServer) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(hf_model)
    different = [text for text in strings(3000) if tokenizer(text, add_special_tokens=False)["input_ids"] !=
                 ask(server, "/tokenize", {"content": text, "parse_special": True})["tokens"]]
    assert different == []


@pytest.mark.e2e
def test_decoding_gives_the_text_back(hf_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(hf_model)
    for text in strings(500):
        text = "".join(c for c in text if c >= " ")  # the vocabulary has no token for some control bytes
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.e2e
def test_chat_turns_and_special_ids_are_the_servers(hf_model: Path, server: EmbeddedServer) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(hf_model)
    for turns in (CHAT, [{"role": "system", "content": "Be brief."}, *CHAT]):
        ours = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert ours == ask(server, "/apply-template", {"messages": turns})["prompt"]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


@pytest.mark.e2e
def test_next_word_probabilities_are_the_servers(hf_model: Path, server: EmbeddedServer) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(hf_model)
    model = AutoModelForCausalLM.from_pretrained(hf_model, dtype=torch.float32)
    ids = tokenizer(tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True))["input_ids"]
    answer = ask(server, "/completion", {"prompt": ids, "n_predict": 1, "n_probs": 20, "temperature": 0})
    theirs = {p["id"]: p["logprob"] for p in answer["completion_probabilities"][0]["top_logprobs"]}
    with torch.no_grad():
        ours = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    assert int(ours.argmax()) == max(theirs, key=theirs.__getitem__)
    # llama.cpp multiplies 8-bit activations: that is all the difference there may be.
    kl = sum(math.exp(p) * (p - float(ours[i])) for i, p in theirs.items())
    assert abs(kl) < 0.02
    assert model.config.rms_norm_eps == 1e-5
    assert model.config.max_position_embeddings == 8192
