"""The I-ORPO loss against formulas written a second time here, and its gradients where plain formulas break."""

import importlib.util
import math
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="the I-ORPO stage needs torch: pip install 'if-factory[train]'")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from if_factory.iorpo.loss import iorpo_loss, log1mexp, log_odds  # noqa: E402

BETA = 0.4
PAD, IGNORE = 0, -100
VOCABULARY = 17
# (prompt_w, prompt_l, response) lengths in tokens: unequal, so that every row has pads
PAIRS = [(5, 7, 6), (9, 4, 11), (3, 3, 1)]


@pytest.fixture
def batch():
    """Three pairs padded on the right, as LLaMA-Factory's collator makes them, and logits nobody computed."""
    generator = torch.Generator().manual_seed(7)
    length = max(max(prompts) + y for *prompts, y in PAIRS)
    ids = torch.full((2 * len(PAIRS), length), PAD)
    labels = torch.full_like(ids, IGNORE)
    attention = torch.zeros_like(ids)
    for pair, (prompt_w, prompt_l, y) in enumerate(PAIRS):
        response = torch.randint(1, VOCABULARY, (y,), generator=generator)
        for row, prompt in ((pair, prompt_w), (pair + len(PAIRS), prompt_l)):
            ids[row, :prompt] = torch.randint(1, VOCABULARY, (prompt,), generator=generator)
            ids[row, prompt : prompt + y] = response
            labels[row, prompt : prompt + y] = response
            attention[row, : prompt + y] = 1
    logits = torch.randn(*ids.shape, VOCABULARY, generator=generator)
    return SimpleNamespace(ids=ids, labels=labels, attention=attention, logits=logits)


def ours(batch, **settings):
    following = batch.ids[:, 1:]
    logps = batch.logits[:, :-1].log_softmax(-1).gather(2, following[..., None])[..., 0]
    response = batch.labels[:, 1:] != IGNORE
    return iorpo_loss(logps, response, beta=BETA, sequence=batch.attention[:, 1:].bool(), **settings)


def token_logp(batch, row, position):
    """log P(token at position | tokens before it), by Python's own arithmetic."""
    scores = batch.logits[row, position - 1].double().tolist()
    top = max(scores)
    total = top + math.log(math.fsum(math.exp(score - top) for score in scores))
    return scores[batch.ids[row, position]] - total


def mean_response_logp(batch, row):
    """(1/T) sum of log p over the labelled answer tokens."""
    positions = [p for p in range(1, batch.ids.shape[1]) if batch.labels[row, p] != IGNORE]
    return math.fsum(token_logp(batch, row, p) for p in positions) / len(positions)


def odds_terms(batch):
    """-log sigmoid(log odds_w - log odds_l) of every pair, with odds = e^p / (1 - e^p)."""
    terms = []
    for pair in range(len(PAIRS)):
        won, lost = (math.exp(mean_response_logp(batch, row)) for row in (pair, pair + len(PAIRS)))
        ratio = (won / (1 - won)) / (lost / (1 - lost))
        terms.append(-math.log(ratio / (1 + ratio)))
    return terms


def test_the_loss_on_the_response_equals_the_papers_formula_written_out(batch):
    nll = [-mean_response_logp(batch, row) for row in range(len(PAIRS))]
    expected = math.fsum(n + BETA * o for n, o in zip(nll, odds_terms(batch), strict=True)) / len(PAIRS)
    assert ours(batch).loss.item() == pytest.approx(expected, abs=1e-6)


def test_the_loss_on_prompt_and_response_equals_suris_definition_on_the_same_batch(batch):
    # cross-entropy over prompt and answer of the chosen rows, pads masked, one mean over all tokens of the batch
    tokens = [
        -token_logp(batch, row, position)
        for row in range(len(PAIRS))
        for position in range(1, batch.ids.shape[1])
        if batch.attention[row, position] == 1
    ]
    assert len(tokens) == sum(w + y - 1 for w, _, y in PAIRS)
    expected = math.fsum(tokens) / len(tokens) + BETA * math.fsum(odds_terms(batch)) / len(PAIRS)
    found = ours(batch, nll_on="prompt_and_response")
    assert found.loss.item() == pytest.approx(expected, abs=1e-6)
    assert abs(found.loss.item() - ours(batch).loss.item()) > 1e-3, "the two definitions are not interchangeable"


def test_what_is_logged_is_what_the_loss_is_made_of(batch):
    found = ours(batch)
    assert found.loss.item() == pytest.approx((found.nll + BETA * found.odds).item())
    means = [mean_response_logp(batch, row) for row in range(6)]
    assert [*found.logps_w.tolist(), *found.logps_l.tolist()] == pytest.approx(means, abs=1e-6)
    assert found.accuracy.item() == pytest.approx((found.logps_w > found.logps_l).float().mean().item())
    assert 0 < found.accuracy.item() < 1, "the batch should have pairs ranked either way"


