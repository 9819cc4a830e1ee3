"""LLaMA-Factory's own acceptance rules, restated: what its converters and processors do with one row.

This is not a converter. It answers one question per row: trained, dropped with a warning, or does the whole
dataset fail to load, and why. It follows llamafactory 0.9.5 ``data/parser.py`` (``DatasetAttr.join``),
``data/converter.py`` and ``data/processor/{supervised,pairwise,feedback}.py``, oddities included; the tests
compare it with the real code. The stage ``iorpo`` is our own: a row is converted as for SFT and holds a second,
corrupted instruction besides. Images, videos and audio are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from if_factory.exporting.calls import call_problem, tools_problem
from if_factory.exporting.templates import PLAIN, TemplateFacts

TrainingStage = Literal["sft", "dpo", "kto", "iorpo"]
Effect = Literal["fails", "dropped", "kept"]

COLUMNS = ("prompt", "query", "response", "history", "messages", "system", "tools",
           "images", "videos", "audios", "chosen", "rejected", "kto_tag")
TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag")
FORMATS = ("alpaca", "sharegpt", "openai")
_DEFAULT_COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
_DEFAULT_TAGS = dict(zip(TAGS, ("from", "value", "human", "gpt", "observation", "function_call", "system"),
                         strict=True))


@dataclass(frozen=True, slots=True)
class Shape:
    """What LLaMA-Factory makes of an entry of dataset_info.json.

    A ``columns`` or ``tags`` map replaces the defaults as a whole: what it does not name is ``None``.
    """

    formatting: Any
    ranking: Any
    columns: dict[str, Any]
    tags: dict[str, Any]

    @classmethod
    def of(cls, entry: dict[str, Any]) -> Shape:
        columns = entry.get("columns", _DEFAULT_COLUMNS)
        tags = entry.get("tags", _DEFAULT_TAGS)
        return cls(entry.get("formatting", "alpaca"), entry.get("ranking", False),
                   {c: columns.get(c) for c in COLUMNS}, {t: tags.get(t) for t in TAGS})

    @property
    def stage(self) -> TrainingStage:
        """The stage this dataset is meant for."""
        if self.ranking or (self.columns["chosen"] and self.columns["rejected"]):
            return "dpo"
        return "kto" if self.columns["kto_tag"] else "iorpo" if self.columns["rejected"] else "sft"


class Fails(Exception):
    """LLaMA-Factory raises on this row, so nothing of the dataset is trained."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(reason)


@dataclass(slots=True)
class Turns:
    """A converted row: (role, content) pairs as LLaMA-Factory holds them, and why it may come to nothing."""

    prompt: list[tuple[str, Any]] = field(default_factory=list)
    response: list[tuple[str, Any]] = field(default_factory=list)
    system: Any = ""
    tools: Any = ""
    notes: list[tuple[str, str]] = field(default_factory=list)
    broken: bool = False

    def breaks(self, field: str, reason: str) -> None:
        self.notes.append((field, reason))
        self.broken = True


class _Row:
    """A row whose columns are read by role; a column that the file does not have fails, as in the converters."""

    def __init__(self, values: dict[str, Any], shape: Shape) -> None:
        self.values, self.shape = values, shape

    def __getitem__(self, role: str) -> Any:
        column = self.shape.columns[role]
        if column is None:
            raise Fails(role, f"the entry names no column for '{role}', which it needs; name every column")
        if not isinstance(column, str):
            raise Fails(role, f"the entry names the column {column!r:.40}, which is not a string")
        if column not in self.values:
            raise Fails(str(column), f"no row has the column '{column}' named in dataset_info.json")
        return self.values[column]

    def name(self, role: str) -> str:
        return str(self.shape.columns[role] or role)

    def get(self, role: str, default: Any = "") -> Any:
        return self[role] if self.shape.columns[role] else default

    def lenient(self, role: str) -> Any:
        """The openai converter's way: a column that the file does not have is empty."""
        column = self.shape.columns[role]
        if isinstance(column, list | dict):
            raise Fails(role, f"the entry names the column {column!r:.40}, which is not a string")
        return self.values.get(column, "") if column else ""

    def media(self) -> None:
        """Media are not looked at, but a column that is named must be there."""
        for role in ("images", "videos", "audios"):
            self.get(role)


