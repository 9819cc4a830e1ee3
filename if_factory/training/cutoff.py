"""Which rows ``cutoff_len`` cuts, by LLaMA-Factory's own template, tokenizer and rule, and a value that fits.

LLaMA-Factory shares ``cutoff_len`` out between prompt and answer and cuts the END of both: the end of an answer
that was verified, and the end of a prompt, where a constraint often stands. In DPO the chosen answer is cut
because the rejected one is long. With several turns and ``mask_history: false`` the last, hardest answer goes
first; with ``mask_history: true`` the beginning goes: the system prompt and the first turns.
Source: llamafactory 0.9.5 ``data/processor/{processor_utils,supervised,pairwise,feedback}.py``.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from if_factory.errors import UserError
from if_factory.exporting.acceptance import LoaderOptions, trained_rows
from if_factory.exporting.rules import TrainingStage, Turns

Lost = Literal["answer", "prompt", "history"]
DEFAULT = 2048  # LLaMA-Factory's cutoff_len
STEP = 128  # a chosen cutoff_len is a multiple of this


@dataclass(frozen=True, slots=True)
class Settings:
    """The keys of a training YAML that decide what is cut."""

    cutoff_len: int = DEFAULT
    mask_history: bool = False
    packing: bool = False

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Settings:
        packing = bool(config.get("packing") or config.get("neat_packing"))
        return cls(int(config.get("cutoff_len", DEFAULT)), bool(config.get("mask_history", False)), packing)

    @property
    def room(self) -> int:
        """Tokens of one sequence: packing keeps one back."""
        return self.cutoff_len - self.packing


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of one row: ``pairs`` of prompt and answer, turn by turn; for DPO one prompt and the longer answer;
    ``end`` is a token put after all (some templates)."""

    pairs: tuple[tuple[int, int], ...]
    end: int = 0

    @property
    def total(self) -> int:
        return sum(map(sum, self.pairs)) + self.end


@dataclass(frozen=True, slots=True)
class Cut:
    """A row of which tokens are lost: of an answer with loss, of the prompt before it, or of the turns before."""

    dataset: str
    row: int
    tokens: int
    lost: Lost


@dataclass(slots=True)
class CutReport:
    """``longest`` is (tokens, dataset, row); ``estimated``: no tokenizer was at hand."""

    stage: TrainingStage
    settings: Settings
    rows: int = 0
    longest: tuple[int, str, int] = (0, "", 0)
    cuts: list[Cut] = field(default_factory=list)
    estimated: bool = False

    @property
    def harmful(self) -> list[Cut]:
        """Rows of which an answer or the prompt's end is lost."""
        return [c for c in self.cuts if c.lost != "history"]

    @property
    def fitting(self) -> int:
        """The smallest multiple of ``STEP`` that cuts nothing."""
        return -(-(self.longest[0] + self.settings.packing) // STEP) * STEP

    def lines(self, most: int = 5) -> list[str]:
        """What to tell the user; empty if nothing is cut."""
        said = []
        for lost, what in (("answer", "the end of an answer is cut"), ("prompt", "the end of the prompt is cut"),
                           ("history", "earlier turns or the system prompt are cut")):
            found = [c for c in self.cuts if c.lost == lost]
            if found:
                names = ", ".join(f"{c.dataset} row {c.row} ({c.tokens} tokens)" for c in found[:most])
                more = f" and {len(found) - most} more" if len(found) > most else ""
                said.append(f"stage {self.stage}, cutoff_len {self.settings.cutoff_len}: {what} in {len(found)} "
                            f"of {self.rows} rows: {names}{more}")
        return said


def share(source: int, target: int, room: int) -> tuple[int, int]:
    """LLaMA-Factory's ``infer_seqlen``: the tokens of a prompt and of an answer that are kept."""
    if target * 2 < room:
        most = room
    elif source * 2 < room:
        most = room - source
    else:
        most = int(room * (target / (source + target)))
    kept = min(most, target)
    return min(max(room - kept, 0), source), kept


def lost_of(lengths: Lengths, stage: TrainingStage, settings: Settings) -> Lost | None:
    """What of a row is cut; ``None``: nothing."""
    if stage != "sft":
        (source, target), = lengths.pairs
        kept = share(source, target, settings.cutoff_len)
        return "answer" if kept[1] < target else "prompt" if kept[0] < source else None
    used, lost = lengths.end, set[Lost]()
    pairs = lengths.pairs[::-1] if settings.mask_history else lengths.pairs
    for i, (source, target) in enumerate(pairs):
        kept = share(source, target, settings.room - used) if used < settings.room else (0, 0)
        used += sum(kept)
        trained = i == 0 or not settings.mask_history
        if kept[1] < target:
            lost.add("answer" if trained else "history")
        if kept[0] < source:
            lost.add("prompt" if trained else "history")
    worst: tuple[Lost, ...] = ("answer", "prompt", "history")
    return next((what for what in worst if what in lost), None)


class Encoder:
    """A model's tokenizer under a template, as LLaMA-Factory sets them up.

    Args:
        model: a folder or a hub name.
        config: the training YAML's keys; ``template`` and those beside it that change what is tokenised.
        download: whether a tokenizer that is not here may be fetched.

    Raises:
        UserError: no LLaMA-Factory, no such tokenizer or template.
    """

    def __init__(self, model: str, config: Mapping[str, Any], *, download: bool = False) -> None:
        if importlib.util.find_spec("llamafactory") is None:
            raise UserError("tokens are counted with LLaMA-Factory's templates, which are not installed",
                            fix='pip install "if-factory[train]"')
        from llamafactory.data.template import get_template_and_fix_tokenizer
        from llamafactory.hparams import DataArguments
        from transformers import AutoTokenizer

        keys = ("template", "tool_format", "default_system", "enable_thinking", "preserve_thinking",
                "mask_history")
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                model, use_fast=True, padding_side="right", local_files_only=not download,
                trust_remote_code=bool(config.get("trust_remote_code", False)))
            data = DataArguments(**{k: config[k] for k in keys if config.get(k) is not None})
            self.template = get_template_and_fix_tokenizer(tokenizer, data)
        except (OSError, ValueError) as e:
            raise UserError(f"cannot read the tokenizer: {str(e).splitlines()[0]}", where=model,
                            fix="name a folder or a hub model that is here") from None
        self.tokenizer = tokenizer
        self.discards = bool(config.get("mask_history")) and not self.template.preserve_thinking

    def lengths(self, t: Turns, stage: TrainingStage, corrupted: Sequence[Any] = ()) -> Lengths:
        """Tokens of a row that is trained in ``stage``; ``corrupted``: the other prompt of an I-ORPO triple."""
        end = int(self.template.efficient_eos)
        if stage == "sft":
            messages = _messages([*t.prompt, *t.response])
            pairs = self.template.encode_multiturn(self.tokenizer, messages, t.system, t.tools, self.discards)
            return Lengths(tuple((len(source), len(target)) for source, target in pairs), end)
        answers = t.response[:2]
        if stage != "dpo":
            answers = [next((a for a in t.response if a[1]), t.response[-1])]
        prompts = [t.prompt, *([corrupted] if corrupted else [])]
        ids = [self.template.encode_oneturn(self.tokenizer, _messages([*prompt, answer]), t.system, t.tools)
               for prompt in prompts for answer in answers]
        # LLaMA-Factory counts the prompt as it stands before the chosen answer
        source = max(len(s) for s, _ in ids) if corrupted else len(ids[0][0])
        return Lengths(((source, max(len(a) for _, a in ids) + end),))


