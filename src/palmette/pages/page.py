"""Rendering of HTML pages. Each page is one file, loads nothing else, and runs only our own style and script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from palmette.run import write_bytes


def render_page(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """A page as HTML. Text that is given never becomes markup.

    Args:
        template: a template that extends page.html.
        styles: style sheets, one after the other.
        scripts: scripts, one after the other.
        values: the values of the template.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    style, script = (Markup("\n".join(map(_template, names))) for names in (styles, scripts))
    return environment.get_template(template).render(
        style=style, script=script, style_hash=_integrity(style), script_hash=_integrity(script), **values
    )


def write_page(path: Path, html: str) -> None:
    """Write a page, whole or not at all. Lone surrogates become question marks.

    Raises:
        RunError: the file cannot be written.
    """
    write_bytes(path, html.encode("utf-8", "replace"))


def script_json(value: Any) -> Markup:
    """JSON that is safe inside a script element, whatever its strings hold.

    >>> print(script_json({"text": "</script><!--"}))
    {"text":"\\u003c/script\\u003e\\u003c!--"}
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _integrity(source: str) -> str:
    digest = hashlib.sha256(source.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _template(name: str) -> str:
    return resources.files("palmette.pages").joinpath("templates", name).read_text(encoding="utf-8")
