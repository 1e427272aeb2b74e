"""Web pages of one file: everything that comes from data is escaped, nothing is fetched.

The page's policy allows the style sheet and the script that it was made with, by their digests,
and nothing else: even markup that slipped through could neither run nor call home.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from adem_bench.errors import printable

TEMPLATES = Path(__file__).parent / "templates"
PART_END = re.compile(r"(?<=[/_=,])(?=\S)")
"""Where a name may go on in the next line."""


@dataclass(frozen=True, slots=True)
class Live:
    """What a page that a server keeps current says of itself (`adem-bench view`)."""

    version: str
    """Changes with the runs that the page is of; the server says which is the newest."""
    root: str
    """Name of the results folder."""


def page_pieces(
    template: str,
    script: str = "",
    style: str = "",
    images: bool = False,
    live: Live | None = None,
    **values: Any,
) -> Iterator[str]:
    """Yield a page, from a template that extends `page.html`, piece by piece.

    Args:
        template: A file of `templates/`.
        script: A JavaScript file of `templates/`; none by default.
        style: A further style sheet of `templates/`, after `page.css`; none by default.
        images: Whether the page shows images that are in it as data.
        live: Of a page that a server keeps current; None for one that stands alone.
        values: What the template shows. Texts are escaped, and their control characters shown.
    """
    sheet = _file("page.css") + (_file(style) if style else "")
    scripts = [_file(name) for name in (script, "live.js" if live else "") if name]
    policy = _policy(sheet, scripts, images, bool(live))
    page = {
        "style": Markup(sheet),  # noqa: S704 - our own files
        "scripts": [Markup(code) for code in scripts],  # noqa: S704
        "policy": policy,
        "live": live,
    }
    return _environment().get_template(template).generate(**page, **values)


def render_page(template: str, **values: Any) -> str:
    """Return a page as one text; arguments are those of `page_pieces`."""
    return "".join(page_pieces(template, **values))


def breakable(text: str) -> Markup:
    """Return a name as markup that breaks between its parts: `mini_sqa/test`, `[adapter=none]`."""
    parts = PART_END.split(printable(text))
    return Markup("<wbr>").join(part for part in parts if part)


@cache  # with its compiled templates, which take longer than most pages
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_inert,
    )
    environment.filters["breakable"] = breakable
    return environment


def _inert(value: Any) -> Any:
    """Show control characters and direction overrides of data; our own markup is left alone."""
    return printable(value) if type(value) is str else value


def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _policy(style: str, scripts: Sequence[str], images: bool, live: bool) -> str:
    allowed = [f"style-src {_source(style)}"]
    if images:
        allowed.append("img-src data:")
    if scripts:
        allowed.append(f"script-src {' '.join(map(_source, scripts))}")
    if live:
        allowed.append("connect-src 'self'")
    # What is compared is chosen in a form.
    forms = "form-action 'self'" if live else "form-action 'none'"
    return "; ".join(["default-src 'none'", *allowed, "base-uri 'none'", forms])


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