class Estimate:
    """Without a tokenizer: rather too many tokens than too few (three characters each, one beyond ASCII)."""

    def lengths(self, t: Turns, stage: TrainingStage, corrupted: Sequence[Any] = ()) -> Lengths:
        texts = [_about(text) for _, text in t.prompt]
        answers = [_about(text) for _, text in t.response]
        source = sum(texts) + _about(t.system) + _about(t.tools)
        return Lengths(((source + 32, max(answers, default=0) + 8),))


def _about(text: Any) -> int:
    if not isinstance(text, str) or not text:
        return 0
    plain = len(text.encode("ascii", "ignore"))
    return plain // 3 + 2 * (len(text) - plain) + 8


def _messages(turns: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": role, "content": text} for role, text in turns]


def count_cuts(dataset_dir: Path, names: Sequence[str], stage: TrainingStage, encoder: Encoder | Estimate,
               settings: Settings, options: LoaderOptions | None = None) -> CutReport:
    """The rows of ``names`` of which ``stage`` would cut tokens; rows that are not trained are left out.

    Raises:
        UserError: a name is no local dataset.
    """
    report = CutReport(stage, settings, estimated=isinstance(encoder, Estimate))
    for name in names:
        for row, t, corrupted in trained_rows(dataset_dir, name, stage, options):
            lengths = encoder.lengths(t, stage, corrupted)
            report.rows += 1
            if lengths.total > report.longest[0]:
                report.longest = (lengths.total, name, row)
            if lost := lost_of(lengths, stage, settings):
                report.cuts.append(Cut(name, row, lengths.total, lost))
    return report


def fitting_cutoff(reports: Sequence[CutReport], least: int = DEFAULT) -> tuple[int, str]:
    """A ``cutoff_len`` that cuts no row, ``least`` at least, and the sentence to say about it (none without rows)."""
    if not reports:
        return least, ""
    longest = max(reports, key=lambda r: r.longest[0])
    tokens, name, row = longest.longest
    chosen = max(least, longest.fitting)
    about = "about " if longest.estimated else ""
    how = "" if not longest.estimated else ", estimated: the tokenizer is not here; `if-factory train` counts"
    return chosen, f"cutoff_len {chosen}: the longest row has {about}{tokens} tokens ({name} row {row}){how}"


def encoder_for(model: str, config: Mapping[str, Any]) -> Encoder | Estimate:
    """The model's own tokenizer where it is on this machine, with LLaMA-Factory; an estimate elsewhere."""
    if importlib.util.find_spec("llamafactory") is None or not _is_here(model):
        return Estimate()
    try:
        return Encoder(model, config)
    except (UserError, ImportError, RuntimeError):  # a broken environment: `if-factory doctor` says which
        return Estimate()


def _is_here(model: str) -> bool:
    if Path(model).is_dir():
        return True
    try:
        from huggingface_hub import try_to_load_from_cache

        return isinstance(try_to_load_from_cache(model, "tokenizer_config.json"), str)
    except (ImportError, ValueError):
        return False


