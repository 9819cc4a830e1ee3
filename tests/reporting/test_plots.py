import builtins
import json

import pytest

from if_factory.errors import UserError
from if_factory.reporting import plots

LEDGER = [{"stage": "seeds", "taken": 10, "advanced": 10, "produced": 10, "dropped": {}, "unfinished": 0},
          {"stage": "ask", "taken": 10, "advanced": 6, "produced": 6, "dropped": {"a": 1, "b": 1, "c": 1},
           "unfinished": 1}]


def rate(passed, n):
    return {"passed": passed, "n": n, "value": passed / n, "low": max(0, passed / n - 0.1), "high": 1.0}


def results(*labels, types=3):
    return {"labels": list(labels), "prompts": 10, "constraints": 20,
            "rates": {k: {"strict": {"prompt": rate(i, 10), "instruction": rate(i, 20)}}
                      for i, k in enumerate(labels, 1)},
            "by_type": {"strict": {f"family:{t}": {k: rate(i * (t + 1) % 5, 5) for i, k in enumerate(labels)}
                                   for t in range(types)}},
            "by_family": {"strict": {"family": {k: rate(i, 15) for i, k in enumerate(labels)}}}}


@pytest.mark.parametrize("labels", [("before",), ("before", "after"), ("base", "easy", "hard")])
def test_pass_rates_draw_every_model_and_say_n(labels):
    ax = plots.pass_rates(results(*labels)).axes[0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(labels)
    assert ax.get_yticklabels()[0].get_text() == "whole prompts (n = 10)"
    assert len(ax.get_yticklabels()) == 2 + 3


def test_many_types_are_shown_as_families():
    ax = plots.pass_rates(results("before", "after", types=25)).axes[0]
    assert [t.get_text() for t in ax.get_yticklabels()[2:]] == ["family  (n = 15)"]


def test_funnel_bars_add_up_to_what_was_taken():
    ax = plots.funnel(LEDGER).axes[0]
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches if bar.get_y() > 0.5]
    assert max(ends) == 10
    assert "6 of 10" in [t.get_text() for t in ax.texts]
    plots.funnel([])


def test_png_and_svg_are_the_same_bytes_every_time(tmp_path):
    for suffix in (".png", ".svg"):
        first, second = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
        plots.save(plots.funnel(LEDGER), first)
        plots.save(plots.funnel(LEDGER), second)
        assert first.read_bytes() == second.read_bytes()
    assert "<script" not in plots.svg(plots.funnel([{**LEDGER[1], "stage": "<script>"}]))


def test_losses_come_from_the_log_or_else_the_state(tmp_path):
    (tmp_path / "trainer_state.json").write_text(json.dumps(
        {"log_history": [{"step": 5, "loss": 1.5}, {"step": 10, "eval_loss": 1}, {"step": 10, "loss": 1.25}]}))
    assert plots.read_losses(tmp_path) == [(5, 1.5), (10, 1.25)]
    (tmp_path / "trainer_log.jsonl").write_text('{"current_steps": 1, "loss": 2.0}\n{"current_steps": 2}\n')
    assert plots.read_losses(tmp_path) == [(1, 2.0)]
    assert len(plots.loss_curves({"easy": tmp_path, "hard": tmp_path}).axes) == 2


@pytest.mark.parametrize(("name", "text", "message"), [
    (None, "", "no trainer_log.jsonl"),
    ("trainer_log.jsonl", '{"current_steps": 1}\n', "trained no step"),
    ("trainer_state.json", "[]", "not a trainer state"),
])
def test_a_stage_without_losses_is_explained(tmp_path, name, text, message):
    if name:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        plots.read_losses(tmp_path)


def test_missing_matplotlib_is_a_user_error_that_names_the_extra(monkeypatch):
    real = builtins.__import__

    def without_matplotlib(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    with pytest.raises(UserError, match=r"if-factory\[eval\]"):
        plots.funnel(LEDGER)


def ranking_results(*labels):
    cell = {"accuracy": rate(9, 10), "ties": 0, "margin": {"value": 2.5, "n": 10, "low": 1.0, "high": 4.0},
            "per_token": {"value": 0.1, "n": 1, "low": None, "high": None}}
    return {"format": 1, "labels": list(labels), "items": 10, "too_long": 1, "seed": 0,
            "settings": {s: dict.fromkeys(labels, cell) for s in ("M,M", "M,1", "as given")}}


def test_ranking_draws_every_setting_and_model_also_without_an_interval():
    results = ranking_results("before", "sft", "iorpo")
    results["settings"]["M,1"]["sft"] = {**results["settings"]["M,1"]["sft"],
                                         "margin": {"value": 7.0, "n": 1, "low": None, "high": None}}
    accuracy, margin = plots.ranking(results).axes
    assert [t.get_text() for t in accuracy.get_yticklabels()] == ["(M,M)", "(M,1)", "as given"]
    assert [t.get_text() for t in accuracy.get_legend().get_texts()] == ["before", "sft", "iorpo"]
    assert 7.0 in [line.get_xdata()[0] for line in margin.get_lines()]
