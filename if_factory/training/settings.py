"""The keys that LLaMA-Factory takes, where it is installed, so that a typing error is not written into a YAML."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from if_factory.errors import UserError, suggest

_OURS = ("grpo_", "iorpo_", "logps_")  # those stages look at them themselves
_SOURCES = (("llamafactory", "hparams/*.py"), ("transformers", "training_args*.py"),
            ("mcore_adapter", "training_args.py"))  # the last only with its USE_MCA
_NUMBERS = {"int", "float", "None", "Optional"}
_SWITCHES = {"bool", "None", "Optional"}


def refuse_settings(settings: Mapping[str, object]) -> None:
    """Look at ``KEY`` and ``STAGE.KEY`` with their values; without LLaMA-Factory nothing is known of them.

    Raises:
        UserError: a key that LLaMA-Factory does not have, or a text where it wants a number or true or false.
    """
    known = known_keys()
    for given, value in settings.items() if known else ():
        key = given.rpartition(".")[2]
        if key.startswith(_OURS) or not key:
            continue
        if key not in known:
            raise UserError(f"LLaMA-Factory has no key '{key}'", where=f"--set {given}",
                            fix=suggest(key, known) or "its keys are those of its examples, and transformers' "
                            "TrainingArguments")
        if isinstance(value, str) and (wanted := _wanted(known[key])):
            raise UserError(f"is {value!r}; expected {wanted}", where=f"--set {given}", fix=f"write {wanted}")


def _wanted(annotation: str) -> str:
    names = set(annotation.replace("[", " ").replace("]", " ").replace("|", " ").split())
    return "true or false" if names <= _SWITCHES else "a number" if names <= _NUMBERS else ""


@cache
def known_keys() -> dict[str, str]:
    """The fields of the installed dataclasses with their types; empty without LLaMA-Factory.

    They are read from the source: importing them takes ten seconds, most of them torch's.
    """
    found: dict[str, str] = {}
    for package, pattern in _SOURCES if find_spec("llamafactory") else ():
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(folder).glob(pattern)):
                for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                    if isinstance(node, ast.ClassDef):
                        found.update((field.target.id, ast.unparse(field.annotation)) for field in node.body
                                     if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name))
    return found
