"""transformers in this process: a model with its adapters, measured by the same engine before and after.

Requests that wait at the same moment are generated as one batch. It is for evaluation, not for serving:
sampled answers depend on the batch they were drawn in; greedy ones (temperature 0) do not, save for rounding.
``ChatRequest.schema`` is followed where llguidance is installed (``[local]``), and else only asked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from if_factory.chat import grammar
from if_factory.chat.base import ChatRequest, Completion, RequestFailed
from if_factory.chat.quiet import quiet
from if_factory.chat.replies import without_reasoning
from if_factory.errors import UserError

_GATHER_SECONDS = 0.02  # how long a first request waits for company


@dataclass(slots=True)
class _Waiting:
    request: ChatRequest
    ids: list[int]
    answer: asyncio.Future[Completion]


class TransformersBackend:
    """A ``Backend`` over ``generate``.

    Args:
        model_path: a Hugging Face directory (or hub name, which needs the network).
        adapters: LoRA folders, merged one after the other in this order. An adapter trained with
            ``create_new_adapter`` belongs on top of the ones before it: give them all. A whole model among them
            (full or freeze fine-tuning) takes the place of ``model_path`` and of what is named before it.
        device: ``cuda``, ``cpu``, ...; ``None`` takes CUDA where there is one.
        batch_size: prompts generated together; halved by itself when memory runs out.
        on_tokens: called in another thread with the number of new tokens: at each step of a batch, or at its end
            for sampled answers and answers by schema; in any case before its answers are there.

    Raises:
        UserError: on the first request: no such model or adapter, no chat template, missing packages.
    """

    def __init__(self, model_path: str | Path, adapters: Sequence[Path | str] = (), device: str | None = None,
                 batch_size: int = 16, on_tokens: Callable[[int], None] | None = None) -> None:
        chain = [Path(a) for a in adapters]
        self.path, self.adapters = from_last_whole(str(model_path), chain)
        self.device = device
        self.batch_size = batch_size
        self.on_tokens = on_tokens
        self.model = "+".join([Path(model_path).name, *map(_named, chain)])
        self._loading: asyncio.Task[tuple[Any, Any]] | None = None
        self._queue: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    async def chat(self, request: ChatRequest) -> Completion:
        model, tokenizer = await self._loaded()
        ids = _prompt_ids(tokenizer, request, self.path)
        room = model.config.get_text_config().max_position_embeddings - len(ids)
        if room < (request.max_tokens or 1):
            raise RequestFailed(f"too long: {len(ids)} prompt tokens and max_tokens {request.max_tokens}")
        if request.max_tokens is None:
            request = replace(request, max_tokens=room)
        waiting = _Waiting(request, ids, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.answer

    async def close(self) -> None:
        if self._worker:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        self._loading = None  # drops the weights

    async def _loaded(self) -> tuple[Any, Any]:
        if self._loading is None:
            self._loading = asyncio.create_task(asyncio.to_thread(load, self.path, self.adapters, self.device))
        return await asyncio.shield(self._loading)

    async def _work(self) -> None:
        model, tokenizer = await self._loaded()
        await asyncio.sleep(_GATHER_SECONDS)
        while self._queue:
            first = self._queue[0].request
            same = [w for w in self._queue if _sampling(w.request) == _sampling(first)]
            if not first.temperature:  # greedy answers do not depend on their batch: the less padding the faster
                same.sort(key=lambda w: len(w.ids))
            batch = same[:self.batch_size]
            self._queue = [w for w in self._queue if w not in batch]
            try:
                answers = await asyncio.to_thread(generate, model, tokenizer, [w.ids for w in batch],
                                                  [w.request for w in batch], self.on_tokens)
            except Exception as e:
                for w in batch:
                    if not w.answer.done():
                        w.answer.set_exception(RequestFailed(f"{type(e).__name__}: {e}"))
                continue
            for w, answer in zip(batch, answers, strict=True):
                if not w.answer.done():
                    w.answer.set_result(answer)
            await asyncio.sleep(0)  # those who got answers may ask again and join the next batch


def _named(adapter: Path) -> str:
    """Name and content: an adapter trained anew under an old name is another model to a response log."""
    return f"{adapter.name}@{content_of(adapter)[:8] or 'missing'}"


def content_of(folder: Path) -> str:
    """A hash of the weights of an adapter or of a whole model; empty where there are none."""
    files = sorted(folder.glob("adapter_model.safetensors")) or sorted(folder.glob("model*.safetensors"))
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as f:  # a model may be larger than memory
            while block := f.read(1 << 22):
                digest.update(block)
    return digest.hexdigest() if files else ""


def is_whole(folder: Path) -> bool:
    """Whether a folder holds a model of its own, as full and freeze fine-tuning leave one, and no adapter."""
    return (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file()


def from_last_whole(path: str, chain: Sequence[Path]) -> tuple[str, list[Path]]:
    """(the model to load, the adapters to merge into it) of a chain on ``path`` that may hold whole models."""
    for i in range(len(chain) - 1, -1, -1):
        if is_whole(chain[i]):
            return str(chain[i]), list(chain[i + 1:])
    return path, list(chain)


def _sampling(request: ChatRequest) -> tuple[float, float]:
    """What is not given is as if nothing changed the model's own distribution."""
    return (1.0 if request.temperature is None else request.temperature,
            1.0 if request.top_p is None else request.top_p)


