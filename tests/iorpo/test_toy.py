"""What I-ORPO is for: on a toy with a known answer, wider margins than SFT on the same data, no lower accuracy."""

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.mark.slow
def test_the_margin_is_at_least_half_again_that_of_sft_on_the_same_data_and_steps() -> None:
    from benchmarks.iorpo_toy import results

    ranking = results(seeds=[0], at=[200])[200]
    for setting in ("M,M", "M,1"):
        sft, iorpo = ranking.cells[setting]["SFT"], ranking.cells[setting]["I-ORPO"]
        assert iorpo.margin.value >= 1.5 * sft.margin.value
        assert iorpo.accuracy.value >= sft.accuracy.value
        assert iorpo.accuracy.value > 0.9