def convert(values: dict[str, Any], shape: Shape) -> Turns:
    """The row as ``data/converter.py`` would align it. Raises ``Fails`` where that code would raise."""
    row = _Row(values, shape)
    if shape.formatting == "alpaca":
        return _alpaca(row)
    return _chat(row, openai=shape.formatting == "openai")


def _alpaca(row: _Row) -> Turns:
    t = Turns(system=None)
    history = row.get("history", None)
    if isinstance(history, list):
        for pair in history:
            if not isinstance(pair, list | str | dict) or len(pair) != 2:
                raise Fails(row.name("history"), "every item of the history is a pair [question, answer]")
            if isinstance(pair, dict):
                t.notes.append((row.name("history"), f"an item of the history is an object: its keys {list(pair)} "
                                "are trained as question and answer; write [question, answer]"))
            question, answer = list(pair)
            t.prompt += [("user", question), ("assistant", answer)]
    query = [(row.name(r), row[r]) for r in ("prompt", "query") if row.shape.columns[r] and row[r]]
    for name, text in query:
        if not isinstance(text, str):
            raise Fails(name, f"expected a string, found {text!r:.60}")
    t.prompt.append(("user", "\n".join(text for _, text in query)))
    if row.shape.columns["kto_tag"] and isinstance(row["kto_tag"], bool):
        t.response = _feedback(row["kto_tag"], [("assistant", row["response"])])
    elif row.shape.ranking and isinstance(row["chosen"], str) and isinstance(row["rejected"], str):
        t.response = [("assistant", row["chosen"]), ("assistant", row["rejected"])]
    elif row.shape.columns["response"] and isinstance(row["response"], str):
        t.response = [("assistant", row["response"])]
    t.notes += _unlabelled(row, str)
    t.system, t.tools = row.get("system"), row.get("tools")
    row.media()
    return t


