"""The outline of a model by its name. Of a model of the hub only config.json is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palmette.errors import ModelError
from palmette.inference.names import ModelName, ModelSource, check_hub, locate, resolve_model
from palmette.model.embedded import DEFAULT_MODEL, find_gguf
from palmette.model.outline import Outline, outline_of_config, outline_of_gguf


def read_outline(name: ModelName) -> Outline:
    """The outline of a model by its name. Of a run it is that of its base.

    Args:
        name: a run folder, a model folder, a GGUF file, or a hub id.

    Raises:
        ModelError: there is no such model, or it is none that transformers knows.
        RunError, RecipeError: the run cannot be read.
    """
    return outline_of_source(resolve_model(name, finished=False))


def outline_of_source(source: ModelSource) -> Outline:
    """The outline of what a model's name stands for. Errors are those of `read_outline`."""
    file = gguf_of(source)
    if file is not None:
        return outline_of_gguf(file)
    name = locate(source.section.name)
    folder = check_hub(source.section) or Path(name)
    config = _configuration(source, str(folder))  # of a model of the hub, it makes the snapshot known
    files = folder if folder.is_dir() else _snapshot(source)
    stored = sum(one.stat().st_size for one in files.glob("*.safetensors")) if files is not None else 0
    return outline_of_config(config, stored or None)


def gguf_of(source: ModelSource) -> Path | None:
    """The GGUF file that a model comes from, if it comes from one."""
    name = locate(source.section.name)
    if Path(name).suffix.lower() == ".gguf":
        return Path(name)
    return find_gguf() if name == DEFAULT_MODEL and not Path(name).is_dir() else None


def _snapshot(source: ModelSource) -> Path | None:
    """The folder with the files of a model of the hub that were fetched, at its revision. None if there is none."""
    from huggingface_hub import try_to_load_from_cache

    section = source.section
    cached = try_to_load_from_cache(section.name, "config.json", revision=section.revision)
    return Path(cached).parent if isinstance(cached, str) else None


def _configuration(source: ModelSource, folder: str) -> Any:
    from transformers import AutoConfig

    section = source.section
    try:
        return AutoConfig.from_pretrained(folder, revision=section.revision, **section.overrides)
    except Exception as error:  # in as many ways as there are broken files
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(
            f"cannot read the configuration of {source.name!r}: {reason}",
            "Give a folder with config.json, a GGUF file, or a hub id of a model that transformers knows.",
        ) from error
