"""The log-probability a model gives a response: ``sum_t log p(y_t | x, y_<t)`` for many (prompt, response) pairs.

transformers in this process, adapters merged in order. Pairs of like length share a batch; only response
positions go through the head, a chunk at a time, so ``[T, V]`` logits of a whole long text never exist. The
numbers do not depend on the batch a pair was scored in, save for rounding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from if_factory.chat.transformers_local import content_of, load
from if_factory.errors import UserError
from if_factory.exporting.templates import template_problem
from if_factory.files import dump_json
from if_factory.records import content_id

CHUNK = 1024  # response tokens whose logits exist at one time: 0.5 GiB in float32 at V = 128k

Pair = tuple[list[int], list[int]]
"""Token ids of the prompt (as the model is given it, so never empty) and of the response."""

Render = Callable[[Sequence[Mapping[str, str]], str], Pair]
"""``(chat messages that end with the user's, response)`` -> ``Pair``."""


@dataclass(frozen=True, slots=True)
class LogProb:
    """``total``: the sum over the response's tokens of their log-probability, in nats. ``tokens``: how many."""

    total: float
    tokens: int

    @property
    def mean(self) -> float:
        return self.total / self.tokens


class Scorer:
    """A model with its adapters, opened to score responses.

    Args:
        path: a Hugging Face folder (or hub name, which needs the network).
        adapters: LoRA folders, merged one after the other in this order.
        template: a LLaMA-Factory template, so that evaluation renders as training did (LLaMA-Factory must be
            installed); ``None`` is the tokenizer's own chat template, which is what LLaMA-Factory trains on
            when its YAML has no ``template:``.
        device: ``cuda``, ``cpu``, ...; ``None`` takes CUDA where there is one.
        float32: compute in float32 on a GPU too, at twice the memory: bfloat16 logits carry 8 bits, and over
            thousands of tokens their rounding can reach the size of a margin.
        batch_tokens: at most so many tokens, padding included, go through the model together; a longer text
            goes alone. Default 16,384 on a GPU, 4,096 on a CPU.

    Raises:
        UserError: no such model, adapter or template, no chat template, missing packages.
    """

    def __init__(self, path: str | Path, adapters: Sequence[Path] = (), *, template: str | None = None,
                 device: str | None = None, float32: bool = False, batch_tokens: int | None = None) -> None:
        self.key = fingerprint(path, adapters, float32)
        self.model, tokenizer = load(str(path), adapters, device, "float32" if float32 else None)
        self.render = renderer(tokenizer, template, str(path))
        on_cpu = self.model.device.type == "cpu"
        self.batch_tokens = batch_tokens or (4096 if on_cpu else 16384)
        self.longest: int = self.model.config.get_text_config().max_position_embeddings

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, LogProb]]:
        """``(position in pairs, log-probability)``, as they are computed: shortest first."""
        return log_probs(self.model, pairs, batch_tokens=self.batch_tokens)

    def close(self) -> None:
        """Drop the weights, so that the next model has the memory."""
        device, self.model = self.model.device, None
        if device.type == "cuda":
            import torch

            torch.cuda.empty_cache()


def fingerprint(path: str | Path, adapters: Sequence[Path], float32: bool = False) -> str:
    """What a stored score belongs to: the weights by file size and time, what was trained by content."""
    folder = Path(path)
    weights = [(f.name, f.stat().st_size, f.stat().st_mtime_ns)
               for f in sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*.json"))]
    merged = [content for a in adapters if (content := content_of(a))]
    return content_id(weights or str(path), merged, float32)


# ---------------------------------------------------------------- how a chat becomes tokens


def renderer(tokenizer: Any, template: str | None, path: str) -> Render:
    """The chat template, as training applies it; see ``Scorer``. The prompt and the response are tokenised apart,
    so one response has the same tokens after every prompt, its end token included."""
    if template is None:
        if not tokenizer.chat_template:
            raise UserError("its tokenizer has no chat template", where=path,
                            fix="use an instruction-tuned model, or name its template with --template")
        return lambda messages, response: _own_template(tokenizer, messages, response)
    if problem := template_problem(template):
        raise UserError(problem, where="--template")
    try:
        from llamafactory.data.template import get_template_and_fix_tokenizer
        from llamafactory.hparams import DataArguments
    except ImportError as e:
        raise UserError(f"a named template is LLaMA-Factory's, which cannot be imported: {e}", where="--template",
                        fix='pip install "if-factory[train]", or leave it out for the tokenizer\'s own') from None
    chosen = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=template))

    def render(messages: Sequence[Mapping[str, str]], response: str) -> Pair:
        system = messages[0]["content"] if messages[0]["role"] == "system" else None
        turns = [dict(m) for m in messages if m["role"] != "system"]
        prompt, answer = chosen.encode_oneturn(tokenizer, [*turns, {"role": "assistant", "content": response}],
                                               system)
        # As llamafactory/data/processor/{supervised,pairwise}.py do.
        return prompt, answer + ([tokenizer.eos_token_id] if chosen.efficient_eos else [])

    return render


def _own_template(tokenizer: Any, messages: Sequence[Mapping[str, str]], response: str) -> Pair:
    turns = [dict(m) for m in messages]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": response}], tokenize=False)
    # Templates that open a thinking block for the answer do not show it in finished turns.
    answer = whole[len(prompt):] if whole.startswith(prompt) else response + (tokenizer.eos_token or "")
    x, y = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
    return x, y


