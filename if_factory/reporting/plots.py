"""The pictures: acceptance funnel, pass rate per constraint type, loss of several training stages.

Each function returns a matplotlib ``Figure`` that no global state knows of; ``save`` and ``svg`` write it. The
colours are Okabe and Ito's, which people with any colour vision can tell apart; what a colour says is also
said by a marker, a position or a label.
"""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from if_factory.errors import UserError
from if_factory.files import read_rows, read_text, write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from if_factory.evaluation.scaling import Fit

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
GREY, INK = "#8A8F98", "#22252A"
_SERIES = ((GREY, "o"), (BLUE, "D"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "v"), (SKY, "P"))
_STYLE: Any = {
    "font.size": 9.5, "font.family": "DejaVu Sans", "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": GREY, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left", "legend.frameon": False,
    "svg.hashsalt": "if_factory", "svg.fonttype": "path", "figure.dpi": 110}


P = ParamSpec("P")
R = TypeVar("R")


def _styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in our style, leaving matplotlib's own settings alone."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            import matplotlib as mpl
        except ImportError:
            raise UserError("plots need matplotlib, which is not installed",
                            fix='pip install "if-factory[eval]"') from None
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return styled


@_styled
def funnel(stages: Sequence[Mapping[str, Any]]) -> Figure:
    """How many records went on from each stage and why the others did not.

    Args:
        stages: ``stages`` of ``ledger.json``: ``stage``, ``taken``, ``advanced``, ``unfinished`` and ``dropped``
            by reason.
    """
    figure, ax = _figure(8.2, 1.1 + 0.55 * len(stages))
    widest = max([1, *(s["taken"] for s in stages)])
    for y, s in enumerate(stages):
        dropped = sorted(s["dropped"].items(), key=lambda kv: (-kv[1], kv[0]))
        lost = sum(n for _, n in dropped)
        parts = ((s["advanced"], BLUE), (lost, VERMILION), (s.get("unfinished", 0), "#D5D8DC"))
        left = 0
        for n, colour in parts:
            if n:
                ax.barh(y, n, left=left, height=0.62, color=colour, edgecolor="white", linewidth=0.8)
            left += n
        why = [f"{reason} {n:,}" for reason, n in dropped[:3]]
        if len(dropped) > 3:
            why.append(f"other reasons {sum(n for _, n in dropped[3:]):,}")
        if s.get("unfinished"):
            why.append(f"unfinished {s['unfinished']:,}")
        ax.text(left + widest * 0.012, y, f"{s['advanced']:,} of {s['taken']:,}", va="center", fontweight="bold")
        if why:
            ax.text(0, y + 0.33, "  ·  ".join(why), va="top", fontsize=7.8, color=VERMILION if lost else GREY)
    ax.set_yticks(range(len(stages)), [s["stage"] for s in stages])
    ax.set_ylim(len(stages) - 0.3, -0.6)
    ax.set_xlim(0, widest * 1.16)
    ax.set_xlabel("records")
    ax.set_title(f"Records by stage ({stages[0]['taken']:,} inputs)" if stages else "Records by stage", pad=24)
    ax.tick_params(axis="y", length=0)
    _key(ax, (("went on", BLUE), ("dropped", VERMILION), ("unfinished", "#D5D8DC"))
         if any(s.get("unfinished") for s in stages) else (("went on", BLUE), ("dropped", VERMILION)))
    return figure


@_styled
def pass_rates(results: Mapping[str, Any], mode: str = "strict", most: int = 24) -> Figure:
    """Pass rate overall and per constraint type, one mark per model with its 95 % interval, largest gain first.

    Args:
        results: ``results.json`` of an evaluation.
        most: if there are more types than this, families are shown: a few constraints each say nothing.
    """
    labels = list(results["labels"])
    by_type = results["by_type" if len(results["by_type"][mode]) <= most else "by_family"][mode]
    order = sorted(by_type, key=lambda t: (by_type[t][labels[0]]["value"] - by_type[t][labels[-1]]["value"], t))
    overall = [(f"whole prompts (n = {results['prompts']})",
                {k: results["rates"][k][mode]["prompt"] for k in labels}),
               (f"all constraints (n = {results['constraints']})",
                {k: results["rates"][k][mode]["instruction"] for k in labels})]
    rows = overall + [(f"{t}  (n = {by_type[t][labels[0]]['n']})", by_type[t]) for t in order]

    figure, ax = _figure(8.2, 1.3 + 0.33 * len(rows))
    spread = 0.34 / max(1, len(labels) - 1)
    for y, (_, cells) in enumerate(rows):
        if y % 2 == 0:
            ax.axhspan(y - 0.5, y + 0.5, color="#F4F5F7", linewidth=0, zorder=0)
        for i, label in enumerate(labels):
            colour, marker = _SERIES[i % len(_SERIES)]
            r = cells[label]
            at = y + (i - (len(labels) - 1) / 2) * spread
            ax.plot([100 * r["low"], 100 * r["high"]], [at, at], color=colour, linewidth=1.6, alpha=0.75, zorder=2)
            ax.plot(100 * r["value"], at, marker, color=colour, markersize=5.5, zorder=3,
                    label=label if y == 0 else None)
    ax.axhline(len(overall) - 0.5, color=GREY, linewidth=0.8)
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    for tick in ax.get_yticklabels()[:len(overall)]:
        tick.set_fontweight("bold")
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(-2, 102)
    ax.set_xlabel(f"pass rate, {mode} (%), with 95 % interval")
    ax.grid(axis="x", color="#E1E4E8", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.set_title("Constraint pass rate on held-out prompts", pad=24)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(labels), borderaxespad=0.2, handletextpad=0.2,
              columnspacing=1.4)
    return figure


