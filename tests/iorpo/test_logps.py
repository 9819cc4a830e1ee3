"""Chunked log-probabilities against the logits of the real model classes, and what they keep in memory."""

import contextlib
import importlib.util
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the I-ORPO stage needs torch: pip install 'if-factory[train]'")
transformers = pytest.importorskip("transformers", reason="models come from transformers")

from torch.multiprocessing.reductions import StorageWeakRef  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from if_factory.iorpo.logps import ResponseLogps  # noqa: E402
from if_factory.iorpo.loss import iorpo_loss  # noqa: E402
from if_factory.logps.head import IGNORE, _ChunkedHead, output_head  # noqa: E402

VOCABULARY = 97
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "initializer_range": 0.2,  # far from uniform, so that a wrong token or position shows
}
NORMAL = {
    "llama": {"tie_word_embeddings": False},
    "llama, tied": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": 16},
    "qwen2": {},
    "qwen3": {},
    "phi": {"partial_rotary_factor": 0.5},  # its head has a bias
    "gpt2": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 256, "bos_token_id": 1, "eos_token_id": 2,
             "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "tie_word_embeddings": True},
}
CHANGED_AFTER_THE_HEAD = {
    "gemma2": {"final_logit_softcapping": 30.0},
    "gemma3_text": {"final_logit_softcapping": 30.0, "layer_types": ["full_attention"] * 2},
    "granite": {"logits_scaling": 8.0},
    "cohere": {"logit_scale": 0.0625},
    "falcon_h1": {"lm_head_multiplier": 0.02, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8,
                  "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8},
}


def build(name, seed=0, **changes):
    settings = {**SIZES, **NORMAL.get(name, {}), **CHANGED_AFTER_THE_HEAD.get(name, {}), **changes}
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(name.split(",")[0], **settings)
    return transformers.AutoModelForCausalLM.from_config(config).train()


def make_batch(lengths=((6, 9, 12), (11, 7, 5)), seed=1, vocabulary=VOCABULARY):
    """Pairs of (prompt_w, prompt_l, response) tokens, padded on the right; rows of x_w first."""
    generator = torch.Generator().manual_seed(seed)
    total = max(max(prompts) + response for *prompts, response in lengths)
    ids = torch.zeros(2 * len(lengths), total, dtype=torch.long)
    batch = {"input_ids": ids, "attention_mask": ids.clone(), "labels": torch.full_like(ids, IGNORE)}
    for pair, (*prompts, size) in enumerate(lengths):
        response = torch.randint(1, vocabulary, (size,), generator=generator)
        for row, prompt in zip((pair, pair + len(lengths)), prompts, strict=True):
            batch["input_ids"][row, :prompt] = torch.randint(1, vocabulary, (prompt,), generator=generator)
            batch["input_ids"][row, prompt : prompt + size] = response
            batch["labels"][row, prompt : prompt + size] = response
            batch["attention_mask"][row, : prompt + size] = 1
    return batch


def reference_logps(model, batch):
    """[2B, T-1] for every token, from the model's own logits."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
    following = batch["input_ids"][:, 1:, None]
    return logits[:, :-1].float().log_softmax(-1).gather(2, following)[..., 0]


def loss_of(logps, batch, nll_on):
    response, sequence = batch["labels"][:, 1:] != IGNORE, batch["attention_mask"][:, 1:].bool()
    return iorpo_loss(logps, response, beta=0.4, nll_on=nll_on, sequence=sequence).loss


def backward(model, logps, batch, nll_on):
    """Loss and gradients by name; the model's gradients are cleared again."""
    loss = loss_of(logps, batch, nll_on)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return loss.detach(), gradients


def assert_same_step(model, batch, nll_on, logps, **tolerances):
    found = backward(model, logps(model, batch, nll_on).logps, batch, nll_on)
    expected = backward(model, reference_logps(model, batch), batch, nll_on)
    assert expected[1], "nothing was trained"
    torch.testing.assert_close(found, expected, **(tolerances or {"rtol": 2e-5, "atol": 2e-6}))


NLL_ON = pytest.mark.parametrize("nll_on", ["response", "prompt_and_response"])


@NLL_ON
@pytest.mark.parametrize("name", NORMAL)
def test_loss_and_every_gradient_equal_those_of_full_logits(name, nll_on):
    model, batch, said = build(name), make_batch(), []
    logps = ResponseLogps(chunk_size=5, say=said.append)
    assert_same_step(model, batch, nll_on, logps)
    assert logps.reason is None
    assert said == []


@NLL_ON
@pytest.mark.parametrize("name", CHANGED_AFTER_THE_HEAD)
def test_models_that_change_logits_after_the_head_get_full_logits_and_a_sentence(name, nll_on):
    model, batch, said = build(name), make_batch(), []
    logps = ResponseLogps(chunk_size=5, say=said.append)
    assert_same_step(model, batch, nll_on, logps)
    assert_same_step(model, batch, nll_on, logps)
    assert len(said) == 1
    assert "changes its logits after the output head" in said[0]
    assert "forward" not in vars(output_head(model))


@pytest.mark.parametrize("name", [*NORMAL, *CHANGED_AFTER_THE_HEAD])
def test_chunks_are_refused_for_exactly_the_models_whose_chunks_would_be_wrong(name, monkeypatch):
    model, batch = build(name), make_batch()
    monkeypatch.setattr("if_factory.logps.head._difference", lambda *args: None)
    found = ResponseLogps(chunk_size=5)(model, batch)
    off = (found.logps - reference_logps(model, batch)).abs()[found.response].max().item()
    assert (off > 1e-3) == (name in CHANGED_AFTER_THE_HEAD), off


@pytest.mark.parametrize("chunk_size", [1, 5, 34, 1000])
def test_the_size_of_a_chunk_changes_nothing(chunk_size):
    assert_same_step(build("llama"), make_batch(), "response", ResponseLogps(chunk_size=chunk_size))


def test_tokens_that_nobody_asked_for_are_zero_and_the_batch_is_left_alone():
    model, batch = build("llama"), make_batch()
    before = {key: value.clone() for key, value in batch.items()}
    for chunked in (True, False):
        found = ResponseLogps(chunked=chunked)(model, batch)
        assert found.logps.shape == (4, batch["labels"].shape[1] - 1)
        assert found.logps.dtype == torch.float32
        assert (found.logps[~found.response] == 0).all()
        assert (found.logps[found.response] < 0).all()
    assert batch.keys() == before.keys()
    assert all(torch.equal(batch[key], before[key]) for key in batch)


def test_left_padding_and_packed_positions_are_the_models_business():
    model, batch = build("llama"), make_batch()
    pads = (batch["attention_mask"] == 0).sum(1).tolist()
    flipped = {key: torch.stack([row.roll(pad) for row, pad in zip(rows, pads, strict=True)])
               for key, rows in batch.items()}
    flipped["position_ids"] = (flipped["attention_mask"].cumsum(1) - 1).clamp(min=0)
    right, left = (ResponseLogps(chunk_size=5)(model, b) for b in (batch, flipped))
    torch.testing.assert_close(left.logps[left.response], right.logps[right.response], rtol=1e-4, atol=1e-5)


def test_a_row_without_a_response_is_named_not_divided_by():
    batch = make_batch()
    batch["labels"][2] = IGNORE
    with pytest.raises(ValueError, match=r"rows \[2\]"):
        ResponseLogps()(build("llama"), batch)


# ---------------------------------------------------------------- wrappers


def lora(model, **settings):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", init_lora_weights=False, **settings)
    return peft.get_peft_model(model, config)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "v_proj"]},
        {"target_modules": ["q_proj", "lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
    ],
    ids=["body", "head", "whole head"],
)
@NLL_ON
def test_lora_on_the_body_and_on_the_head(settings, nll_on):
    model = lora(build("llama"), **settings)
    assert_same_step(model, make_batch(), nll_on, ResponseLogps(chunk_size=5))


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing(use_reentrant):
    model = lora(build("llama", tie_word_embeddings=True), target_modules=["q_proj", "v_proj"])
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    assert_same_step(model, make_batch(), "response", ResponseLogps(chunk_size=5))


