"""Prompt templates: jinja files beside the code that sends them, each replaceable by a user's own."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

from if_factory.errors import UserError


@cache
def load(folder: Path, name: str, override: str | None = None) -> jinja2.Template:
    """``<folder>/<name>.jinja``; a file of that name in the folder ``override`` takes its place.

    Undefined variables are errors, so a misspelt name in a user's own prompt is seen at once.

    Raises:
        UserError: no such template, or one that is not valid jinja.
    """
    folders = [Path(override), folder] if override else [folder]
    env = jinja2.Environment(loader=jinja2.FileSystemLoader(folders), undefined=jinja2.StrictUndefined,
                             trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 plain text
    try:
        template = env.get_template(f"{name}.jinja")
    except jinja2.TemplateError as e:
        raise UserError(f"prompt template {name}.jinja: {e}", where=override or str(folder)) from None
    template.globals = dict(template.globals)  # a ChainMap, copied for every text: twice the time of most prompts
    return template
