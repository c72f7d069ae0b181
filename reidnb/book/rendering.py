"Templates are files in `templates`; a text of a document cannot become markup in them."

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


@lru_cache(1)
def environment() -> jinja2.Environment:
    "HTML templates escape what they are given; Markdown templates have a filter for a table's row."
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    autoescape = jinja2.select_autoescape(["html"])
    templates = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=autoescape, **options)
    templates.filters["row"] = markdown_row
    return templates


def render(template: str, **values) -> str:
    "A template of this folder with values."
    return environment().get_template(template).render(**values)


def markdown_row(
    cells: Iterable,  # of anything that has a text
) -> str:  # without line break
    "A row of a Markdown table; a pipe or a line break in a cell does not end it."
    texts = [str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(texts)} |"
