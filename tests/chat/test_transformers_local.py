"""The engine that measures before and after: batches, stops, and merges adapters in the order given."""

import asyncio
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from if_factory.chat import transformers_local
from if_factory.chat.base import ChatRequest, Completion, RequestFailed
from if_factory.chat.transformers_local import TransformersBackend
from if_factory.errors import UserError

needs_torch = pytest.mark.skipif(importlib.util.find_spec("peft") is None,
                                 reason="torch and peft are not installed")


def asks(text: str, **how: Any) -> ChatRequest:
    return ChatRequest("m", ({"role": "user", "content": text},), **({"temperature": 0.0, "max_tokens": 8} | how))


class ScriptedTokenizer:
    """One token per character; token 0 ends."""

    chat_template = "scripted"
    eos_token_id = 0

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return messages[-1]["content"]

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text]}

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(map(chr, ids))


class ScriptedModel:
    class config:
        max_position_embeddings = 64

        @classmethod
        def get_text_config(cls) -> type:
            return cls


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The prompts of each batch that a scripted ``generate`` was given; it answers in capitals."""
    seen: list[list[str]] = []

    def generate(model: Any, tokenizer: Any, prompts: Any, requests: list[ChatRequest],
                 on_tokens: Any) -> list[Completion]:
        texts = [r.messages[-1]["content"] for r in requests]
        seen.append(texts)
        if "break" in texts:
            raise RuntimeError("out of luck")
        return [Completion(t.upper()) for t in texts]

    monkeypatch.setattr(transformers_local, "load", lambda *_: (ScriptedModel(), ScriptedTokenizer()))
    monkeypatch.setattr(transformers_local, "generate", generate)
    return seen


async def test_requests_that_wait_together_are_batched_and_get_their_own_answers(batches: list[list[str]]) -> None:
    backend = TransformersBackend("m", batch_size=3)
    answers = await asyncio.gather(*(backend.chat(asks(t)) for t in "abcde"))
    assert [a.text for a in answers] == ["A", "B", "C", "D", "E"]
    assert batches == [["a", "b", "c"], ["d", "e"]]
    await backend.close()


async def test_requests_with_other_sampling_are_not_mixed_into_a_batch(batches: list[list[str]]) -> None:
    backend = TransformersBackend("m")
    await asyncio.gather(*(backend.chat(asks(t, temperature=t > "b")) for t in "acbd"))
    assert batches == [["a", "b"], ["c", "d"]]
    await backend.close()


async def test_greedy_prompts_of_like_length_share_a_batch(batches: list[list[str]]) -> None:
    """Less padding to compute; sampled answers keep their order, because they depend on their batch."""
    backend = TransformersBackend("m", batch_size=2)
    texts = ["aaaa", "b", "cccc", "d"]
    answers = await asyncio.gather(*(backend.chat(asks(t)) for t in texts))
    assert [a.text for a in answers] == ["AAAA", "B", "CCCC", "D"]
    await asyncio.gather(*(backend.chat(asks(t, temperature=1.0)) for t in texts))
    assert batches == [["b", "d"], ["aaaa", "cccc"], ["aaaa", "b"], ["cccc", "d"]]
    await backend.close()


async def test_a_failed_batch_fails_its_own_requests_only(batches: list[list[str]]) -> None:
    backend = TransformersBackend("m", batch_size=1)
    broken, fine = await asyncio.gather(*(backend.chat(asks(t)) for t in ("break", "x")), return_exceptions=True)
    assert isinstance(broken, RequestFailed)
    assert isinstance(fine, Completion)
    await backend.close()


async def test_a_prompt_that_leaves_no_room_is_refused_alone(batches: list[list[str]]) -> None:
    backend = TransformersBackend("m")
    with pytest.raises(RequestFailed, match="too long: 60 prompt tokens and max_tokens 8"):
        await backend.chat(asks("x" * 60))
    assert batches == []
    await backend.close()


def test_each_answer_is_cut_at_its_own_limit_end_token_or_stop_string() -> None:
    def completion(text: str, **how: Any) -> tuple[str, str, int]:
        done = transformers_local._completion(ScriptedTokenizer(), [ord(c) for c in text], 1, asks("", **how), {0})
        return done.text, done.finish_reason, done.completion_tokens

    assert completion("hello\0\0\0") == ("hello", "stop", 5)
    assert completion("hello, you", max_tokens=3) == ("hel", "length", 3)
    assert completion("one\ntwo", stop=("\n",))[:2] == ("one", "stop")


def test_an_adapter_trained_anew_is_another_model_to_the_log(tmp_path: Path) -> None:
    weights = tmp_path / "easy" / "adapter_model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"first")
    before = TransformersBackend("m", [weights.parent]).model
    weights.write_bytes(b"second")
    assert TransformersBackend("m", [weights.parent]).model != before


def test_a_whole_model_takes_the_place_of_the_base_and_of_what_was_before_it(tmp_path: Path) -> None:
    """Full fine-tuning leaves a model, not an adapter; an adapter may be trained on it."""
    early, whole, late = (tmp_path / name for name in ("early", "whole", "late"))
    for folder, file in ((early, "adapter_config.json"), (whole, "config.json"), (late, "adapter_config.json")):
        folder.mkdir()
        (folder / file).write_text("{}")
    (whole / "model.safetensors").write_bytes(b"first")
    assert transformers_local.from_last_whole("m", [early, whole, late]) == (str(whole), [late])
    assert transformers_local.from_last_whole("m", [early]) == ("m", [early])
    backend = TransformersBackend("m", [whole, late])
    assert (backend.path, backend.adapters) == (str(whole), [late])
    (whole / "model.safetensors").write_bytes(b"second")
    assert TransformersBackend("m", [whole, late]).model != backend.model, "another model to the log"


@needs_torch
@pytest.mark.e2e
def test_a_missing_model_or_adapter_is_a_user_error(tmp_path: Path, tiny: Path) -> None:
    with pytest.raises(UserError, match="cannot load the model"):
        transformers_local.load(str(tmp_path), [])
    with pytest.raises(UserError, match=r"no adapter_config\.json"):
        transformers_local.load(str(tiny), [tmp_path])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer Llama with random weights and a tokenizer of single bytes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=259, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                                 num_attention_heads=4, max_position_embeddings=256, eos_token_id=258,
                                 pad_token_id=257)).save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate([*alphabet, "<x>", "<pad>", "<end>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "<end>",
        "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}"}))
    return folder


@needs_torch
@pytest.mark.e2e
async def test_greedy_answers_do_not_depend_on_who_shares_the_batch(tiny: Path) -> None:
    together = TransformersBackend(tiny, device="cpu")
    alone = TransformersBackend(tiny, device="cpu", batch_size=1)
    prompts = ["a", "some longer prompt", "the longest prompt of the three by far"]
    batched = await asyncio.gather(*(together.chat(asks(p, max_tokens=12)) for p in prompts))
    assert batched == [await alone.chat(asks(p, max_tokens=12)) for p in prompts]
    assert [a.prompt_tokens for a in batched] == [len(p) for p in prompts]
    await together.close()
    await alone.close()


@needs_torch
@pytest.mark.e2e
def test_greedy_says_what_generate_says_though_ended_rows_are_taken_out(tiny: Path) -> None:
    """Rows end at different steps (each at a limit of its own, some at an end token): the batch is compacted."""
    import torch

    model, tokenizer = transformers_local.load(str(tiny), [], "cpu")
    assert transformers_local._plain(model)
    prompts = ["a", "some longer prompt", "the longest prompt of the three by far", "b c"]
    batch = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    width, limits = batch["input_ids"].shape[1], [3, 24, 9, 5]
    with torch.inference_mode():
        out = model.generate(**batch, do_sample=False, max_new_tokens=24, eos_token_id=None)
        whole = out[:, width:].tolist()
        ends = {whole[1][12]}
        expected = []
        for row, limit in zip(whole, limits, strict=True):
            stop = next((i + 1 for i, token in enumerate(row) if token in ends), limit)
            expected.append(row[:min(stop, limit)])
        counted: list[int] = []
        found = transformers_local.greedy(model, batch["input_ids"], batch["attention_mask"], limits, ends,
                                          counted.append)
    assert found == expected
    assert len({len(row) for row in found}) > 1
    assert sum(counted) == sum(map(len, found))


@needs_torch
@pytest.mark.e2e
def test_a_model_whose_greedy_decoding_has_a_penalty_is_left_to_generate(tiny: Path) -> None:
    model, _ = transformers_local.load(str(tiny), [], "cpu")
    model.generation_config.repetition_penalty = 1.1
    assert not transformers_local._plain(model)


@needs_torch
@pytest.mark.e2e
async def test_loading_and_generating_show_nothing_of_other_libraries(tiny: Path, capfd: Any) -> None:
    seen: list[int] = []
    backend = TransformersBackend(tiny, device="cpu", on_tokens=seen.append)
    await backend.chat(asks("a", max_tokens=4))
    await backend.close()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert sum(seen) > 0


@needs_torch
@pytest.mark.e2e
def test_chained_adapters_add_up_each_on_top_of_the_one_before(tiny: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[1, 2, 3, 4]])
    model, saved = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32), []
    for name in ("easy", "hard"):  # as create_new_adapter does: merge what is there, train a fresh one
        peft = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
        peft.save_pretrained(tmp_path / name)
        model = peft.merge_and_unload()
        saved.append(tmp_path / name)
    expected = model(ids).logits
    chained, _ = transformers_local.load(str(tiny), saved, "cpu")
    last_only, _ = transformers_local.load(str(tiny), saved[1:], "cpu")
    with torch.no_grad():
        assert torch.allclose(chained(ids).logits, expected, atol=1e-4)
        assert not torch.allclose(last_only(ids).logits, expected, atol=1e-2)
