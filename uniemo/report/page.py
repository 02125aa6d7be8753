"""From what was read to one HTML file."""

from __future__ import annotations

import datetime
import platform
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from uniemo import __version__

MARK = '<meta name="generator" content="uniemo report">'  # tells a report from a file of somebody else's


@cache
def _templates() -> Environment:
    """Return the templates; every text that they show is escaped."""
    return Environment(
        loader=PackageLoader("uniemo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **content: Any) -> str:  # noqa: ANN401
    """Return the page that a template makes of its content."""
    now = datetime.datetime.now(datetime.timezone.utc)
    made = f"{now:%Y-%m-%d %H:%M} UTC, uniemo {__version__}, Python {platform.python_version()}"
    return _templates().get_template(template).render(made=made, mark=MARK, **content)
