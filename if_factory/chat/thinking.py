"""The answer in what a model wrote: without its reasoning and without the control tokens of its chat template.

Servers with a reasoning parser send the reasoning in a field of its own; others leave it in the text, in the
markup of the model. Spellings known here: ``<think>``, ``<thinking>``, ``<thought>``, ``<reasoning>``,
``<seed:think>`` (in any case, with blanks), ``[THINK]``, ``◁think▷``, ``<|begin_of_thought|>``,
``<|START_THINKING|>``, Gemma's and Harmony's channels (with their tokens or with the tokens stripped). A tag
inside quotation marks or code, or used as a word of a sentence, is text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate

_NAMES = r"(?:seed:)?think(?:ing)?|thoughts?|reasoning|longcat_think"
_MARK = re.compile(
    rf"<[ \t]*(?P<open>{_NAMES})[ \t]*>|</[ \t]*(?P<close>{_NAMES})[ \t]*>|"
    r"\[(?P<bopen>THINK)\]|\[/(?P<bclose>THINK)\]|"
    r"(?P<kopen>◁think▷)|(?P<kclose>◁/think▷)|<\|(?P<sopen>begin_of_thought|START_THINKING|think)\|>|"
    r"<\|(?P<sclose>end_of_thought|END_THINKING|/think)\|>|(?P<gopen><\|channel>thought)|(?P<gclose><channel\|>)",
    re.IGNORECASE)
_HINT = re.compile(r"think|thought|reasoning|<\||analysis|</s>|<s>|<bos>|end_of_turn|<turn|<｜", re.IGNORECASE)
_SQUARE = re.compile(r"\[/?THINK\]", re.IGNORECASE)  # in JSON with lists, fifty times faster than _HINT
_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]*`", re.DOTALL)
_INLINE = re.compile(r"`[^`\n]+`")
_QUOTES = "\"'`“”‘’«»"
# What follows a tag that is the subject of a sentence, and what stands between two tags that are named together.
_SUBJECT = re.compile(r"[ \t]*(?:(?:is|was|are|tags?|marks?|opens?|starts?|begins?|means|elements?|tokens?|"
                      r"blocks?)\b|[,.;:)])")
_BETWEEN = re.compile(r"[\s.,/…&-]*(?:and|or|to|und|et|y)?[\s.,/…&-]*")
_JSON = re.compile(r"\s*(?:\{|\[(?!THINK\]))")
_PROSE_WORDS = 8  # a block in the middle of an answer with fewer words is an example, not reasoning

_FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*<\|message\|>")
_CHANNEL = re.compile(r"\s*(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*(?:analysis|commentary)\b")
_BARE_CHANNEL = re.compile(r"\s*(?:assistant)?analysis(?=[A-Z\"'“])")

_OPENING_TOKENS = re.compile(
    r"(?:\s*(?:<bos>|<\|begin_of_text\|>|<\|im_start\|>\s*assistant\b|<\|START_RESPONSE\|>|"
    r"<\|begin_of_solution\|>|<\|start_header_id\|>\s*assistant\s*<\|end_header_id\|>|<\|assistant\|>|<start_of_turn>model\b))+\s*")
_END_TOKEN = re.compile(
    r"(?:<\|(?:eot_id|im_end|im_start|end|endoftext|end_of_text|return|eom_id|eot|end_of_turn|END_OF_TURN_TOKEN|"
    r"END_RESPONSE|end_of_solution|user|call)\|>|<end_of_turn>|<turn\|>|<｜end▁of▁sentence｜>|</s>)"
    r"(?=\s*\Z|[ \t]*\n|\s*<)")


def answer_text(text: str) -> str:
    """What a chat server sent as an answer, without control tokens, what follows them, and reasoning."""
    if not _hinted(text):
        return text
    text = strip_thinking(_without_start(text))
    return _without_end(_without_start(text))


def _hinted(text: str) -> bool:
    """Whether there may be something to cut. Every mark but a bare channel's name holds a bracket, and most answers
    hold none but JSON's, which is found out many times faster than by ``_HINT``."""
    if "<" in text or "◁" in text:
        return _HINT.search(text) is not None
    return _BARE_CHANNEL.match(text) is not None or ("[" in text and _SQUARE.search(text) is not None)


def strip_thinking(text: str) -> str:
    """``text`` without reasoning, whatever its markup.

    A closing tag alone ends a block that the chat template opened. A block that opens the text and is never closed
    was cut by the token limit: nothing after it is an answer, so the result is empty.
    """
    if not _hinted(text):
        return text
    text = _final_channel(text)
    marks = list(_MARK.finditer(text))
    if not marks or _JSON.match(text):
        return text  # a tag inside JSON is quoted
    at, cut = _leading_blocks(text, marks)
    if at is None:
        return ""
    at = _opened_by_template(text, marks, at)
    cut = cut or at > 0
    kept = _without_later_blocks(text, marks, at, anywhere=cut)
    return kept.strip() if kept != text else text