def _prompt_ids(tokenizer: Any, request: ChatRequest, path: str) -> list[int]:
    if not tokenizer.chat_template:
        raise UserError("its tokenizer has no chat template", where=path, fix="use an instruction-tuned model")
    text = tokenizer.apply_chat_template(list(request.messages), tokenize=False, add_generation_prompt=True)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def load(path: str, adapters: Sequence[Path], device: str | None = None,
         dtype: str | None = None) -> tuple[Any, Any]:
    """``(model, tokenizer)``, adapters merged in order (see ``TransformersBackend``); bfloat16 on a GPU, float32 on a
    CPU, unless given.

    Raises:
        UserError: no such model or adapter, missing packages.
    """
    with quiet("transformers", "peft"):
        return _load(*from_last_whole(path, adapters), device, dtype)


def _load(path: str, adapters: Sequence[Path], device: str | None, dtype: str | None) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as e:
        raise UserError(f"a local model needs transformers and torch: {e}", where=path,
                        fix='pip install "if-factory[local]"; `if-factory doctor` says more') from None
    for adapter in adapters:
        if not (adapter / "adapter_config.json").is_file():
            raise UserError("no adapter_config.json here", where=str(adapter),
                            fix="give the output_dir of a finished stage")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
    except (OSError, ValueError) as e:
        raise UserError(f"cannot load the model: {str(e).splitlines()[0]}", where=path,
                        fix="give a Hugging Face directory with config.json, weights and tokenizer") from None
    if adapters:
        from peft import PeftModel
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model.to(device).eval(), tokenizer


def generate(model: Any, tokenizer: Any, prompts: Sequence[list[int]], requests: Sequence[ChatRequest],
             on_tokens: Callable[[int], None] | None = None) -> list[Completion]:
    """One answer per prompt; all requests share temperature and top_p. Halves the batch if memory runs out."""
    import torch

    try:
        return _generate(model, tokenizer, prompts, requests, on_tokens)
    except torch.OutOfMemoryError:
        if len(prompts) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(prompts) // 2
    return [*generate(model, tokenizer, prompts[:half], requests[:half], on_tokens),
            *generate(model, tokenizer, prompts[half:], requests[half:], on_tokens)]