@_styled
def headline(results: Mapping[str, Any]) -> Figure:
    """What is satisfied and useful, first of all, and what stands beside it: a mark per model with its interval.

    Args:
        results: ``results.json`` of an evaluation, format 2, with a headline.
    """
    labels = list(results["labels"])
    measures = [m for m in results["headline"]["measures"] if m["unit"] == "share"]
    figure, ax = _figure(8.2, 1.3 + 0.45 * len(measures))
    spread = 0.34 / max(1, len(labels) - 1)
    for y, m in enumerate(measures):
        for i, label in enumerate(labels):
            colour, marker = _SERIES[i % len(_SERIES)]
            r, at = m["values"][label], y + (i - (len(labels) - 1) / 2) * spread
            ax.plot([100 * r["low"], 100 * r["high"]], [at, at], color=colour, linewidth=1.6, alpha=0.75, zorder=2)
            ax.plot(100 * r["value"], at, marker, color=colour, markersize=5.5, zorder=3,
                    label=label if y == 0 else None)
    ax.axhspan(-0.5, 0.5, color="#F4F5F7", linewidth=0, zorder=0)
    ax.set_yticks(range(len(measures)),
                  [f"{m['title']}  (n = {m['values'][labels[0]]['n']})" for m in measures])
    ax.get_yticklabels()[0].set_fontweight("bold")
    ax.set_ylim(len(measures) - 0.5, -0.5)
    ax.set_xlim(-2, 102)
    ax.set_xlabel("share (%), with 95 % interval")
    ax.grid(axis="x", color="#E1E4E8", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", length=0)
    ax.set_title("Held-out prompts: satisfied and useful", pad=24)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=min(4, len(labels)), borderaxespad=0.2,
              handletextpad=0.2, columnspacing=1.4)
    return figure


@_styled
def similarities(by_benchmark: Mapping[str, Sequence[float]]) -> Figure:
    """How similar training prompts are to the nearest prompt of each benchmark: a histogram per benchmark.

    Args:
        by_benchmark: name to one cosine in [0, 1] per training prompt. Mass near 1 is contamination.
    """
    figure, ax = _figure(7.2, 3.4)
    for i, (name, values) in enumerate(sorted(by_benchmark.items())):
        colour = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)[i % 6]
        ax.hist(values, bins=50, range=(0, 1), histtype="step", linewidth=1.6, color=colour,
                label=f"{name} (largest {max(values, default=0):.2f})")
    ax.set_xlim(0, 1)
    ax.set_xlabel("cosine similarity to the nearest benchmark prompt")
    ax.set_ylabel("training prompts")
    ax.set_title("Contamination", pad=24)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)
    return figure


@_styled
def scaling(series: Mapping[str, Sequence[tuple[int, float]]], fits: Mapping[str, Fit], label: str) -> Figure:
    """Score against the number of training rows on a logarithmic axis, a point per run and a line per series.

    Args:
        series: name to ``(rows, score in per cent)``.
        fits: the line of a series that has one.
        label: what the score is, for the axis.
    """
    figure, ax = _figure(7.2, 4.0)
    for i, (name, points) in enumerate(series.items()):
        colour, marker = ((BLUE, "D"), (GREY, "o"), (VERMILION, "s"), (GREEN, "^"))[i % 4]
        sizes = [n for n, _ in points]
        text = name
        if line := fits.get(name):
            ends = [min(sizes), max(sizes)]
            ax.plot(ends, [line.at(n) for n in ends], color=colour, linewidth=1.6)
            text += f": {line.alpha:.2f} log{'' if line.base == 'e' else line.base} N + {line.intercept:.1f}"
        ax.plot(sizes, [w for _, w in points], marker, color=colour, markersize=6, label=text)
    ax.set_xscale("log")
    ax.set_xlabel("training rows N")
    ax.set_ylabel(label)
    ax.grid(color="#E1E4E8", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_title("Score by number of training rows", pad=24)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)
    return figure