def test_bf16_autocast_rounds_as_full_logits_do():
    model, batch = build("llama"), make_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_step(model, batch, "response", ResponseLogps(chunk_size=5), rtol=2e-2, atol=5e-3)


def test_bf16_weights():
    model, batch = build("llama").to(torch.bfloat16), make_batch()
    logps = ResponseLogps(chunk_size=5)
    found = logps(model, batch)
    assert logps.reason is None
    assert found.logps.dtype == torch.float32
    torch.testing.assert_close(
        found.logps[found.response], reference_logps(model, batch)[found.response], rtol=1e-2, atol=2e-2
    )


def test_distributed_data_parallel_is_called_through_its_own_forward(tmp_path):
    dist = torch.distributed
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = build("llama")
        wrapped, calls = torch.nn.parallel.DistributedDataParallel(model), []
        wrapped.register_forward_pre_hook(lambda *_: calls.append(1))
        assert_same_step(wrapped, make_batch(), "response", ResponseLogps(chunk_size=5))
        assert len(calls) == 3, "the check, ours and the reference"
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_a_compiled_model_is_not_compiled_again_for_new_targets():
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    model, counter, logps = build("llama"), CompileCounter(), ResponseLogps(chunk_size=5)
    compiled = torch.compile(model, backend=counter, dynamic=True)
    batches = [make_batch([(6, 9, 12 + i), (11, 7, 5 + i)], seed=i) for i in range(6)]
    counts = []
    for batch in batches:
        found = logps(compiled, batch)
        found.logps.sum().backward()
        counts.append(counter.frame_count)
        torch.testing.assert_close(
            found.logps[found.response], reference_logps(model, batch)[found.response], rtol=1e-4, atol=1e-5
        )
    torch._dynamo.reset()
    assert counts[0] > 0
    assert counts[2] == counts[-1], counts