@pytest.mark.slow  # the import alone
@pytest.mark.skipif(importlib.util.find_spec("llamafactory") is None, reason="llamafactory is not installed")
@pytest.mark.parametrize("beta", [0.1, 0.4, 1.0])
def test_the_loss_on_the_response_equals_stock_llamafactory_orpo(beta):
    from llamafactory.train.dpo.trainer import CustomDPOTrainer

    logps_w = torch.tensor([-0.3, -2.0, -1.1, -7.5])
    logps_l = torch.tensor([-0.9, -1.5, -1.2, -0.2])
    stock = CustomDPOTrainer.odds_ratio_loss(SimpleNamespace(beta=beta), logps_w, logps_l)
    one_token = torch.cat([logps_w, logps_l])[:, None]
    found = iorpo_loss(one_token, torch.ones_like(one_token, dtype=torch.bool), beta=beta)
    assert found.loss.item() == pytest.approx(stock.mean().item(), abs=1e-6)


def plain_log_odds(won, lost):
    return (won - lost) - (torch.log(1 - torch.exp(won)) - torch.log(1 - torch.exp(lost)))


def test_gradients_equal_those_of_the_plain_formula_where_that_one_is_safe():
    values = torch.linspace(-6, -0.02, 40, dtype=torch.float64)
    pairs = [g.flatten().requires_grad_() for g in torch.meshgrid(values, values, indexing="ij")]
    found = torch.autograd.grad(log_odds(*pairs).sum(), pairs)
    expected = torch.autograd.grad(plain_log_odds(*pairs).sum(), pairs)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("nll_on", ["response", "prompt_and_response"])
def test_gradcheck_of_the_whole_loss_in_float64(nll_on):
    generator = torch.Generator().manual_seed(3)
    logps = -0.05 - 4 * torch.rand(4, 6, dtype=torch.float64, generator=generator)
    response = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]] * 2, dtype=torch.bool)
    sequence = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0]] * 2, dtype=torch.bool)

    def loss(x):
        return iorpo_loss(x, response, beta=BETA, nll_on=nll_on, sequence=sequence).loss

    assert torch.autograd.gradcheck(loss, (logps.requires_grad_(),))


EXTREMES = [0.0, -1e-38, -1e-8, -1e-6, -1e-4, -0.7, -30.0, -1e4]


@pytest.mark.parametrize("won", EXTREMES)
@pytest.mark.parametrize("lost", EXTREMES)
def test_loss_and_gradients_are_finite_at_certain_and_at_hopeless_responses(won, lost):
    logps = torch.tensor([[won], [lost]], requires_grad=True)
    found = iorpo_loss(logps, torch.ones(2, 1, dtype=torch.bool), beta=BETA)
    (gradient,) = torch.autograd.grad(found.loss, logps)
    assert torch.isfinite(found.loss)
    assert torch.isfinite(gradient).all()
    assert gradient[0] <= 0 <= gradient[1], "x_w is pushed up, x_l down"


def test_the_plain_formula_does_break_where_ours_does_not():
    won = torch.tensor([-1e-8], requires_grad=True)
    (gradient,) = torch.autograd.grad(-plain_log_odds(won, torch.tensor([-1.0])).sum(), won)
    assert not torch.isfinite(gradient).all()


@given(st.floats(min_value=-200, max_value=-1e-5))
@settings(deadline=None, max_examples=300)
def test_log1mexp_is_exact_to_float32_rounding(x):
    x = torch.tensor(x, dtype=torch.float32)
    exact = math.log(-math.expm1(x.item())) if x.item() > -0.69 else math.log1p(-math.exp(x.item()))
    assert log1mexp(x).item() == pytest.approx(exact, rel=2e-6, abs=1e-37)


def test_half_precision_is_computed_in_float32():
    assert log1mexp(torch.tensor(-0.5, dtype=torch.bfloat16)).dtype == torch.float32
    logps = torch.full((2, 3), -0.5, dtype=torch.bfloat16)
    assert iorpo_loss(logps, torch.ones(2, 3, dtype=torch.bool), beta=BETA).loss.dtype == torch.float32


def test_what_no_mask_names_is_never_read():
    logps = torch.tensor([[-1.0, -torch.inf], [-2.0, torch.nan]], requires_grad=True)
    mask = torch.tensor([[True, False], [True, False]])
    found = iorpo_loss(logps, mask, beta=BETA, nll_on="prompt_and_response", sequence=mask)
    found.loss.backward()
    assert torch.isfinite(found.loss)
    assert logps.grad[:, 1].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("shape", "settings", "says"),
    [
        ((3, 4), {}, "2B"),
        ((2, 4), {"nll_on": "prompt_and_response"}, "sequence"),
        ((2, 4), {"nll_on": "prompt"}, "nll_on"),
    ],
)
def test_misuse_is_named(shape, settings, says):
    with pytest.raises(ValueError, match=says):
        iorpo_loss(torch.zeros(shape), torch.ones(shape, dtype=torch.bool), beta=BETA, **settings)