@_styled
def ranking(results: Mapping[str, Any]) -> Figure:
    """Ranking accuracy and mean margin in each setting, one mark per model with its 95 % interval.

    Args:
        results: ``ranking.json`` of `rank`.
    """
    settings, labels = results["settings"], list(results["labels"])
    figure, axes = _figure(9.2, 1.4 + 0.5 * len(settings), columns=2)
    spread = 0.5 / max(1, len(labels) - 1)
    for y, cells in enumerate(settings.values()):
        for i, label in enumerate(labels):
            colour, marker = _SERIES[i % len(_SERIES)]
            at = y + (i - (len(labels) - 1) / 2) * spread
            for ax, key, scale in ((axes[0], "accuracy", 100), (axes[1], "margin", 1)):
                r = cells[label][key]
                if r["low"] is not None:
                    ax.plot([scale * r["low"], scale * r["high"]], [at, at], color=colour, linewidth=1.6,
                            alpha=0.75)
                ax.plot(scale * r["value"], at, marker, color=colour, markersize=5.5, zorder=3,
                        label=label if y == 0 else None)
    for ax, chance, what in ((axes[0], 50, "accuracy (%), with 95 % interval"),
                             (axes[1], 0, "mean margin (nats)")):
        ax.axvline(chance, color=GREY, linewidth=0.8, linestyle=":")
        ax.set_ylim(len(settings) - 0.5, -0.5)
        ax.set_xlabel(what)
        ax.grid(axis="x", color="#E1E4E8", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
    axes[0].set_xlim(-2, 102)
    axes[0].set_yticks(range(len(settings)), [f"({s})" if "," in s else s for s in settings])
    axes[1].set_yticks([])
    axes[0].set_title("Is the response likelier after its own instruction?", pad=24)
    axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(labels), borderaxespad=0.2,
                   handletextpad=0.2, columnspacing=1.4)
    return figure


@_styled
def loss_curves(stages: Mapping[str, Path]) -> Figure:
    """The training loss of several stages side by side, in the order given, smoothed over the raw values.

    Args:
        stages: label to a LLaMA-Factory ``output_dir``. Losses of SFT and DPO are different quantities, so each
            stage has its own scale.

    Raises:
        UserError: a folder has no log or its log no loss.
    """
    curves = {label: read_losses(folder) for label, folder in stages.items()}
    figure, axes = _figure(max(4.6, 3.1 * len(curves)), 3.2, columns=len(curves))
    for i, (ax, (label, points)) in enumerate(zip(axes, curves.items(), strict=True)):
        steps, losses = [s for s, _ in points], [v for _, v in points]
        colour = (BLUE, VERMILION, GREEN, PURPLE)[i % 4]
        few = len(points) < 12
        ax.plot(steps, losses, color=colour, linewidth=1.8 if few else 0.8, alpha=1 if few else 0.35,
                marker="o" if few else None, markersize=4)
        if not few:
            ax.plot(steps, _smooth(losses), color=colour, linewidth=2)
        ax.set_title(f"{label}\n", fontsize=10)
        ax.text(0, 1.03, f"{steps[-1]} steps, loss {losses[0]:.3g} to {losses[-1]:.3g}", fontsize=8.5,
                color="#5A6068", transform=ax.transAxes)
        ax.set_xlabel("step")
        ax.grid(axis="y", color="#E1E4E8", linewidth=0.7)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylabel("training loss")
    return figure


def read_losses(folder: Path) -> list[tuple[int, float]]:
    """``(step, loss)`` from ``trainer_log.jsonl``, or else ``trainer_state.json``, of an output folder."""
    folder = Path(folder)
    log, state = folder / "trainer_log.jsonl", folder / "trainer_state.json"
    if log.is_file():
        points = [(row["current_steps"], row["loss"]) for _, row in read_rows(log)
                  if "loss" in row and "current_steps" in row]
    elif state.is_file():
        try:
            history = json.loads(read_text(state))["log_history"]
        except (ValueError, KeyError, TypeError):
            raise UserError("not a trainer state", where=str(state)) from None
        points = [(row["step"], row["loss"]) for row in history if "loss" in row]
    else:
        raise UserError("no trainer_log.jsonl and no trainer_state.json", where=str(folder),
                        fix="give the output_dir of a training stage that has run")
    if not points:
        raise UserError("the log holds no loss: the stage trained no step", where=str(folder),
                        fix="look at the training output; `logging_steps` must not exceed the number of steps")
    return [(int(s), float(v)) for s, v in points]


def save(figure: Figure, path: Path) -> None:
    """Write .png or .svg by the name; the same figure gives the same bytes."""
    write_atomic(path, svg(figure) if path.suffix == ".svg" else _png(figure))


@_styled
def svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element to put into a page."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    text = out.getvalue()
    return text[text.index("<svg"):]


@_styled
def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=160, metadata={"Software": None}, bbox_inches="tight")
    return out.getvalue()


def _figure(width: float, height: float, columns: int | None = None) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0] if columns else figure.subplots()


def _key(ax: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """A legend of coloured squares above the axes."""
    for text, colour in entries:
        ax.barh(0, 0, color=colour, label=text)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(entries), borderaxespad=0.2, handlelength=1,
              handletextpad=0.4, columnspacing=1.4)


def _smooth(values: Sequence[float], weight: float = 0.8) -> list[float]:
    """Exponential moving average, corrected for its start (as in Adam)."""
    out, mean = [], 0.0
    for i, v in enumerate(values, 1):
        mean = weight * mean + (1 - weight) * v
        out.append(mean / (1 - weight ** i))
    return out