# ---------------------------------------------------------------- the head is given back


def test_the_head_is_itself_between_batches_and_after_close():
    model, batch, logps = build("llama"), make_batch(), ResponseLogps(chunk_size=5)
    before = reference_logps(model, batch)
    logps(model, batch)
    installed = model.lm_head.forward
    assert torch.equal(reference_logps(model, batch), before), "a plain call sees plain logits"
    logps(model, batch)
    assert model.lm_head.forward is installed, "installed once"
    logps.close()
    assert "forward" not in vars(model.lm_head)
    logps.close()
    logps(model, batch)
    assert "forward" in vars(model.lm_head), "a batch after close installs it again"


def test_a_forward_that_accelerate_put_on_the_head_is_called_and_put_back():
    hooks = pytest.importorskip("accelerate.hooks")
    model, batch, seen = build("llama"), make_batch(), []

    class Watch(hooks.ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            seen.append(args[0].shape)
            return args, kwargs

    hooks.add_hook_to_module(model.lm_head, Watch())
    own = vars(model.lm_head)["forward"]
    logps = ResponseLogps(chunk_size=5)
    assert_same_step(model, batch, "response", logps)
    assert (5, SIZES["hidden_size"]) in seen, "chunks go through accelerate's hook"
    logps.close()
    assert vars(model.lm_head)["forward"] is own


def test_a_step_that_fails_leaves_the_model_as_it_was():
    model, batch, logps = build("llama"), make_batch(), ResponseLogps(chunk_size=5)
    expected = reference_logps(model, batch)
    for when in ("in the check", "in a step"):
        with pytest.raises(RuntimeError, match="out of memory"), break_first_layer(model):
            logps(model, batch)
        assert torch.equal(reference_logps(model, batch), expected), when
        logps(model, batch)
        assert logps.reason is None, "the model's own failure is no reason to distrust its head"


@contextlib.contextmanager
def break_first_layer(model):
    def fail(*_):
        raise RuntimeError("out of memory")

    handle = model.model.layers[0].register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


def test_the_check_changes_no_random_state():
    model, batch = build("llama", attention_dropout=0.5), make_batch()
    torch.manual_seed(5)
    reference_logps(model, batch)
    expected = torch.rand(1)
    torch.manual_seed(5)
    ResponseLogps()(model, batch)
    assert torch.equal(torch.rand(1), expected), "one forward pass draws, the check does not"


# ---------------------------------------------------------------- other models that need the fallback


class Odd(torch.nn.Module):
    """A model around a real one that does something unusual with its output head."""

    def __init__(self, kind):
        super().__init__()
        self.inner, self.kind = build("llama"), kind

    def get_output_embeddings(self):
        return None if self.kind == "no head" else self.inner.lm_head

    def forward(self, input_ids, attention_mask, **_):
        hidden = self.inner.model(input_ids, attention_mask=attention_mask, use_cache=False)[0]
        if self.kind == "head not called":
            logits = hidden @ self.inner.lm_head.weight.T
        elif self.kind == "head called flat":
            logits = self.inner.lm_head(hidden.flatten(0, 1)).view(*hidden.shape[:2], -1)
        elif self.kind == "head called twice":
            self.inner.lm_head(hidden)
            logits = self.inner.lm_head(hidden)
        elif self.kind == "bias for every position":
            logits = self.inner.lm_head(hidden) + torch.linspace(0, 1, hidden.shape[1])[None, :, None]
        else:
            logits = self.inner.lm_head(hidden)
        return SimpleNamespace(logits=logits)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("no head", "names no output head"),
        ("head not called", "does not call its output head"),
        ("head called flat", "does not call its output head"),
        ("head called twice", "2 times"),
        ("bias for every position", "cannot work with part of its logits"),
    ],
)
def test_any_other_odd_model_falls_back_too(kind, says):
    model, said = Odd(kind), []
    assert_same_step(model, make_batch(), "response", ResponseLogps(chunk_size=5, say=said.append))
    assert len(said) == 1
    assert says in said[0]


# ---------------------------------------------------------------- memory