def _feedback(desirable: bool, answer: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    empty = [("assistant", "")]
    return answer + empty if desirable else empty + answer


def _unlabelled(row: _Row, side: type) -> Iterator[tuple[str, str]]:
    """Why the row is neither feedback nor a pair although the entry says so."""
    want = "a string" if side is str else "an object with a role and a content"
    labelled = row.shape.columns["kto_tag"] and isinstance(row["kto_tag"], bool)
    if labelled:
        return
    if row.shape.columns["kto_tag"]:
        yield row.name("kto_tag"), f"the label is {row['kto_tag']!r:.40}, not true or false"
    elif row.shape.ranking:
        for r in ("chosen", "rejected"):
            if not isinstance(row[r], side):
                yield row.name(r), f"expected {want}, found {row[r]!r:.40}"
                break  # the converter does not look at the second one either
    elif side is str and not row.shape.columns["kto_tag"]:
        answer = row["response"] if row.shape.columns["response"] else None
        if not isinstance(answer, str):
            yield row.name("response"), f"the answer is {answer!r:.40}, not a string"


def _chat(row: _Row, *, openai: bool) -> Turns:
    tags, where = row.shape.tags, row.name("messages")
    messages = row["messages"]
    if not isinstance(messages, list):
        raise Fails(where, f"expected a list of messages, found {messages!r:.40}")
    t = Turns()
    if tags["system_tag"] and messages and _part(messages[0], tags["role_tag"], where) == tags["system_tag"]:
        t.system = _part(messages[0], tags["content_tag"], where)
        messages = messages[1:]
    else:
        t.system = row.lenient("system") if openai else row.get("system")
    if any(isinstance(tag, list | dict) for tag in tags.values()):
        raise Fails("tags", "a tag is a list or an object, not a string")
    roles = {tags["user_tag"]: "user", tags["assistant_tag"]: "assistant", tags["observation_tag"]: "observation",
             tags["function_tag"]: "function", tags["system_tag"]: "system"}
    aligned = _align_openai(t, messages, row, roles) if openai else _align(t, messages, row, roles)
    if bool(row.shape.ranking) == (len(aligned) % 2 == 0):
        kind = "odd (it ends with the user)" if row.shape.ranking else "even (it ends with the assistant)"
        if not t.broken:
            t.breaks(where, f"{len(aligned)} turns; the number of turns must be {kind}")
        t.broken = True
    if not t.broken:
        _respond(t, aligned, row, roles)
    t.tools = row.lenient("tools") if openai else row.get("tools")
    if openai:
        _openai_system(t, row)
    row.media()
    return t


def _respond(t: Turns, aligned: list[tuple[str, Any]], row: _Row, roles: dict[Any, str]) -> None:
    tags = row.shape.tags
    if row.shape.columns["kto_tag"] and isinstance(row["kto_tag"], bool):
        t.prompt, t.response = aligned[:-1], _feedback(row["kto_tag"], aligned[-1:])
    elif row.shape.ranking and isinstance(row["chosen"], dict) and isinstance(row["rejected"], dict):
        t.prompt = aligned
        for r in ("chosen", "rejected"):
            role = _part(row[r], tags["role_tag"], row.name(r))
            if not _known(role, roles):
                raise Fails(row.name(r), f"unknown role {role!r:.40}")
            if roles[role] not in ("assistant", "function"):
                t.notes.append((row.name(r), f"has the role {role!r}: trained as that, not as an answer"))
            t.response.append((roles[role], _part(row[r], tags["content_tag"], row.name(r))))
    else:
        t.prompt, t.response = aligned[:-1], aligned[-1:]
        t.notes += _unlabelled(row, dict)
        if not aligned:
            t.notes.append((row.name("messages"), "the list of messages is empty"))


def _known(role: Any, roles: dict[Any, str]) -> bool:
    return not isinstance(role, list | dict) and role in roles


def _openai_system(t: Turns, row: _Row) -> None:
    """The openai converter takes tools as a list or an object, and adds its own words to the system prompt."""
    if isinstance(t.tools, dict | list):
        try:
            t.tools = json.dumps(t.tools)
        except TypeError:
            raise Fails(row.name("tools"), "the tools hold a date, which the loader made a timestamp") from None
    if t.system and not isinstance(t.system, str | list):
        raise Fails(row.name("system"), f"the system prompt is {t.system!r:.40}, not a string")
    if not t.tools and not t.system:
        t.system = "detailed thinking off"


def _part(message: Any, key: Any, where: str) -> Any:
    if not isinstance(message, dict):
        raise Fails(where, f"a message is {message!r:.40}, not an object")
    if isinstance(key, list | dict) or key not in message:
        raise Fails(where, f"a message has no '{key}', the name given under `tags`")
    return message[key]


def _align(t: Turns, messages: list[Any], row: _Row, roles: dict[Any, str]) -> list[tuple[str, Any]]:
    tags, where = row.shape.tags, row.name("messages")
    asks = (tags["user_tag"], tags["observation_tag"])
    answers = (tags["assistant_tag"], tags["function_tag"])
    aligned: list[tuple[str, Any]] = []
    for i, message in enumerate(messages):
        role = _part(message, tags["role_tag"], where)
        if role not in (asks, answers)[i % 2]:
            known = _known(role, roles) and role is not None
            t.breaks(where, f"turn {i + 1} has the role {role!r:.40}, which " +
                     (f"cannot stand there: expected {' or '.join(map(repr, (asks, answers)[i % 2]))}" if known
                      else "is not named under `tags`"))
            break
        aligned.append((roles[role], _part(message, tags["content_tag"], where)))
    return aligned


def _align_openai(t: Turns, messages: list[Any], row: _Row, roles: dict[Any, str]) -> list[tuple[str, Any]]:
    tags, where = row.shape.tags, row.name("messages")
    aligned: list[tuple[str, Any]] = []
    observations: list[Any] = []
    for message in messages:
        role = _part(message, tags["role_tag"], where)
        content = _part(message, tags["content_tag"], where)
        if role in (tags["assistant_tag"], tags["function_tag"]) and (calls := message.get("tool_calls")):
            role, content = tags["function_tag"], _tool_calls(calls, where)
        if role == tags["observation_tag"]:
            observations.append(content)
            continue
        if observations:
            if not all(isinstance(o, str) for o in observations):
                raise Fails(where, "an observation is not a string")
            aligned.append(("observation", "\n</tool_response>\n<tool_response>\n".join(observations)))
            observations = []
        if not _known(role, roles):
            raise Fails(where, f"unknown role {role!r:.40}")
        aligned.append((roles[role], content))
    for i, (role, _) in enumerate(aligned):
        if role not in (("user", "observation"), ("assistant", "function"))[i % 2]:
            t.breaks(where, f"turn {i + 1} is by the {role}; user and assistant must alternate")
            break
    return aligned


def _tool_calls(calls: Any, where: str) -> str:
    try:
        return json.dumps([c["function"] for c in calls])
    except (TypeError, KeyError):
        raise Fails(where, "a tool call has no 'function'") from None


def trained_turns(t: Turns, stage: TrainingStage) -> list[tuple[str, Any]] | None:
    """The turns that will be tokenised, or ``None`` if the processor drops the row."""
    wanted = len(t.response) == 1 if stage in ("sft", "iorpo") else len(t.response) >= 2
    if t.broken or len(t.prompt) % 2 != 1 or not wanted:
        return None
    if stage in ("sft", "iorpo"):
        return t.prompt + t.response
    if stage == "dpo":
        return t.prompt + t.response[:2]
    return [*t.prompt, t.response[0] if t.response[0][1] else t.response[1]]


def no_triple(t: Turns, row: dict[str, Any], shape: Shape) -> tuple[str, str] | None:
    """(field, reason) why a row that SFT would train is no I-ORPO triple, or ``None`` if it is one.

    In alpaca the corrupted instruction takes the place of ``instruction`` (``input`` is appended to both), in
    sharegpt that of the last user turn: a string, or one message.

    Raises:
        Fails: the entry names no column ``rejected``, the file does not have it, or the format is ``openai``.
    """
    values = _Row(row, shape)
    field, corrupted, alpaca = values.name("rejected"), values["rejected"], shape.formatting == "alpaca"
    if shape.formatting == "openai":
        raise Fails("formatting", "stage iorpo does not take the openai format; use sharegpt with `tags`")
    if isinstance(corrupted, dict) and not alpaca:
        is_user = corrupted.get(shape.tags["role_tag"]) == shape.tags["user_tag"]
        corrupted = corrupted.get(shape.tags["content_tag"]) if is_user else corrupted
    if not isinstance(corrupted, str) or not corrupted.strip():
        return field, f"the corrupted instruction is {corrupted!r:.40}, not a text" + (
            "" if alpaca else " or a user's message")
    if corrupted == (values.get("prompt") if alpaca else t.prompt[-1][1]):
        return field, "the corrupted instruction is the instruction itself"
    if not str(t.response[-1][1] or "").strip():
        return answer_field(shape, t.response[-1][1], row), "the response is empty"
    return None


def corrupted_prompt(t: Turns, row: dict[str, Any], shape: Shape) -> list[tuple[str, Any]]:
    """The prompt of an I-ORPO triple with the corrupted instruction in its place."""
    values = _Row(row, shape)
    corrupted = values["rejected"]
    if isinstance(corrupted, dict):
        corrupted = corrupted.get(shape.tags["content_tag"])
    if shape.formatting == "alpaca" and (query := values.get("query")):
        corrupted = f"{corrupted}\n{query}"
    return [*t.prompt[:-1], ("user", corrupted)]


def tokenise(turns: list[tuple[str, Any]], t: Turns, row: dict[str, Any], shape: Shape,
             facts: TemplateFacts = PLAIN) -> None:
    """Raise ``Fails`` where the template would refuse a turn: contents are strings, tools and calls are JSON."""
    where = str(shape.columns["messages" if shape.formatting != "alpaca" else "history"] or "response")
    for i, (role, content) in enumerate(turns):
        if not isinstance(content, str):
            field = where if i < len(t.prompt) else answer_field(shape, content, row)
            raise Fails(field, f"turn {i + 1} ({role}) is {content!r:.40}, not a string")
        if role == "system":  # only a `tags` map with unset names leads here
            raise Fails(where, f"turn {i + 1} gets no role: the `tags` map does not name it")
        if role == "function" and (why := call_problem(content, facts)):
            raise Fails(where, why)
    if t.system and not isinstance(t.system, str):
        raise Fails(str(shape.columns["system"]), f"the system prompt is {t.system!r:.40}, not a string")
    if t.tools and (why := tools_problem(t.tools, facts)):
        raise Fails(str(shape.columns["tools"]), why)


def answer_field(shape: Shape, content: Any, row: dict[str, Any]) -> str:
    """The column an answer stands in; of chosen and rejected, the one that holds ``content``."""
    answer = "response" if shape.formatting == "alpaca" else "messages"
    roles = ("chosen", "rejected") if shape.ranking else (answer,)
    named = [str(shape.columns[r]) for r in roles]
    return next((n for n in named if row.get(n) is content), named[0])
