"""The scaling fit gives back the line that made the points, in the base that was asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scipy", reason="scipy is not installed here")

from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.evaluation.scaling import fit, read_points

SIZES = [100, 200, 400, 800, 1600, 3200, 6400, 12800]


@pytest.mark.parametrize(("base", "alpha"), [("e", 6.95), ("10", 16.00), ("2", 4.82)])
def test_the_papers_alpha_comes_back_in_each_base(base: str, alpha: float) -> None:
    points = [(n, 6.95 * math.log(n) - 12.0) for n in SIZES]
    found = fit(points, base)  # type: ignore[arg-type]
    assert found.alpha == pytest.approx(alpha, abs=0.005)
    assert found.intercept == pytest.approx(-12.0)
    assert found.r2 == pytest.approx(1.0)


@given(st.floats(-20, 20), st.floats(-50, 50), st.sampled_from(["e", "2", "10"]),
       st.lists(st.integers(1, 10**6), min_size=3, max_size=9, unique=True))
def test_any_line_comes_back_and_the_base_does_not_move_it(alpha: float, c: float, base: str,
                                                           sizes: list[int]) -> None:
    points = [(n, alpha * math.log(n) + c) for n in sizes]
    found = fit(points, base)  # type: ignore[arg-type]
    for n in (1, 50, 10**7):
        assert found.at(n) == pytest.approx(alpha * math.log(n) + c, rel=1e-4, abs=1e-4)


def test_noise_widens_the_interval_and_lowers_r2() -> None:
    noisy = [(n, 5 * math.log(n) + (-1) ** i * 3) for i, n in enumerate(SIZES)]
    found = fit(noisy)
    assert found.low < 5 < found.high
    assert 0.5 < found.r2 < 1
    assert math.isnan(fit(noisy[:2]).low)


@pytest.mark.parametrize("points", [[], [(100, 1.0)], [(100, 1.0), (100, 2.0)], [(0, 1.0), (10, 2.0)]])
def test_what_cannot_be_fitted_is_said(points: list[tuple[int, float]]) -> None:
    with pytest.raises(UserError):
        fit(points)


def test_the_command_fits_every_series_and_says_the_base(tmp_path: Path) -> None:
    rows = [{"n": n, "score": 6.95 * math.log(n), "series": "curated"} for n in SIZES]
    rows += [{"n": n, "score": 20.0, "series": "uncurated"} for n in SIZES]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = CliRunner().invoke(main, ["scaling", str(tmp_path / "p.jsonl"), "-o", str(tmp_path / "o")])
    assert done.exit_code == 0, done.output
    assert "| curated | 6.95 per factor e |" in done.output
    assert "| uncurated | 0.00 per factor e |" in done.output.replace("-0.00", "0.00")
    assert json.loads((tmp_path / "o" / "scaling.json").read_text())["curated"]["base"] == "e"


def test_a_point_without_a_score_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"n": 100, "score": 1}\n{"n": 200, "score": "high"}\n')
    with pytest.raises(UserError, match=r"p\.jsonl:2: field 'score'"):
        read_points(tmp_path / "p.jsonl")
