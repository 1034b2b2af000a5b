"""Which files a model's weights come from: safetensors beside its configuration, and nothing else.

transformers opens the files that an index or a configuration names. It takes a name that does not end in .safetensors
for a pickle, also with `use_safetensors`, and follows a name out of the folder. So the names are checked first.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from palmette.errors import ModelError
from palmette.hub import not_reached

INDEX = "model.safetensors.index.json"
_CONFIG, _NAMED_BY_CONFIG = "config.json", "transformers_weights"
_WAY_OUT = "Give a model whose weights are safetensors files beside its config.json."


def check_weight_files(model: str, revision: str | None = None) -> None:
    """Check the names of the files that hold a model's weights, before any of them is opened.

    Args:
        model: a folder, or a hub id, of which its configuration and its index are downloaded.
        revision: branch, tag or commit on the hub.

    Raises:
        ModelError: a name belongs to no safetensors file of the model's own folder, or an index cannot be read.
    """
    config = _read(model, _CONFIG, revision)
    named = config.get(_NAMED_BY_CONFIG) if isinstance(config, dict) else None
    if named is not None:
        _check_name(named, model, _CONFIG, (".safetensors", ".safetensors.index.json"))
    elif (Path(model) / "model.safetensors").is_file():
        return  # which transformers takes before an index
    index = INDEX if named is None else str(named)
    if not index.endswith(".json") or (content := _read(model, index, revision)) is None:
        return
    files = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(files, dict):
        raise ModelError(f"{index} of {model!r} has no 'weight_map'", _WAY_OUT)
    for file in sorted({str(file) for file in files.values()}):
        _check_name(file, model, index, (".safetensors",))


def _check_name(file: Any, model: str, source: str, ends: tuple[str, ...]) -> None:
    plain = isinstance(file, str) and file == file.replace("\\", "/").rpartition("/")[2]
    if not plain or not file.endswith(ends):
        raise ModelError(f"{source} of {model!r} names {str(file)!r}, which is no safetensors file beside it", _WAY_OUT)


def _read(model: str, file: str, revision: str | None) -> Any:
    """What a JSON file of a model holds. None if the model has no such file."""
    try:
        path = Path(model) / file if Path(model).is_dir() else _fetch(model, file, revision)
        return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else None
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {file} of {model!r}: {error}", _WAY_OUT) from error


def _fetch(model: str, file: str, revision: str | None) -> Path | None:
    """A file of a model on the hub. None only if the hub says that there is none."""
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(model, file, revision=revision))
    except errors.LocalEntryNotFoundError as error:  # an EntryNotFoundError too, of a hub that was not reached
        raise ModelError(
            f"{file} of {model!r} cannot be fetched, so it is unknown what holds its weights: {not_reached(error)}",
            "Try again when the hub can be reached.",
        ) from error
    except errors.EntryNotFoundError:
        return None
