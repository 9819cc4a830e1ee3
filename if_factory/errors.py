"""The error that users see, and the note on deprecated names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """A mistake the user can fix: bad input, a bad recipe, a missing file, a server that is not there.

    The command line prints it without a traceback and exits with status 2.

    Args:
        problem: what is wrong and what was expected, one sentence.
        where: the place: a file, ``file:row``, ``file:row: field 'x'`` or a recipe key.
        fix: what to do about it, one sentence.
    """

    def __init__(self, problem: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.problem = problem
        self.where = where
        self.fix = fix
        text = f"{where}: {problem}" if where else problem
        super().__init__(f"{text}\n  what to do: {fix}" if fix else text)


def no_such_file(path: Path) -> UserError:
    """A missing file that a command names; a whole path is relative to nothing."""
    return UserError("no such file", where=str(path),
                     fix="check the path" if path.is_absolute() else
                     "check the path; it is relative to where you run the command")


def suggest(name: str, known: Iterable[str], *, most: int = 1) -> str:
    """``did you mean 'x'?`` for a misspelt name, with up to ``most`` known names; empty where none is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=most)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else ""


def deprecated(what: str, instead: str) -> None:
    """One line on standard error about something old that is still read."""
    import warnings

    warnings.warn(f"{what}; {instead}", FutureWarning, stacklevel=3)  # the kind that users see by default
