"""From facts to a page that opens from disk: templates, and pictures that the page carries."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from jobs.report.figures.axes import shown_width

PAGE = "report.html"
"""The file of a page."""
TEMPLATES = Path(__file__).parents[1] / "templates"


@dataclass(frozen=True)
class Picture:
    """A figure as a page carries it."""

    source: str
    """A data URI."""
    width: int
    """In CSS pixels."""


def picture(png: bytes) -> Picture:
    """A drawn figure, in the size at which its letters are as large as in the others."""
    return Picture(data_uri(png), shown_width(png))


def data_uri(png: bytes) -> str:
    """A PNG as an address that a page can carry."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def render(template: str, facts: Mapping[str, Any]) -> str:
    """The page. Names and captions are outside data, so everything is escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(facts)
