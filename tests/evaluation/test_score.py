"""The scorer equals a plain computation over full logits, whatever shares the batch and however the model ends."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from if_factory.errors import UserError
from if_factory.evaluation import score
from if_factory.evaluation.score import Pair, Scorer, log_probs

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(importlib.util.find_spec("peft") is None,
                                                  reason="torch and peft are not installed")]
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>\n{% endfor %}" \
           "{% if add_generation_prompt %}[assistant]{% endif %}"
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a fruit."}]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a tokenizer of bytes and a chat template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.exporting.reference import _byte_tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    tokenizer = _byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64,
                                 num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=512,
                                 initializer_range=0.3, eos_token_id=1)).save_pretrained(folder)
    return folder


def pairs(n: int = 12) -> list[Pair]:
    rng = Random(0)
    return [([rng.randrange(2, 250) for _ in range(rng.randint(1, 40))],
             [rng.randrange(2, 250) for _ in range(rng.randint(1, 60))]) for _ in range(n)]


def plain(model: Any, pair: Pair) -> float:
    """All logits of one sequence at once, nothing padded."""
    import torch

    x, y = pair
    ids = torch.tensor([x + y], device=model.device)
    with torch.no_grad():
        logps = model(ids).logits[0].double().log_softmax(-1)
    return sum(float(logps[t - 1, ids[0, t]]) for t in range(len(x), len(x + y)))


def scored(model: Any, found: Sequence[Pair], **how: Any) -> list[float]:
    return [s.total for _, s in sorted(log_probs(model, found, **how), key=lambda kv: kv[0])]


@pytest.mark.parametrize(("batch_tokens", "chunk"), [(1, 1024), (300, 1024), (10**6, 1024), (10**6, 7), (500, 1)])
def test_equals_the_plain_sum_in_every_batch_and_chunk(tiny: Path, batch_tokens: int, chunk: int) -> None:
    model, _ = score.load(str(tiny), [], "cpu")
    found = pairs()
    assert scored(model, found, batch_tokens=batch_tokens, chunk=chunk) == pytest.approx(
        [plain(model, p) for p in found], abs=1e-4)


def test_a_left_padded_forward_gives_the_same(tiny: Path) -> None:
    import torch

    model, tokenizer = score.load(str(tiny), [], "cpu")
    assert tokenizer.padding_side == "left"
    found = pairs(5)
    width = max(len(x + y) for x, y in found)
    ids = torch.tensor([[0] * (width - len(x + y)) + x + y for x, y in found])
    mask = torch.tensor([[0] * (width - len(x + y)) + [1] * len(x + y) for x, y in found])
    with torch.no_grad():
        at = (mask.cumsum(1) - 1).clamp(min=0)
        logps = model(ids, attention_mask=mask, position_ids=at).logits.log_softmax(-1)
    expected = [float(logps[i, -1 - len(y):-1].gather(-1, ids[i, -len(y):, None]).sum())
                for i, (_, y) in enumerate(found)]
    assert scored(model, found) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere", "opt", "gpt2", "qwen3_moe"])
def test_what_a_model_does_after_its_head_is_done_here_too(family: str) -> None:
    """Soft caps, scales, tied heads, bodies within bodies."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"vocab_size": 260, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
             "initializer_range": 0.5}
    own = {"gemma2": small | {"final_logit_softcapping": 2.0}, "granite": small | {"logits_scaling": 3.0},
           "cohere": small | {"logit_scale": 0.1},
           "opt": {"vocab_size": 260, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "init_std": 0.5,
                   "num_attention_heads": 4, "max_position_embeddings": 128, "word_embed_proj_dim": 32},
           "gpt2": {"vocab_size": 260, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
           "qwen3_moe": small | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                                 "mlp_only_layers": []}}[family]
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, pad_token_id=0, bos_token_id=1, eos_token_id=2, **own)
    model = AutoModelForCausalLM.from_config(config).eval()
    found = pairs(6)
    assert scored(model, found, chunk=16) == pytest.approx([plain(model, p) for p in found], abs=1e-4)
    assert scored(model, found, chunk=16) == scored(model, found, chunk=16)  # the model is left as it was


