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
    name = locate(source.section.name)
    file = Path(name) if Path(name).suffix.lower() == ".gguf" else None
    if file is None and name == DEFAULT_MODEL and not Path(name).is_dir():
        file = find_gguf()
    if file is not None:
        return outline_of_gguf(file)
    folder = check_hub(source.section) or Path(name)
    stored = sum(one.stat().st_size for one in folder.glob("*.safetensors")) if folder.is_dir() else 0
    return outline_of_config(_configuration(source, str(folder)), stored or None)


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
