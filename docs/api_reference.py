"""The page docs/reference/python-api.md: the public names of the package, with their signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import palmette

INTRODUCTION = """\
# Python API

For people who call Palmette from Python. These are the names in `palmette.__all__`, which semantic
versioning covers. This page is written by `make docs` from the code.
"""
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):")


def python_api() -> str:
    """The whole page."""
    lines = [INTRODUCTION]
    for name in sorted(palmette.__all__, key=str.lower):
        lines.extend(_entry(name, getattr(palmette, name)))
    return "\n".join(lines).rstrip() + "\n"


def _entry(name: str, value: Any) -> Iterator[str]:
    yield from (f"## {name}", "")
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        yield from (f"The value of `palmette.{name}`." if not isinstance(value, str) else "A text.", "")
        return
    if not (inspect.isclass(value) and issubclass(value, BaseException)):
        yield from ("```python", f"{name}{_signature(value)}", "```", "")
    yield from markdown(inspect.getdoc(value) or "")
    for member, inner in _members(value) if inspect.isclass(value) else ():
        yield from (f"### {name}.{member}", "")
        if inspect.isfunction(inner):
            yield from ("```python", f"{name}.{member}{_signature(inner)}", "```", "")
        yield from markdown(inspect.getdoc(inner) or "")


def _signature(value: Any) -> str:
    """The signature as it is written, annotations without their quotes, one parameter a line where it is long."""
    signature = inspect.signature(value)
    text = str(signature).replace("'", "")
    if len(text) < 80:
        return text
    whole = ",\n".join(f"    {parameter!s}".replace("'", "") for parameter in signature.parameters.values())
    _, arrow, returns = text.rpartition(" -> ")
    return f"(\n{whole},\n){arrow}{returns}"


def _members(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """The public methods and properties that a class itself defines, in the order in which they are written."""
    for name, value in vars(kind).items():
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)):
            yield name, plain


def markdown(docstring: str) -> Iterator[str]:
    """A docstring as lines of Markdown: its sections become lists.

    >>> print("\\n".join(markdown("Adds.\\n\\nArgs:\\n    a: one number,\\n        or none.\\n    b: another.")))
    Adds.
    <BLANKLINE>
    Args:
    <BLANKLINE>
    - `a`: one number, or none.
    - `b`: another.
    <BLANKLINE>
    """
    for block in re.split(r"\n\n", docstring):
        first, _, rest = block.partition("\n")
        if not _SECTION.fullmatch(first):
            yield from (*block.splitlines(), "")
            continue
        yield from (first, "")
        for entry in re.split(r"\n(?=    \S)", "\n" + rest):
            words = " ".join(entry.split())
            names, colon, text = words.partition(": ")
            listed = colon and re.fullmatch(r"[\w.]+(, [\w.]+)*", names)
            yield from [f"- `{names}`: {text}" if listed else f"- {words}"] if words else []
        yield ""