def test_chained_adapters_are_both_in_the_score(tiny: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model, saved = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32), []
    for name in ("easy", "hard"):  # as create_new_adapter does: merge what is there, train a fresh one
        peft = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
        peft.save_pretrained(tmp_path / name)
        model = peft.merge_and_unload()
        saved.append(tmp_path / name)
    found = pairs(4)
    scorer = Scorer(tiny, saved, device="cpu")
    totals = [s.total for _, s in sorted(scorer.score(found), key=lambda kv: kv[0])]
    assert totals == pytest.approx([plain(model.eval(), p) for p in found], abs=1e-3)
    chains = ([], saved[:1], saved[1:], saved[::-1])
    keys = {scorer.key, *(Scorer(tiny, chain, device="cpu").key for chain in chains)}
    assert len(keys) == 5  # no two of these share stored scores


def test_a_batch_that_does_not_fit_is_halved_and_a_text_that_does_not_is_told(
        tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model, _ = score.load(str(tiny), [], "cpu")
    real, sizes = score._score, []

    def tight(model: Any, fed: Sequence[Any], answers: Any, chunk: int) -> Any:
        sizes.append(len(fed))
        if len(fed) > 3:
            raise torch.OutOfMemoryError
        return real(model, fed, answers, chunk)

    monkeypatch.setattr(score, "_score", tight)
    found = pairs(10)
    assert scored(model, found) == pytest.approx([plain(model, p) for p in found], abs=1e-4)
    assert max(sizes) == 10
    monkeypatch.setattr(score, "_score", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(UserError, match="out of memory on a single text"):
        scored(model, found)


def test_answers_of_one_token_to_one_prompt_go_through_the_model_once(tiny: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = score.load(str(tiny), [], "cpu")
    real, fed = score._score, []

    def counted(model: Any, sequences: Sequence[Any], *rest: Any) -> Any:
        fed.extend(sequences)
        return real(model, sequences, *rest)

    monkeypatch.setattr(score, "_score", counted)
    found = [(x, [digit]) for x, _ in pairs(4) for digit in (49, 50)]
    assert scored(model, found) == pytest.approx([plain(model, p) for p in found], abs=1e-4)
    assert sorted(fed) == sorted(tuple(x) for x, _ in pairs(4))


# ---------------------------------------------------------------- templates


def test_the_answer_turn_is_scored_with_its_end_and_nothing_of_the_prompt(tiny: Path) -> None:
    scorer = Scorer(tiny, device="cpu")
    _, tokenizer = score.load(str(tiny), [], "cpu")
    x, y = scorer.render(CHAT, "A fig.")
    assert tokenizer.decode(x) == "[system]Be brief.</s>\n[user]Name a fruit.</s>\n[assistant]"
    assert tokenizer.decode(y) == "A fig.</s>\n"
    assert scorer.render([*CHAT[:1], {"role": "user", "content": "Other."}], "A fig.")[1] == y


def test_a_template_that_opens_a_thinking_block_leaves_the_response_and_its_end(tiny: Path) -> None:
    _, tokenizer = score.load(str(tiny), [], "cpu")
    tokenizer.chat_template = TEMPLATE.replace("[assistant]{% endif %}", "[assistant]<think>{% endif %}")
    x, y = score.renderer(tokenizer, None, "m")(CHAT, "A fig.")
    assert tokenizer.decode(x).endswith("[assistant]<think>")
    assert tokenizer.decode(y) == "A fig.</s>"


def test_a_model_without_a_template_and_an_unknown_template_are_refused(tiny: Path) -> None:
    _, tokenizer = score.load(str(tiny), [], "cpu")
    tokenizer.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        score.renderer(tokenizer, None, "m")
    with pytest.raises(UserError, match=r"llama3|cannot be imported"):
        score.renderer(tokenizer, "llama33", "m")


@pytest.mark.parametrize("template", ["chatml", "llama3", "qwen", "alpaca", "gemma"])
def test_a_named_template_gives_the_tokens_llamafactory_trains_on(tiny: Path, template: str) -> None:
    pytest.importorskip("llamafactory", reason="LLaMA-Factory is not installed")
    from llamafactory.data.processor import PairwiseDatasetProcessor
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    _, tokenizer = score.load(str(tiny), [], "cpu")
    x, y = score.renderer(tokenizer, template, "m")(CHAT, "A fig.")
    _, tokenizer = score.load(str(tiny), [], "cpu")
    data = DataArguments(template=template, cutoff_len=4096)
    chosen = get_template_and_fix_tokenizer(tokenizer, data)
    trainer = PairwiseDatasetProcessor(template=chosen, tokenizer=tokenizer, processor=None, data_args=data)
    answer = {"role": "assistant", "content": "A fig."}
    ids, labels, *_ = trainer._encode_data_example([CHAT[1]], [answer, answer], CHAT[0]["content"], None, [], [],
                                                   [])
    assert (x + y, len(x)) == (ids, labels.count(-100))


def test_a_whole_ranking_of_a_real_model_has_the_plain_margins(tiny: Path, tmp_path: Path) -> None:
    import json

    from if_factory.evaluation.rank import rank
    from if_factory.evaluation.ranking import Triple, contests
    from if_factory.records import Constraint

    good, bad = (tuple(Constraint(type="text", text=f"{side} {i}.") for i in range(4))
                 for side in ("Use", "Avoid"))
    items = [Triple(str(i), f"Some text {i}.", "Write.", good, bad) for i in range(3)]
    rank(items, {"m": lambda: Scorer(tiny, device="cpu", batch_tokens=700)}, tmp_path)
    scorer = Scorer(tiny, device="cpu")
    rows = [json.loads(line) for line in (tmp_path / "ranking.jsonl").read_text().splitlines()]
    for row, contest in zip(rows, contests(items), strict=True):
        for side in ("x_w", "x_l"):
            prompt = [{"role": "user", "content": getattr(contest, side)}]
            expected = plain(scorer.model, scorer.render(prompt, contest.item.response))
            assert row["log_probs"]["m"][side] == pytest.approx(expected, abs=1e-4)


def test_the_preference_of_a_real_model_is_that_of_its_logits_at_the_answer(tiny: Path, tmp_path: Path) -> None:
    import json

    import torch

    from if_factory.evaluation.preference import PROMPTS
    from if_factory.evaluation.rank import rank
    from if_factory.evaluation.ranking import Triple
    from if_factory.judge.judge import mark_for
    from if_factory.prompts import load

    x_w, x_l, y = "Use figs.", "Use pears.", "Figs."
    scorer = Scorer(tiny, device="cpu")
    tiny_long = Triple("t", y, given=(x_w, x_l))
    scorer.longest = 4096  # the model has rotary positions; its question is longer than its configuration says
    result = rank([tiny_long], {"m": lambda: scorer}, tmp_path, preference=True)
    row = json.loads((tmp_path / "ranking.jsonl").read_text())["digits"]["m"]
    assert result.preference is not None
    reopened = Scorer(tiny, device="cpu")
    for order, first, second in (("w_first", x_w, x_l), ("l_first", x_l, x_w)):
        text = load(PROMPTS, "preference").render(response=y, first=first, second=second,
                                                  mark=mark_for(y, first, second))
        x, answer = reopened.render([{"role": "user", "content": text}], "1")
        with torch.no_grad():
            logps = reopened.model(torch.tensor([x])).logits[0, -1].double().log_softmax(-1)
        one, two = float(logps[answer[0]]), float(logps[answer[0] + 1])  # bytes: 2 follows 1
        expected = (one, two) if order == "w_first" else (two, one)
        assert (row[order]["x_w"], row[order]["x_l"]) == pytest.approx(expected, abs=1e-4)
