"""The page docs/reference/http-api.md: the paths of `palmette serve`, written from its OpenAPI schema."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from palmette.serving.application import build_api
from palmette.serving.documents import Documents
from palmette.serving.metrics import Metrics
from palmette.serving.model_thread import ModelThread
from palmette.serving.requests import REFUSED
from palmette.serving.served import Served

_OPENING = """\
# HTTP API

For programs that ask `palmette serve`. This page is written by `make docs` from the server's
OpenAPI schema, which the server gives at `/openapi.json`. The
[guide](../how-to/serve-over-http.md) shows how to start it.

## For all requests

- Bodies are JSON, with the header `Content-Type: application/json`, of up to 32 MiB. Documents may
  also be files.
- With an API key, every path but `/health` needs `Authorization: Bearer KEY`.
- Fields that the server does not know are ignored. The header `X-Palmette-Ignored` lists them.
- Every reply has the header `X-Request-Id`: the one of the request, or a new one.
- Errors have the shape of OpenAI's: `{"error": {"message", "type", "param", "code"}}`.

| status | meaning |
|---|---|
| 400 | The request is wrong, or asks for something that cannot be done. `param` names the field. |
| 401 | There is no API key, or a wrong one. |
| 403, 415, 421 | The request comes from a page of another site, is not JSON, or asks for another host. |
| 404 | There is no such path, model or document. |
| 413 | The body is too large. |
| 500 | The server failed. Its log has the reason, under the id of the request. |
| 503 | The models are being loaded, or the queue is full. `Retry-After` says when to try again. |

What is refused with 400, unless its value changes nothing:
"""


def http_api() -> str:
    """The whole page."""
    thread = ModelThread(dict, max_waiting=1, metrics=Metrics())
    schema = build_api(Served(thread, Documents(), Metrics(), 0)).openapi()
    names = ", ".join(f"`{name}`" for name in REFUSED)
    lines = [_OPENING + textwrap.fill(f"{names}.", 100) + "\n"]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            said = textwrap.fill(" ".join(operation["description"].split()), 100)
            lines += [f"## {method.upper()} {path}", "", said, ""]
            lines += _fields("The body", _body(operation.get("requestBody")), schema, asked=True)
            lines += _files(operation.get("requestBody"))
            lines += _fields("The reply", _body(operation["responses"].get("200")), schema, asked=False)
    return "\n".join(lines).rstrip() + "\n"


def _files(holder: Any) -> list[str]:
    """A line on the types of files that a body may be."""
    kinds = [f"`{kind}`" for kind in (holder or {}).get("content", {}) if kind != "application/json"]
    if not kinds:
        return []
    return [*textwrap.wrap(f"Or a file, with its type: {', '.join(kinds)}.", 100, break_on_hyphens=False), ""]


def _body(holder: Any) -> str | None:
    """The name of the schema of a body, if it has one of ours."""
    content = (holder or {}).get("content", {}).get("application/json", {}).get("schema", {})
    return _name(content)


def _name(schema: dict[str, Any]) -> str | None:
    return schema["$ref"].rpartition("/")[2] if "$ref" in schema else None


def _fields(
    title: str, name: str | None, schema: dict[str, Any], *, asked: bool, told: set[str] | None = None
) -> Iterator[str]:
    """A table of the fields of a schema, and tables of those in it. It says what a client has to send.

    Args:
        title: the line before the table.
        name: the schema. There is no table if it is None.
        schema: the whole document.
        asked: whether a client sends it.
        told: the schemas that have a table already.
    """
    if name is None:
        return
    told = set() if told is None else told
    model = schema["components"]["schemas"][name]
    yield from (f"{title}:", "", "| field | type | |", "|---|---|---|")
    inner: dict[str, str] = {}
    for field, value in model["properties"].items():
        kind = _type(value, inner)
        required = "Required. " if asked and field in model.get("required", ()) else ""
        said = " ".join(value.get("description", "").split())
        yield f"| `{field}` | {kind} | {(required + said).strip()} |"
    yield ""
    for each, plural in inner.items():
        if each in told:
            continue
        told.add(each)
        yield from _fields(f"{'Each' if plural else 'It'} has, in `{each}`", each, schema, asked=asked, told=told)


def _type(value: dict[str, Any], inner: dict[str, str]) -> str:
    """A type in words. Schemas in it are added to `inner`."""
    if (name := _name(value)) is not None:
        inner[name] = ""
        return name
    if "anyOf" in value:
        return " or ".join(_type(one, inner) for one in value["anyOf"] if one.get("type") != "null")
    if "enum" in value or "const" in value:
        return " or ".join(f'"{one}"' for one in value.get("enum", [value.get("const")]))
    if isinstance(value.get("additionalProperties"), dict):
        items = value["additionalProperties"]
        if (name := _name(items)) is not None:
            inner[name] = "each"
        return f"map of names to {_name(items) or _type(items, inner)}"
    if value.get("type") == "array":
        items = value.get("items", {})
        if (name := _name(items)) is not None:
            inner[name] = "each"
        return f"list of {_name(items) or _type(items, inner)}"
    return str(value.get("type", "any"))
