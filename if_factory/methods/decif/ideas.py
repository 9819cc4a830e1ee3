"""From nothing to a scenario: domains, requests and scenarios, asked for once and dealt out without repetition.

A run begins with numbered, empty records, one per instruction wanted. On each level a record asks for the list
that it needs; records that need the same list send the same request, which is answered once. Then the lists of all
records are cleared of near-duplicates together and dealt out in the order of the records. So no more lists are
asked for than there are instructions to write, and who gets what does not depend on which answer came first. These
are the only places where records wait for each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from if_factory.chat.base import Completion
from if_factory.chat.lists import parse_items
from if_factory.chat.parse import Failure, ask_parsed, echoes
from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.inputs.seeds import builtin
from if_factory.methods.base import template
from if_factory.methods.decif.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped, Together
from if_factory.records import Extra, Record, content_id
from if_factory.similarity.dedup import near_duplicates

_EXAMPLES = 6  # domains shown to the teacher when it is asked for more
# Fewest and most words of an item; upstream allows four for domains and requests.
_WORDS = {"domain": (1, 5), "request": (2, 8), "scenario": (6, 90)}
_TOKENS = {"domain": 15, "request": 20, "scenario": 100}  # an item has at most, so that long lists are not cut


def inputs(path: Path | None, options: Options, limit: int | None) -> Iterator[Record]:
    """Numbered records, each with a domain, or with the examples to ask for domains with.

    ``path`` holds rows ``{"domain": "..."}``; near-duplicates among them count once.

    Raises:
        UserError: a row without a domain; more instructions wanted than scenarios will be asked for.
    """
    domains = read_domains(path or builtin("domains"), options)
    wanted = limit or options.instructions
    lists = options.domain_draws * options.domains_per_draw or len(domains)
    if wanted > (most := lists * options.requests_per_domain * options.scenarios_per_request):
        raise UserError(f"{wanted} instructions are wanted but {most} scenarios will be asked for",
                        where="options.instructions", fix="raise requests_per_domain or scenarios_per_request")
    return (_numbered(i, domains, options) for i in range(wanted))


def read_domains(path: Path, options: Options) -> list[str]:
    domains = []
    for n, row in read_rows(path):
        domain = row.get("domain")
        if not isinstance(domain, str) or not domain.strip():
            raise UserError("expected a non-empty string", where=f"{path}:{n}: field 'domain'",
                            fix='a row is {"domain": "Home cooking"}')
        domains.append(domain.strip())
    if not domains:
        raise UserError("no domains: the file has no rows", where=str(path), fix='add rows like {"domain": "..."}')
    return [domain for domain, repeated in zip(domains, _repeated(domains, options), strict=True)
            if repeated is None]


def _numbered(number: int, domains: list[str], options: Options) -> Record:
    if not options.domain_draws:
        domain = domains[number % len(domains)]
        return Record(id=content_id(NAME, number, domain), method=NAME, seed_prompt=domain, prompt=domain,
                      extra={"number": number, "domain": domain})
    draw = number % options.domain_draws
    examples = Random(draw).sample(domains, min(_EXAMPLES, len(domains)))
    return Record(id=content_id(NAME, number, draw, examples), method=NAME, seed_prompt="; ".join(examples),
                  prompt="; ".join(examples), extra={"number": number, "draw": draw, "examples": examples})


# ---------------------------------------------------------------- asking


async def ask_for(record: Record, ctx: Context, *, level: str, options: Options) -> Record:
    """The list the record chooses from, kept in ``extra["pool"]`` until it is dealt out."""
    extra = record.extra
    count = {"domain": options.domains_per_draw, "request": options.requests_per_domain,
             "scenario": options.scenarios_per_request}[level]
    # Draws differ in their examples alone; with few examples to choose from, also in this number.
    sample = int(extra["draw"]) if level == "domain" else 0
    tokens = _TOKENS[level]
    text = template(NAME, f"{level}s", options.prompts).render(count=count, **extra)

    async def ask(messages: Sequence[dict[str, str]], **request: Any) -> Completion:
        return without_cut_item(await ctx.chat("teacher", messages, **request))

    found = await ask_parsed(ask, [{"role": "user", "content": text}],
                             partial(read_list, level=level, count=count, asked=text), tries=options.tries,
                             sample=sample, schema=list_schema(count, count, 5 * tokens),
                             max_tokens=100 + tokens * count)
    if isinstance(found, Failure):
        raise Dropped(f"{level}s_{found.reason}", found.detail)
    return record.with_extra(pool=found)


def read_list(text: str, *, level: str, count: int, asked: str = "") -> list[str] | Failure:
    """At most ``count`` items of a usable length that do not already occur in what was ``asked``.

    One item where several were asked for is rarely a list at all.

    Reasons: ``no_list``, ``unusable_items``.
    """
    items = list(dict.fromkeys(item.strip(" .;,") if level != "scenario" else item for item in parse_items(text)))
    if not items or (len(items) == 1 and count > 1):
        return Failure("no_list", text[:80])
    low, high = _WORDS[level]
    usable = [item for item in items if low <= len(item.split()) <= high and not item.endswith((":", "?"))
              and not echoes(item, asked)]
    if level == "request":
        usable = [item.lower() for item in usable]
    return usable[:count] or Failure("unusable_items", items[0][:80])


def without_cut_item(completion: Completion) -> Completion:
    """A list that the token limit cut, up to the last item that is whole."""
    if completion.finish_reason != "length":
        return completion
    text = completion.text
    whole = text[:max(text.rfind('",') + 1, text.rfind("\n"), 0)]
    return replace(completion, text=whole, finish_reason="stop" if whole else "length")


@cache
def list_schema(low: int, high: int, letters: int) -> dict[str, Any]:
    """``low`` to ``high`` items of at most ``letters`` characters: a small model may not end one by itself."""
    return {"type": "object", "additionalProperties": False, "required": ["items"], "properties": {"items": {
        "type": "array", "items": {"type": "string", "maxLength": letters}, "minItems": low, "maxItems": high}}}


# ---------------------------------------------------------------- dealing


async def deal(records: Sequence[Record], ctx: Context, *, level: str, options: Options) -> Together:
    """Give every record one item of its list, none of them a near-duplicate of another list's or its own.

    A domain or request that repeats an earlier one is taken for that one, or left out; a scenario is given once.
    """
    lists: dict[str, list[str]] = {}
    keys: list[str] = []
    for record in records:
        keys.append(_list_of(record, level))
        lists.setdefault(keys[-1], record.extra["pool"])
    distinct = _distinct(lists, level, options)
    turns: Counter[str] = Counter()
    given: list[str | None] = []
    for key in keys:
        turn, choice = turns[key], distinct[key]
        turns[key] += 1
        given.append(choice[turn % len(choice)] if choice and (level != "scenario" or turn < len(choice)) else None)
    return ((_dealt(records[i], level, text) for i, text in enumerate(given) if text is not None),
            ((records[i], Dropped(f"no_distinct_{level}_left")) for i, text in enumerate(given) if text is None))


def _dealt(record: Record, level: str, text: str) -> Record:
    found: Extra = {level: text}  # type: ignore[misc]  # a key of Extra whatever the level
    return record.model_copy(update={
        "prompt": text, "seed_prompt": text if level == "domain" else record.seed_prompt,
    }).with_extra(without=("pool", "examples"), **found)


def _list_of(record: Record, level: str) -> str:
    """What a record's list was asked for with: equal for records that share it."""
    names = {"domain": ("draw",), "request": ("domain",), "scenario": ("domain", "request")}[level]
    return content_id([record.extra[name] for name in names])


def _distinct(lists: dict[str, list[str]], level: str, options: Options) -> dict[str, list[str]]:
    texts = [text for items in lists.values() for text in items]
    owners = [key for key, items in lists.items() for _ in items]
    distinct: dict[str, dict[str, None]] = {key: {} for key in lists}
    for text, owner, first in zip(texts, owners, _repeated(texts, options), strict=True):
        if first is None:
            distinct[owner][text] = None
        elif level == "domain":  # many instructions share a domain, so its first name stands for both
            distinct[owner][texts[first]] = None
    return {key: list(items) for key, items in distinct.items()}


def _repeated(texts: list[str], options: Options) -> list[int | None]:
    return near_duplicates(texts, threshold=options.duplicates, model=options.embedding_model,
                           method="embedding" if options.embedding_model else "ngram")
