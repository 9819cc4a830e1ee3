"""``iorpo_sequential``: the gradients of the whole batch, with one sequence's activations at a time."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the I-ORPO stage needs torch: pip install 'if-factory[train]'")
pytest.importorskip("transformers", reason="models come from transformers")

from if_factory.errors import UserError  # noqa: E402
from if_factory.iorpo.logps import ResponseLogps  # noqa: E402
from if_factory.iorpo.loss import iorpo_loss  # noqa: E402
from if_factory.iorpo.sequential import (  # noqa: E402
    SequentialStep,
    _malloc_trim,
    check_sequential,
    return_freed_memory,
)
from tests.iorpo.test_logps import NLL_ON, build, lora, make_batch  # noqa: E402


def gradients(model: Any) -> dict[str, Any]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def together(model: Any, batch: Any, nll_on: Any) -> tuple[Any, dict[str, Any]]:
    found = ResponseLogps(chunk_size=5)(model, batch, nll_on)
    result = iorpo_loss(found.logps, found.response, beta=0.4, nll_on=nll_on, sequence=found.sequence)
    result.loss.backward()
    return result, gradients(model)


def one_by_one(model: Any, batch: Any, nll_on: Any, **settings: Any) -> tuple[Any, Any, dict[str, Any]]:
    step = SequentialStep(batch, ResponseLogps(chunk_size=5, **settings), beta=0.4, nll_on=nll_on)
    value = 0.0
    for row in step.order:
        loss = step.loss(model, row)
        loss.backward()
        value += loss.item()
    return step.result, value, gradients(model)


@NLL_ON
@pytest.mark.parametrize("kind", ["full", "lora, checkpointed", "full logits"])
def test_losses_metrics_and_gradients_are_those_of_the_whole_batch(kind: str, nll_on: Any) -> None:
    model, batch = build("llama"), make_batch(((6, 9, 12), (11, 7, 5), (3, 4, 8)))
    if kind == "lora, checkpointed":
        model = lora(model, target_modules=["q_proj", "v_proj"])
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
        model.enable_input_require_grads()
    expected, gradient = together(model, batch, nll_on)
    result, value, found = one_by_one(model, batch, nll_on, chunked=kind != "full logits")
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)
    assert gradient
    assert value == pytest.approx(expected.loss.item(), abs=1e-5)
    for mine, theirs in zip(result, expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-5, atol=1e-5)
        assert not mine.requires_grad


def test_one_sequence_at_a_time_goes_through_the_model_and_one_pass_more_per_pair() -> None:
    model, batch, seen = build("llama"), make_batch(), []
    logps = ResponseLogps(chunk_size=5)
    logps(model, batch)  # the check
    model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(
        (len(kwargs["input_ids"]), torch.is_grad_enabled())), with_kwargs=True)
    step = SequentialStep(batch, logps, beta=0.4, nll_on="response")
    assert step.order == [2, 0, 3, 1]
    for row in step.order:
        assert step.result is None
        step.loss(model, row).backward()
    assert seen == [(1, False), (1, True), (1, True)] * 2


def test_a_batch_that_cannot_be_taken_apart_by_rows_is_refused() -> None:
    batch = {**make_batch(), "pixel_values": torch.zeros(7, 3)}
    with pytest.raises(UserError, match=r"iorpo_sequential.*pixel_values"):
        SequentialStep(batch, ResponseLogps(), beta=0.4, nll_on="response")


@pytest.mark.parametrize(("training", "finetuning", "key"), [
    ({"deepspeed": "ds.json"}, {}, "deepspeed"), ({"fsdp": ["full_shard"]}, {}, "fsdp"),
    ({"neftune_noise_alpha": 5.0}, {}, "neftune_noise_alpha"), ({"optim": "adalomo"}, {}, "optim"),
    ({}, {"galore_layerwise": True}, "galore_layerwise"), ({}, {"apollo_layerwise": True}, "apollo_layerwise"),
])
def test_what_it_cannot_be_combined_with_is_named(
        training: dict[str, Any], finetuning: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=f"iorpo_sequential.*cannot be combined with {key}"):
        check_sequential(SimpleNamespace(**training), SimpleNamespace(**finetuning))
    check_sequential(SimpleNamespace(deepspeed=None, fsdp=[], optim="adamw_torch"), SimpleNamespace())


@pytest.mark.skipif(_malloc_trim() is None, reason="not under glibc")
def test_freed_memory_between_what_is_kept_goes_back_to_the_system() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    blocks = [b"x" * 100_000 for _ in range(2_000)]
    kept = blocks[::10]
    del blocks
    before = resident()
    return_freed_memory()
    assert before - resident() > 100e6
    assert len(kept) == 200
