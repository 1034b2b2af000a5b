"""Proofs that a model honours a prefix tree's mask, kept so that they need not be repeated at every start.

A proof is kept under a hash of everything that it depends on, and its file states that in full. As soon as anything
differs, the model is proved again. A proof that failed is never kept.

What a proof is kept for:

- the weights, by a hash of the files that they were loaded from, given by the caller
- the model's configuration, its dtype, its attention backend, and how its layers are computed
- the bytecode of the classes of all its modules, of the functions in the files of these classes, of the attention that
  they call, and of our forward pass, as they are in this process, so a method or function that somebody has replaced is
  noticed
- our code, the libraries' versions, the processor, the number of threads, and the environment (`conditions`)

No proof is kept for a model on an accelerator, with quantized weights, with hooks, or with modules that come neither
from torch nor from transformers, peft or palmette, such as code that comes with a model.

Not covered: functions that somebody has replaced in this process in still other files, torch's for example, and weights
that were changed in memory after they were loaded. Whoever does that calls `check_model` without `weights`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from palmette.cache import cache_folder, is_trusted, make_room, mark_used, private_folder, write_whole
from palmette.model.conditions import conditions
from palmette.model.fused import describe, kernels_name
from palmette.model.fusible import has_global_hooks, has_hooks
from palmette.model.quantize import is_quantized

_FOLDER, _LIMIT = "proofs", 4 << 20  # bytes
_HOMES = ("torch", "transformers", "peft", "palmette")
# Our modules that a forward pass goes through.
_OURS = tuple(f"palmette.model.{name}" for name in ("attention", "blocks", "flex", "forward", "fused", "kernels"))
_OURS += tuple(f"palmette.tree.{name}" for name in ("batch", "packing", "prefix_tree", "segments"))


def proof_of(model: Any, weights: str) -> bytes | None:
    """The statement that a proof of this model is kept under. None for a model whose proof is not kept.

    Args:
        model: the model.
        weights: a hash of what its weights were loaded from.
    """
    classes = sorted(
        {type(module) for module in model.modules()}, key=lambda one: f"{one.__module__}.{one.__qualname__}"
    )
    if model.device.type != "cpu" or is_quantized(model) or has_global_hooks():
        return None
    if any(has_hooks(module) for module in model.modules()) or not all(_is_known(one) for one in classes):
        return None
    statement = {
        "proved": "branches of a prefix tree equal rows of their own",
        "weights": weights,
        "config": json.loads(model.config.to_json_string(use_diff=False)),
        "attention": model.config.get_text_config()._attn_implementation,
        "dtype": str(model.dtype),
        "layers": [describe(model), kernels_name(model)],
        "classes": {f"{one.__module__}.{one.__qualname__}": None for one in classes},
        "bytecode": _bytecode(model, classes),
        **conditions(),
    }
    return json.dumps(statement, sort_keys=True, default=str).encode()


def is_kept(statement: bytes) -> bool:
    """Whether a proof is kept for exactly this statement, in a file that nobody else could have written."""
    folder = private_folder(cache_folder() / _FOLDER)
    if folder is None:
        return False
    file = folder / _name(statement)
    try:
        found = is_trusted(file) and file.read_bytes() == statement
    except OSError:
        return False
    if found:
        mark_used(file)
    return found


def keep(statement: bytes) -> None:
    """Keep a proof that succeeded. Where the cache cannot be written, nothing is kept."""
    folder = private_folder(cache_folder() / _FOLDER)
    if folder is not None:
        with contextlib.suppress(OSError):
            write_whole(folder / _name(statement), statement)
            make_room(folder, _LIMIT)


def _name(statement: bytes) -> str:
    return f"{hashlib.sha256(statement).hexdigest()[:40]}.json"


def _is_known(kind: type) -> bool:
    """Whether a class comes from a library whose version is part of the statement."""
    home = kind.__module__.partition(".")[0]
    return home in _HOMES and not kind.__module__.startswith("transformers_modules")


def _bytecode(model: Any, classes: list[type]) -> str:
    """A hash of what the model's modules run in this process."""
    kinds = {one for kind in classes for one in kind.__mro__ if one is not object}
    homes = {kind.__module__ for kind in kinds if kind.__module__.startswith("transformers.models.")} | {*_OURS}
    # Imported, where no one has yet, so that every process states the same.
    named: dict[str, Mapping[str, Any]] = {home: vars(import_module(home)) for home in homes}
    kinds |= {value for home, members in named.items() for value in members.values() if _is_class_of(value, home)}
    named |= {f"{kind.__module__}.{kind.__qualname__}": vars(kind) for kind in kinds}
    backend = model.config.get_text_config()._attn_implementation
    named["attention"] = {backend: ALL_ATTENTION_FUNCTIONS.get(backend)}
    # Methods that were put on a module alone, as `fuse` does.
    named |= {f"own {name}": _own_methods(module) for name, module in model.named_modules()}
    digest, seen = hashlib.sha256(), set[int]()
    for home, members in sorted(named.items()):
        for name, value in sorted(members.items(), key=lambda pair: pair[0]):
            for code in _codes(value, seen):
                digest.update(f"{home}.{name} {code}\n".encode())
    return digest.hexdigest()


def _is_class_of(value: Any, home: str) -> bool:
    return isinstance(value, type) and value.__module__ == home


def _own_methods(module: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if callable(value)}


def _codes(value: Any, seen: set[int]) -> Iterator[str]:
    """What the functions behind a value do, each once: also behind decorators, properties and bound methods."""
    for part in (value, *(getattr(value, name, None) for name in ("__func__", "fget", "__wrapped__"))):
        if isinstance(part, FunctionType) and id(part) not in seen:
            seen.add(id(part))
            yield repr((part.__qualname__, _contents(part.__code__), part.__defaults__ and len(part.__defaults__)))
            for cell in part.__closure__ or ():
                with contextlib.suppress(ValueError):  # an empty cell
                    yield from _codes(cell.cell_contents, seen)


def _contents(code: CodeType) -> tuple[Any, ...]:
    constants = tuple(
        _contents(constant) if isinstance(constant, CodeType) else _plain(constant) for constant in code.co_consts
    )
    return code.co_code, code.co_names, constants


def _plain(constant: Any) -> Any:
    """A constant as text that is the same in every process. The order of a set is not."""
    return sorted(map(repr, constant)) if isinstance(constant, frozenset) else repr(constant)