def _leading_blocks(text: str, marks: list[re.Match[str]]) -> tuple[int | None, bool]:
    """Where the blocks that open the text end, ``None`` if the last is never closed; and whether there was one."""
    inline = _Spans(_INLINE, text)
    at, i, cut = 0, 0, False
    while i < len(marks) and _opens(marks[i]) and not text[at:marks[i].start()].strip() \
            and not _quoted(text, marks[i]):
        opening = marks[i]
        closing = next((j for j in range(i + 1, len(marks)) if _closes(marks[j]) == _opens(opening)
                        and not _quoted(text, marks[j]) and not inline.hold(marks[j].start())), None)
        if closing is None:
            return (at, cut) if _SUBJECT.match(text, opening.end()) else (None, True)
        between = text[opening.end():marks[closing].start()]
        if between.strip() and _BETWEEN.fullmatch(between):
            break
        at, i, cut = marks[closing].end(), closing + 1, True
    return at, cut


def _opened_by_template(text: str, marks: list[re.Match[str]], at: int) -> int:
    """The end of reasoning whose opening tag stood in the prompt; ``at`` where there is none."""
    code: _Spans | None = None
    opened: dict[str, int] = {}
    for mark in marks:
        if mark.start() < at or _quoted(text, mark):
            continue
        code = code or _Spans(_CODE, text, at)
        if code.hold(mark.start()):
            continue
        if kind := _opens(mark):
            opened[kind] = opened.get(kind, 0) + 1
        elif opened.get(kind := _closes(mark)):
            opened[kind] -= 1
        elif _ends_reasoning(text, mark):
            at = mark.end()
    return at


def _ends_reasoning(text: str, closing: re.Match[str]) -> bool:
    """Whether a closing tag stands where reasoning ends, not as a word in a sentence."""
    before, after = text[:closing.start()][-200:], text[closing.end():closing.end() + 1]
    if after and after in ".,;:)!?":
        return False
    line = before.rpartition("\n")[2]
    if not line.strip() or not before[-1].isspace():
        return True
    return line.rstrip()[-1] in ".!?…:\"'”)*`"


def _without_later_blocks(text: str, marks: list[re.Match[str]], at: int, *, anywhere: bool) -> str:
    """``text[at:]`` without the blocks inside it: those of a model that reasoned before, or on their own lines."""
    code: _Spans | None = None
    kept: list[str] = []
    opening: re.Match[str] | None = None
    for mark in marks:
        if mark.start() < at or _quoted(text, mark):
            continue
        code = code or _Spans(_CODE, text, at)
        if code.hold(mark.start()):
            continue
        if opening is None:
            if _opens(mark) and (anywhere or not text[:mark.start()][-200:].rpartition("\n")[2].strip()):
                opening = mark
        elif _closes(mark) == _opens(opening):
            inside = text[opening.end():mark.start()]
            names = inside.strip() and _BETWEEN.fullmatch(inside)
            if not names and (anywhere or len(inside.split()) >= _PROSE_WORDS):
                kept.append(text[at:opening.start()])
                at = mark.end()
            opening = None
    return "".join(kept) + text[at:]


def _final_channel(text: str) -> str:
    """Harmony: the last message of the final channel; empty where the text ends before it."""
    if "<|channel|>" in text:
        finals = [m for m in _FINAL.finditer(text) if m.start() == 0 or text[m.start() - 1] not in _QUOTES]
        if finals:
            return _without_end(text[finals[-1].end():])
        return "" if _CHANNEL.match(text) else text
    if _BARE_CHANNEL.match(text):
        return text.rpartition("assistantfinal")[2] if "assistantfinal" in text else ""
    return text


def _without_start(text: str) -> str:
    """Without the tokens that open a turn."""
    if text.startswith("<s>") and text.find("</s>") in (-1, len(text.rstrip()) - 4):  # else it is HTML
        text = text[3:]
    opening = _OPENING_TOKENS.match(text) if "<" in text[:40] else None
    return text[opening.end():] if opening else text


def _without_end(text: str) -> str:
    """Up to the first end-of-turn token; one that is quoted, in code, or a word of a sentence is text."""
    spans: _Spans | None = None
    for end in _END_TOKEN.finditer(text):
        spans = spans or _Spans(_CODE, text)
        if _quoted(text, end) or spans.hold(end.start()):
            continue
        if end[0] == "</s>" and text.count("<s>", 0, end.start()):  # HTML: struck-out text
            continue
        return text[:end.start()].rstrip()
    return text


class _Spans:
    """The stretches of ``text`` that ``pattern`` matches, to be asked about many positions."""

    def __init__(self, pattern: re.Pattern[str], text: str, start: int = 0) -> None:
        found = [m.span() for m in pattern.finditer(text, start)] if "`" in text or "~" in text else []
        self._starts = [a for a, _ in found]
        self._ends = list(accumulate((b for _, b in found), max))

    def hold(self, position: int) -> bool:
        i = bisect_right(self._starts, position) - 1
        return i >= 0 and position < self._ends[i]


def _opens(mark: re.Match[str]) -> str:
    """The kind of block that ``mark`` opens; empty if it closes one."""
    for kind in ("open", "bopen", "kopen", "sopen", "gopen"):
        if mark[kind]:
            return mark[kind].lower() if kind == "open" else kind[0]
    return ""


def _closes(mark: re.Match[str]) -> str:
    for kind in ("close", "bclose", "kclose", "sclose", "gclose"):
        if mark[kind]:
            return mark[kind].lower() if kind == "close" else kind[0]
    return ""


def _quoted(text: str, mark: re.Match[str]) -> bool:
    before, after = text[mark.start() - 1:mark.start()] if mark.start() else "", text[mark.end():mark.end() + 1]
    return bool(before and after) and before in _QUOTES and after in _QUOTES
