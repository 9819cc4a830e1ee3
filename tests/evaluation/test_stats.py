import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.evaluation.stats import cluster_difference, cluster_rate, mcnemar, wilson


def test_wilson_matches_the_textbook_figure():
    # Newcombe 1998, table I: 81 of 263, 95 % score interval 0.2553 to 0.3662.
    rate = wilson(81, 263)
    assert (round(rate.low, 4), round(rate.high, 4)) == (0.2553, 0.3662)


def test_wilson_of_all_passed_does_not_claim_certainty():
    assert wilson(20, 20).low < 0.9
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0, 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_its_estimate_and_stays_in_range(case):
    passed, n = case
    rate = wilson(passed, n)
    assert 0 <= rate.low <= rate.value + 1e-12
    assert rate.value - 1e-12 <= rate.high <= 1


def test_cluster_interval_is_wider_than_if_constraints_were_independent():
    # 100 prompts of 5 constraints that all share their prompt's fate: 100 independent facts, not 500.
    clustered = cluster_rate([5, 0] * 50, [5] * 100)
    independent = cluster_rate([1, 0] * 250, [1] * 500)
    assert clustered.value == independent.value == 0.5
    assert clustered.high - clustered.low > 1.8 * (independent.high - independent.low)


def test_pairing_narrows_the_interval_of_a_difference():
    before = [0, 1] * 50
    after = [1, 1, *before[2:]]
    paired = cluster_difference(before, after, [1] * 100)
    assert paired.value == pytest.approx(0.01)
    assert paired.high - paired.low < 0.06  # unpaired it is about 0.28


def test_bootstrap_is_the_same_for_the_same_seed_only():
    data = ([i * i % 7 for i in range(60)], [7 + i % 5 for i in range(60)])
    assert cluster_rate(*data, seed=1) == cluster_rate(*data, seed=1)
    assert len({cluster_rate(*data, seed=seed) for seed in range(5)}) > 1


def test_one_prompt_says_nothing_about_the_spread():
    assert cluster_rate([1], [2]).low == 0
    assert cluster_difference([0], [1], [1]).low == -1


def test_answers_that_all_agree_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cluster_rate([2, 2, 2], [2, 2, 2]).low == 1


def test_mcnemar_is_the_exact_binomial_on_discordant_pairs():
    assert mcnemar(0, 0) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 2**5)
    assert mcnemar(7, 7) == pytest.approx(1)


def test_missing_scipy_is_a_user_error_that_names_the_extra(monkeypatch):
    import builtins

    from if_factory.errors import UserError

    real = builtins.__import__

    def without_scipy(name, *args, **kwargs):
        if name.split(".")[0] == "scipy":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(UserError, match=r"if-factory\[eval\]"):
        wilson(1, 2)