# ---------------------------------------------------------------- the computation


def log_probs(model: Any, pairs: Sequence[Pair], *, batch_tokens: int = 16384,
              chunk: int = CHUNK) -> Iterator[tuple[int, LogProb]]:
    """``(position in pairs, log-probability)``, shortest first; a batch that does not fit is halved.

    Raises:
        UserError: one pair alone does not fit into memory.
    """
    import torch

    # Pairs with one prompt and one response token each go through the model once: its last token is never fed.
    feeds: dict[tuple[int, ...], list[int]] = {}
    for i, (x, y) in enumerate(pairs):
        feeds.setdefault(tuple(x if len(y) == 1 else x + y), []).append(i)
    fed = list(feeds)
    batches = list(_batches([len(ids) for ids in fed], batch_tokens))
    while batches:
        batch = batches.pop(0)
        answers = [feeds[fed[i]] for i in batch]
        try:
            scores = _score(model, [fed[i] for i in batch], [[pairs[i] for i in of] for of in answers], chunk)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            half = len(batch) // 2
            if not half:
                raise UserError(f"out of memory on a single text of {len(fed[batch[0]])} tokens",
                                fix="leave longer texts out with --max-tokens, or use a larger GPU") from None
            batches[:0] = [batch[:half], batch[half:]]
            continue
        yield from zip((i for of in answers for i in of), scores, strict=True)


def _batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batch and lengths[i] * (len(batch) + 1) > budget:  # the last one is the longest: all are padded to it
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _score(model: Any, fed: Sequence[Sequence[int]], answers: Sequence[Sequence[Pair]],
           chunk: int) -> list[LogProb]:
    """One batch of token ids with the pairs that each decides, padded on the right whatever the tokenizer says: to a
    causal model what follows is nothing."""
    import torch

    ids = torch.zeros(len(fed), max(map(len, fed)), dtype=torch.long)
    for row, tokens in enumerate(fed):
        ids[row, :len(tokens)] = torch.tensor(tokens)
    scored = [(row, x, y) for row, of in enumerate(answers) for x, y in of]
    # A response token is predicted at the position before it.
    rows, columns, targets, owners = (torch.tensor(values, device=model.device) for values in (
        [row for row, _, y in scored for _ in y],
        [t for _, x, y in scored for t in range(len(x) - 1, len(x) + len(y) - 1)],
        [token for _, _, y in scored for token in y],
        [i for i, (_, _, y) in enumerate(scored) for _ in y]))
    with torch.inference_mode():
        parts = [picked.double()
                 for picked in _token_log_probs(model, ids.to(model.device), rows, columns, targets, chunk)]
    totals = torch.zeros(len(scored), dtype=torch.double, device=model.device).index_add_(0, owners,
                                                                                         torch.cat(parts))
    return [LogProb(total, len(y)) for total, (_, _, y) in zip(totals.tolist(), scored, strict=True)]


def _token_log_probs(model: Any, ids: Any, rows: Any, columns: Any, targets: Any, chunk: int) -> Iterator[Any]:
    """The log-probability of each target, ``[N]`` in float32, in pieces of ``chunk``.

    The body runs once; then the model's own ``forward`` runs on pieces of its output, with the body replaced by
    that output, so that whatever the model does after its head (Gemma's soft cap, Granite's and Cohere's scaling)
    is done here too.
    """
    body = model.base_model
    out = body(input_ids=ids, use_cache=False)
    states, real, answered = out.last_hidden_state[rows, columns], body.forward, False
    try:
        for start in range(0, len(targets), chunk):
            piece = states[None, start:start + chunk]

            def shortcut(*_: Any, piece: Any = piece, **__: Any) -> Any:
                nonlocal answered
                answered = True
                return type(out)(last_hidden_state=piece)

            body.forward = shortcut
            logits = model(input_ids=ids[:1, :1].expand(1, piece.shape[1]), use_cache=False).logits[0]
            if not answered:
                break
            yield _picked(logits, targets[start:start + chunk])
    finally:
        body.forward = real
    if not answered:  # a model that goes round its body (OPT calls the decoder within): whole logits, then
        logits = model(input_ids=ids, use_cache=False).logits[rows, columns]
        yield _picked(logits, targets)


def _picked(logits: Any, targets: Any) -> Any:
    logits = logits.float()
    return logits.gather(-1, targets[:, None])[:, 0] - logits.logsumexp(-1)


# ---------------------------------------------------------------- what was scored before


class ScoreLog:
    """Scores on disk, one JSON line each, by content: a killed evaluation goes on where it was.

    A torn or foreign line is skipped: its pair is scored again.
    """

    def __init__(self, path: Path) -> None:
        self._known: dict[str, LogProb] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    row = json.loads(line)
                    self._known[row["key"]] = LogProb(float(row["total"]), int(row["tokens"]))
                except (ValueError, KeyError, TypeError):
                    continue
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")

    def get(self, key: str) -> LogProb | None:
        return self._known.get(key)

    def put(self, key: str, score: LogProb) -> None:
        self._known[key] = score
        self._file.write(dump_json({"key": key, "total": score.total, "tokens": score.tokens}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()
