"""The names of models that clients send, and the names under which the server may be asked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from palmette.errors import DataError
from palmette.web.gate import host_names
from palmette.web.serving import known_names

_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)


def can_be_sent(name: str) -> bool:
    """Whether a name is made of letters, digits, ".", "_" and "-", as those that clients send."""
    return _NAME.fullmatch(name) is not None


def model_names(given: Sequence[str]) -> dict[str, str]:
    """The models to serve, by the names that clients give: from NAME=MODEL, or MODEL under the last part of its name.

    >>> model_names(["runs/quickstart", "chat=HuggingFaceTB/SmolLM2-135M-Instruct"])
    {'quickstart': 'runs/quickstart', 'chat': 'HuggingFaceTB/SmolLM2-135M-Instruct'}

    Raises:
        DataError: two have one name, or a name is not made of letters, digits, ".", "_" and "-".
    """
    named: dict[str, str] = {}
    for text in given:
        name, equals, model = text.partition("=")
        if not equals or "/" in name:
            name, model = PurePath(text).name, text
        if not can_be_sent(name) or not model:
            raise DataError(
                f"{text!r} gives a model no name that a client can send",
                'Write NAME=MODEL, with a name of letters, digits, ".", "_" and "-".',
            )
        if name in named:
            raise DataError(f"two models have the name {name!r}", "Write NAME=MODEL with another name for one of them.")
        named[name] = model
    return named


def allowed_hosts(host: str, port: int, more: Sequence[str] = ()) -> frozenset[str]:
    """The `Host` headers under which a server may be asked.

    Args:
        host: where it listens.
        port: its port.
        more: other names, such as that of a proxy before it. They are allowed with the port and without one.
    """
    return host_names(known_names(host), port) | host_names(more, port) | {name.lower() for name in more}
