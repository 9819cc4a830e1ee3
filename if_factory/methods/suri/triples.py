"""Instructions with some of their constraints corrupted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from if_factory.constraints.conflicts import conflict
from if_factory.constraints.join import join
from if_factory.methods.suri.constraints import Pair, pairs_of
from if_factory.methods.suri.options import Options
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Record, content_id


async def sample(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """Instructions with some of the constraints, and some of those corrupted; one record for each triple."""
    pairs = pairs_of(record)
    if len(pairs) < options.min_constraints:
        reasons = ", ".join(f"{why} {n}" for why, n in record.extra.get("dropped", {}).items())
        raise Dropped("too_few_constraints", reasons)
    children: dict[str, Record] = {}
    prompts: set[str] = set()
    skipped: Counter[str] = Counter()
    for i in range(options.triples_per_text):
        child = _triple(record, pairs, ctx, options, i)
        if child is None or child.id in children:
            skipped["drawn_before" if child else "contradictory_instruction"] += 1
            continue
        children[child.id] = child.with_extra(x_w_is_new=child.prompt not in prompts)
        prompts.add(child.prompt)
    if not children:
        raise Dropped("contradictory_instruction")
    # What was dropped for this text is counted once, with its first triple.
    told = {"dropped": record.extra.get("dropped", {}), "skipped": dict(sorted(skipped.items()))}
    return [c.with_extra(told=told if i == 0 else {}) for i, c in enumerate(children.values())]


def _triple(record: Record, pairs: Sequence[Pair], ctx: Context, options: Options, number: int) -> Record | None:
    for again in range(5):  # corrupted forms may contradict what stays; another draw may not
        rng = ctx.rng(record.id, "sample", number, again)
        included = sorted(rng.sample(range(len(pairs)), _size(options.included, len(pairs), rng)))
        corrupted = sorted(rng.sample(included, _size(options.corrupted, len(included), rng)))
        chosen = [pairs[i] for i in included]
        mixed = [pairs[i].corrupted if i in corrupted else pairs[i].constraint for i in included]
        if conflict(mixed) is None:
            break
    else:
        return None
    main = record.extra["main_instruction"]
    x_w, x_l = (join(main, constraints, ctx.rng(record.id, "layout", *included))  # one layout for both
                for constraints in ([p.constraint for p in chosen], mixed))
    child = record.child(x_w, [p.constraint for p in chosen], difficulty=1 / len(corrupted))
    text = record.candidates[0].model_copy(update={"verdicts": tuple(p.holds for p in chosen)})
    return child.model_copy(update={"id": content_id(child.id, corrupted), "candidates": (text,)}).with_extra(
        without=("pairs", "asked", "dropped"),
        prompt_rejected=x_l, corrupted_positions=[included.index(i) for i in corrupted],
        corruptions=[p.corrupted.model_dump(mode="json") for p in chosen],
        corruption_verdicts=[p.broken.model_dump(mode="json") for p in chosen],
        labels=[p.label for p in chosen])


def _size(wanted: str | int, most: int, rng: Any) -> int:
    if wanted == "sampled":
        return int(rng.randint(1, most))
    return most if wanted == "all" else min(int(wanted), most)