class VocabularyTensors(TorchDispatchMode):
    """Watches all tensors with a column per vocabulary entry that operations make, forward and backward."""

    def __init__(self, model):
        super().__init__()
        self.weights = storages(model)
        self.most_rows = 0  # of one tensor
        self.most_alive = 0  # rows, over all that were alive together
        self.alive = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if not isinstance(tensor, torch.Tensor) or not tensor.dim() or tensor.shape[-1] != WIDE:
                continue
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.weights:
                reference = StorageWeakRef(storage)
                self.alive[reference.cdata] = reference, storage.nbytes() // (4 * WIDE)
                self.most_rows = max(self.most_rows, tensor.numel() // WIDE)
        self.alive = {key: (ref, rows) for key, (ref, rows) in self.alive.items() if not ref.expired()}
        self.most_alive = max(self.most_alive, sum(rows for _, rows in self.alive.values()))
        return out


@NLL_ON
@pytest.mark.parametrize("name", NORMAL)
def test_a_head_that_is_not_trained_gives_the_same_loss_and_gradients(name, nll_on):
    model = build(name)
    output_head(model).requires_grad_(False)
    assert_same_step(model, make_batch(), nll_on, ResponseLogps(chunk_size=5))


@pytest.mark.parametrize(("trained", "times"), [(False, 1), (True, 2)])
def test_a_frozen_heads_logits_are_made_once_and_a_trained_ones_twice(trained, times, monkeypatch):
    model, batch, asked = build("llama"), make_batch(), []
    output_head(model).requires_grad_(trained)
    ours = ResponseLogps(chunk_size=5)
    ours(model, batch)  # the check
    logits = _ChunkedHead.logits
    monkeypatch.setattr(_ChunkedHead, "logits", lambda self, h: asked.append(len(h)) or logits(self, h))
    backward(model, ours(model, batch).logps, batch, "response")
    assert sum(asked) == times * int((batch["labels"] != IGNORE).sum())


WIDE = 1009  # a vocabulary far larger than any other dimension
LONG = [(20, 24, 100)]  # 2 * 124 positions, 200 response tokens


def storages(model):
    return {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}


def watched_step(model, batch, logps, nll_on):
    with VocabularyTensors(model) as seen:
        backward(model, logps(model, batch), batch, nll_on)
    return seen


@NLL_ON
def test_no_operation_forward_or_backward_makes_more_than_a_quarter_of_a_chunk_of_vocabulary_rows(nll_on):
    model, batch = build("llama", vocab_size=WIDE), make_batch(LONG, vocabulary=WIDE)
    model.lm_head.weight.requires_grad_(False)  # its gradient has V * H entries, as full logits' has
    ours = ResponseLogps(chunk_size=32)
    ours(model, batch)  # the check looks at 64 tokens, once
    seen = watched_step(model, batch, lambda m, b: ours(m, b, nll_on).logps, nll_on)
    assert seen.most_rows == 8
    assert seen.most_alive <= 2 * 8, "logits, and one tensor for log-probabilities, then gradients"
    full = watched_step(model, batch, reference_logps, nll_on)
    assert full.most_rows == 2 * 124, "the watch does see what full logits need"
    assert full.most_alive >= 3 * 2 * 123


@NLL_ON
def test_nothing_of_vocabulary_size_is_saved_for_backward(nll_on):
    model, batch = build("llama", vocab_size=WIDE), make_batch(LONG, vocabulary=WIDE)
    weights = storages(model)
    ours = ResponseLogps(chunk_size=32)
    largest = {}
    for name, logps in (("ours", lambda m, b: ours(m, b, nll_on).logps), ("full", reference_logps)):
        saved = []

        def keep(tensor, saved=saved):
            if tensor.untyped_storage().data_ptr() not in weights:
                saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss_of(logps(model, batch), batch, nll_on)
        largest[name] = max(saved)
    assert largest["full"] >= 2 * 123 * WIDE
    assert largest["ours"] < 32 * WIDE, "less than the logits of a single chunk: all is the body's"


# ---------------------------------------------------------------- stock LLaMA-Factory


@pytest.mark.slow  # the import alone
@pytest.mark.skipif(importlib.util.find_spec("llamafactory") is None, reason="llamafactory is not installed")
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_loss_and_every_gradient_equal_those_of_stock_llamafactory_orpo(name):
    from llamafactory.train.dpo.trainer import CustomDPOTrainer

    stock = object.__new__(CustomDPOTrainer)
    stock.finetuning_args = SimpleNamespace(use_ref_model=False)
    stock.accelerator = SimpleNamespace(device=torch.device("cpu"))
    stock.loss_type, stock.beta, stock.ld_alpha, stock.ftx_gamma = "orpo", 0.4, None, 0.0
    model, batch = build(name), make_batch()
    found = backward(model, ResponseLogps(chunk_size=5)(model, batch).logps, batch, "response")
    loss, metrics = stock.get_batch_loss_metrics(model, dict(batch))
    loss.backward()
    expected = loss.detach(), {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-6)
    assert metrics["odds_ratio_loss"] > 0
