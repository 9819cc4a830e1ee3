"""Drawing sets of constraints that can be satisfied together.

A constraint that clashes with a set still clashes when the set grows, so every type is looked at once: families
are drawn by weight, the types of a family in random order, and what does not fit is dropped for good. That is
the same as drawing from the compatible set at each step, without computing the clashes of types never drawn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from random import Random

from if_factory.constraints.base import ConstraintType, all_types, blame_plugin
from if_factory.constraints.conflicts import clash
from if_factory.constraints.demands import Demands
from if_factory.constraints.held_out import HELD_OUT_TYPES
from if_factory.constraints.languages import Language, language_of
from if_factory.errors import UserError, suggest
from if_factory.verdicts import Constraint


def compose(seed_prompt: str, rng: Random, *, low: int = 1, high: int = 6, n: int | None = None,
            include: Collection[str] = (), exclude: Collection[str] = (),
            weights: Mapping[str, float] | None = None, max_difficulty: int = 5) -> list[Constraint]:
    """Between ``low`` and ``high`` constraints (or exactly ``n``) for this seed, with their texts.

    For a seed in a language that has a file in ``constraints/languages`` the texts are in that language, and only
    types that have paraphrases in it are drawn.

    A family (the part of the id before the colon) is drawn with a weight of the square root of its number of
    types, so that neither a large family nor a lone type dominates, and comes again only when all others have
    been tried. Fewer constraints are returned only if, with the
    arguments drawn, no further type fits the seed and the set. The same seed, generator state and registered
    types give the same constraints.

    Args:
        include: ids, families or benchmarks (``ifbench``, ``ifevalg``) to draw from; empty means all but those of
            benchmarks and but ``HELD_OUT_TYPES``, which are kept for evaluation. See ``offered``.
        exclude: ids, families or benchmarks never drawn; stronger than ``include``.
        weights: by id or family, default 1; 0 never draws it. A type's weight counts within its family, a
            family's multiplies its own.
        max_difficulty: highest ``difficulty_hint`` drawn.

    Raises:
        UserError: a range that is empty, a name that is neither a type nor a family, or that of a type which
            cannot be composed.
    """
    if n is not None:
        low = high = n
    if not 0 <= low <= high:
        raise UserError(f"cannot draw between {low} and {high} constraints", fix="give 0 <= low <= high")
    weights = weights or {}
    kinds = tuple(kind for kind in all_types() if kind.composable)
    language = language_of(seed_prompt)
    pool = _pool(kinds, tuple(include), tuple(exclude), tuple(weights.items()), max_difficulty)
    families = {family: [k for k in members if language is None or language.composes(k)]
                for family, members in pool.items()}
    families = {family: members for family, members in families.items() if members}
    shares = {family: weights.get(family, 1.0) * len(members) ** 0.5 for family, members in families.items()}
    wanted = rng.randint(low, high)
    chosen: list[tuple[Constraint, Demands]] = []
    fresh = sorted(families)
    used: list[str] = []
    while len(chosen) < wanted and (fresh or used):
        if not fresh:
            fresh, used = sorted(used), []
        family = rng.choices(fresh, [shares[f] for f in fresh])[0]
        fresh.remove(family)
        left = families[family]
        while left:
            kind = left.pop(_pick(left, weights, rng))
            drawn = _draw(kind, seed_prompt, rng, language)
            if drawn and not clash([(c.type, d) for c, d in (*chosen, drawn)]):
                chosen.append(drawn)
                break
        if left:
            used.append(family)
    return [c for c, _ in chosen]


@lru_cache(maxsize=64)
def _pool(kinds: tuple[ConstraintType, ...], include: tuple[str, ...], exclude: tuple[str, ...],
          weighted: tuple[tuple[str, float], ...], max_difficulty: int) -> dict[str, tuple[ConstraintType, ...]]:
    """The types that may be drawn, by family. The same for every seed of a run, hence cached."""
    weights = dict(weighted)
    known = {name for kind in kinds for name in kind.names}
    for name in (*include, *exclude, *weights):
        # A type that is only read from data may be excluded: it never comes anyway.
        if name not in known and (read := [k for k in all_types() if name in k.names]):
            if name not in exclude:
                reasons = "; ".join(sorted({k.only_read for k in read} - {""}))
                raise UserError(f"'{name}' is known but only read from data, never drawn"
                                + (f": {reasons}" if reasons else ""),
                                fix="leave it out (docs/constraints.md says which types can be composed)")
            continue
        if name not in known:
            raise UserError(f"'{name}' is neither a constraint type nor a family of types",
                            fix=suggest(name, sorted(known)) or "see `if-factory constraints`")
    if negative := [name for name, weight in weights.items() if weight < 0]:
        raise UserError(f"the weight of '{negative[0]}' is below 0", fix="give 0 to never draw it")
    families: dict[str, tuple[ConstraintType, ...]] = {}
    for kind in offered(kinds, include, exclude):
        if kind.difficulty_hint <= max_difficulty and all(weights.get(n, 1.0) > 0 for n in (kind.type, kind.family)):
            families[kind.family] = (*families.get(kind.family, ()), kind)
    return families


def offered(kinds: Iterable[ConstraintType], include: Collection[str],
            exclude: Collection[str]) -> list[ConstraintType]:
    """Those of ``kinds`` that may be drawn; names are ids, families or benchmarks, and ``exclude`` is stronger.

    A family brings all its types, but of a family that has types drawn by default only those and the held-out ones:
    ``keywords`` means what it meant before benchmarks added to it, whose types come by id or benchmark.
    """
    kinds = [kind for kind in kinds if kind.composable]
    ours = {kind.family for kind in kinds if kind.by_default}

    def asked(kind: ConstraintType) -> bool:
        if not include:
            return kind.by_default and kind.type not in HELD_OUT_TYPES
        named = kind.names & set(include)
        return bool(named - {kind.family}) or (bool(named) and (kind.by_default or kind.family not in ours))

    return [kind for kind in kinds if asked(kind) and kind.names.isdisjoint(exclude)]


def _pick(kinds: list[ConstraintType], weights: Mapping[str, float], rng: Random) -> int:
    return rng.choices(range(len(kinds)), [weights.get(kind.type, 1.0) for kind in kinds])[0]


def _draw(kind: ConstraintType, seed_prompt: str, rng: Random,
          language: Language | None) -> tuple[Constraint, Demands] | None:
    try:
        kwargs = language.sample(kind, rng, seed_prompt) if language else kind.sample(rng, seed_prompt)
        if kwargs is None:
            return None
        text = language.describe(kind, kwargs, rng) if language else kind.describe(kwargs, rng)
        return Constraint(type=kind.type, kwargs=kwargs, text=text), kind.demands(kwargs)
    except Exception as e:
        blame_plugin(kind, e)
        raise
