"""Weights as they are computed with, kept in the user's cache: in the dtype that was asked for, the adapter merged.

Merging an adapter takes as long as loading a model, and a GGUF file is converted to float32 and cast at every load. So
the outcome is written once, as safetensors, and mapped into memory the next time. It is kept only if loading it gives
the same numbers bit for bit.

An entry is named by a hash of what it was made of: the base's files, the adapter's, the dtype, and the `conditions`. It
belongs to this user alone, since an adapter may have learned what not everybody may read. All entries together take at
most as many megabytes as PALMETTE_WEIGHTS_CACHE says, 4000 by default, and 0 turns this off. Those that were not used
for longest go first.
"""

from __future__ import annotations

import os
import shutil
import stat
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from palmette.cache import (
    cache_folder,
    flush_files,
    is_trusted_folder,
    make_room,
    mark_used,
    private_folder,
    remove_abandoned,
)
from palmette.errors import ModelError
from palmette.model.pause import without_pause

VARIABLE = "PALMETTE_WEIGHTS_CACHE"
_FOLDER, _DEFAULT = "weights", 4000  # megabytes
_COMPLETE = "complete"  # a file that is written last


def find_prepared(key: str) -> Path | None:
    """The folder of prepared weights, or None if there are none that can be trusted.

    Args:
        key: the hash of what they were made of.
    """
    folder = _home()
    entry = folder / key if folder is not None else None
    if entry is None or not (entry / _COMPLETE).is_file() or not is_trusted_folder(entry):
        return None
    mark_used(entry)
    return entry


def keep_prepared(
    model: Any, key: str, load: Callable[[Path], Any], *, beside: Mapping[str, str] | None = None
) -> None:
    """Keep a model's weights, if there is room for them and if loading them gives the same numbers.

    Where the cache cannot be written, nothing is kept.

    Args:
        model: the model, with its adapter merged and no quantized weights. Pause tokens are left out.
        key: the hash of what its weights were made of.
        load: loads a model from a folder, as it will be loaded from the cache.
        beside: texts of further files to write beside the weights, by name.
    """
    folder, limit = _home(), _limit()
    size = sum(one.numel() * one.element_size() for one in model.state_dict().values())
    if folder is None or size > limit:
        return
    remove_abandoned(folder)
    make_room(folder, limit - size)
    staging = folder / f".preparing-{uuid.uuid4().hex}"
    try:
        staging.mkdir(mode=0o700)
        if shutil.disk_usage(folder).free < 2 * size:
            return
        model.save_pretrained(staging, state_dict=without_pause(model), max_shard_size="100GB")
        for name, text in (beside or {}).items():
            (staging / name).write_text(text, encoding="utf-8")
        for file in staging.iterdir():
            file.chmod(stat.S_IRUSR | stat.S_IWUSR)
        if _same(model, load(staging)):
            flush_files(staging)
            (staging / _COMPLETE).touch(mode=0o600)
            staging.rename(folder / key)
    except (OSError, ValueError, RuntimeError, SafetensorError):
        return  # another process was faster, the disk is full, or the model cannot be written as a plain one
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _same(model: Any, other: Any) -> bool:
    """Whether two models have the same class, configuration, parameters and buffers, bit for bit."""
    if any(_settings(model, name) != _settings(other, name) for name in ("config", "generation_config")):
        return False
    pairs = [{**dict(one.named_parameters()), **dict(one.named_buffers())} for one in (model, other)]
    if type(model) is not type(other) or pairs[0].keys() != pairs[1].keys():
        return False
    return all(
        tensor.dtype == pairs[1][name].dtype and torch.equal(tensor, pairs[1][name].to(tensor.device))
        for name, tensor in pairs[0].items()
    )


def _settings(model: Any, name: str) -> dict[str, Any] | None:
    """One of a model's configurations. None if it has none, as an encoder has none of generation."""
    config = getattr(model, name, None)
    return None if config is None else dict(config.to_dict())


def remove_prepared(entry: Path) -> None:
    """Remove prepared weights that cannot be loaded."""
    shutil.rmtree(entry, ignore_errors=True)


def _home() -> Path | None:
    return private_folder(cache_folder() / _FOLDER, mode=0o700) if _limit() > 0 else None


def _limit() -> int:
    """Bytes for all entries together."""
    value = os.environ.get(VARIABLE) or str(_DEFAULT)
    try:
        return max(0, int(float(value) * 1e6))
    except (ValueError, OverflowError) as error:
        raise ModelError(
            f"{VARIABLE} is {value!r}, which is no number of megabytes", "Give a number, or 0 to keep no weights."
        ) from error
