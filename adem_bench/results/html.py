"""Web pages of one file: everything that comes from data is escaped, nothing is fetched.

The page's policy allows the style sheet and the script that it was made with, by their digests,
and nothing else: even markup that slipped through could neither run nor call home.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from adem_bench.errors import printable

TEMPLATES = Path(__file__).parent / "templates"
PART_END = re.compile(r"(?<=[/_=,])(?=\S)")
"""Where a name may go on in the next line."""


def page_pieces(
    template: str, script: str = "", style: str = "", images: bool = False, **values: Any
) -> Iterator[str]:
    """Yield a page, from a template that extends `page.html`, piece by piece.

    Args:
        template: A file of `templates/`.
        script: A JavaScript file of `templates/`; none by default.
        style: A further style sheet of `templates/`, after `page.css`; none by default.
        images: Whether the page shows images that are in it as data.
        values: What the template shows. Texts are escaped, and their control characters shown.
    """
    sheet = _file("page.css") + (_file(style) if style else "")
    code = _file(script) if script else ""
    policy = _policy(sheet, code, images)
    page = {"style": Markup(sheet), "script": Markup(code), "policy": policy}  # noqa: S704 - our own files
    return _environment().get_template(template).generate(**page, **values)


def render_page(template: str, **values: Any) -> str:
    """Return a page as one text; arguments are those of `page_pieces`."""
    return "".join(page_pieces(template, **values))


def breakable(text: str) -> Markup:
    """Return a name as markup that breaks between its parts: `mini_sqa/test`, `[adapter=none]`."""
    parts = PART_END.split(printable(text))
    return Markup("<wbr>").join(part for part in parts if part)


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


def _policy(style: str, script: str, images: bool) -> str:
    allowed = [f"style-src {_source(style)}"]
    if images:
        allowed.append("img-src data:")
    if script:
        allowed.append(f"script-src {_source(script)}")
    return "; ".join(["default-src 'none'", *allowed, "base-uri 'none'", "form-action 'none'"])


def _source(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
