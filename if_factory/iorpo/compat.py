"""Which versions of LLaMA-Factory the stage was tested with, and what is said of any other."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from if_factory.errors import UserError
from if_factory.iorpo.arguments import STAGE

TESTED = "0.9.2 to 0.9.5"


def moved(what: str) -> UserError:
    """The one sentence for a LLaMA-Factory that this stage does not know."""
    try:
        installed = version("llamafactory")
    except PackageNotFoundError:
        installed = "the one found"
    return UserError(f"stage {STAGE} was tested with llamafactory {TESTED}; in {installed} {what}",
                     fix="install a tested version, or train without the stage: `if-factory tokenize x.yaml -o "
                     "folder` writes data that any LLaMA-Factory trains with stage dpo, pref_loss orpo")