def _generate(model: Any, tokenizer: Any, prompts: Sequence[list[int]], requests: Sequence[ChatRequest],
              on_tokens: Callable[[int], None] | None) -> list[Completion]:
    import torch

    with quiet():
        batch = tokenizer.pad({"input_ids": list(prompts)}, return_tensors="pt").to(model.device)
    width = batch["input_ids"].shape[1]
    temperature, top_p = _sampling(requests[0])
    how: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature > 0:
        how = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        torch.manual_seed(requests[0].seed or 0)
    ends = model.generation_config.eos_token_id
    stops = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    if any(r.schema for r in requests) and grammar.available():
        size, last = model.config.get_text_config().vocab_size, tuple(sorted(stops))
        words = grammar.tokenizer_of(tokenizer, size, last)
        how["logits_processor"] = [grammar.SchemaMask(words, last, [r.schema for r in requests], width)]
    with torch.inference_mode(), quiet():
        counted = temperature == 0 and "logits_processor" not in how and _plain(model)
        if counted:
            limits = [r.max_tokens or 1 for r in requests]
            rows = greedy(model, batch["input_ids"], batch["attention_mask"], limits, stops, on_tokens)
        else:
            out = model.generate(**batch, **how, max_new_tokens=max(r.max_tokens or 1 for r in requests),
                                 pad_token_id=tokenizer.pad_token_id)
            rows = [row[width:].tolist() for row in out]
    answers = [_completion(tokenizer, row, len(ids), request, stops)
               for row, ids, request in zip(rows, prompts, requests, strict=True)]
    if on_tokens and not counted:
        on_tokens(sum(answer.completion_tokens for answer in answers))
    return answers


def _plain(model: Any) -> bool:
    """Whether greedy decoding of this model is the likeliest token at each step and a cache of keys and values.

    Not so with penalties in its ``generation_config``, or with sliding windows or recurrent states.
    """
    from transformers import DynamicCache

    config = model.generation_config
    if any(getattr(config, name, None) not in plain for name, plain in _PENALTIES.items()):
        return False
    cache = DynamicCache(config=model.config)
    return all(type(layer).__name__ == "DynamicLayer" for layer in cache.layers)


_PENALTIES: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (None, 1.0), "no_repeat_ngram_size": (None, 0), "min_length": (None, 0),
    "min_new_tokens": (None, 0), "bad_words_ids": (None,), "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []), "forced_bos_token_id": (None,), "forced_eos_token_id": (None,),
    "num_beams": (None, 1), "guidance_scale": (None, 1.0), "sequence_bias": (None,),
    "encoder_repetition_penalty": (None, 1.0), "exponential_decay_length_penalty": (None,)}
_COMPACT_BELOW = 0.8  # rows are taken out together: each time the cache is copied


def greedy(model: Any, ids: Any, mask: Any, limits: Sequence[int], stops: set[int],
           on_tokens: Callable[[int], None] | None = None) -> list[list[int]]:
    """The likeliest token at each step, until an end token (included) or the row's limit.

    ``generate`` computes every row until the last of the batch has ended; here rows that have ended are taken out,
    which halves the work where answers differ in length.

    Args:
        ids, mask: of shape (rows, width), padded on the left.
        limits: new tokens at most, by row.
        on_tokens: called with the number of unfinished rows at each step.
    """
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    out: list[list[int]] = [[] for _ in limits]
    rows = list(range(len(limits)))  # the row of each line of the batch; finished ones stay until they are many
    ended = [False] * len(limits)
    position = (mask.cumsum(-1) - 1).clamp(min=0)
    while True:
        logits = model(input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache,
                       use_cache=True, logits_to_keep=1).logits[:, -1]
        tokens = logits.argmax(-1)
        if on_tokens:
            on_tokens(len(limits) - sum(ended))
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if not ended[row]:
                out[row].append(token)
                ended[row] = token in stops or len(out[row]) >= limits[row]
        left = [i for i, row in enumerate(rows) if not ended[row]]
        if not left:
            return out
        ids, position = tokens[:, None], position[:, -1:] + 1
        if len(left) < _COMPACT_BELOW * len(rows):
            kept = torch.tensor(left, device=ids.device)
            cache.batch_select_indices(kept)
            ids, position, mask = ids[kept], position[kept], mask[kept]
            rows = [rows[i] for i in left]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=-1)


def _completion(tokenizer: Any, ids: list[int], prompt_tokens: int, request: ChatRequest,
                stops: set[int]) -> Completion:
    end = next((i for i, token in enumerate(ids) if token in stops), None)
    finished = end is not None and end < (request.max_tokens or 1)
    ids = ids[:end if finished else request.max_tokens]
    text = tokenizer.decode(ids, skip_special_tokens=True)
    for stop in request.stop:
        if stop in text:
            text, finished = text.split(stop, 1)[0], True
    return without_reasoning(Completion(text, "stop" if finished else "length", prompt_tokens, len(ids)))
