"""Tokenizers of models, and the folders that they and the weights are in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from palmette.cache import is_trusted_folder
from palmette.errors import ModelError
from palmette.model.embedded import DEFAULT_MODEL, WAY_OUT, convert_gguf, converted_folder, find_gguf

# The libraries' exceptions for files that are missing or damaged, or that contradict themselves or an override.
UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
)


def load_tokenizer(name: str, *, folder: str | Path | None = None, **options: Any) -> Any:
    """Load a model's tokenizer.

    Args:
        name: see `load_model`.
        folder: the folder where it is, if that is known.
        options: further arguments of transformers, such as `revision`.

    Raises:
        ModelError: it is missing, or cannot be read.
    """
    from transformers import AutoTokenizer  # which loads torch

    try:
        return AutoTokenizer.from_pretrained(str(weights_folder(name) if folder is None else folder), **options)
    except UNREADABLE as error:
        raise ModelError(
            f"cannot load the tokenizer of {name!r}: {first_line(error)}", weights_way_out(name)
        ) from error


def tokenizer_at_hand() -> Any:
    """The default model's tokenizer, loaded without torch. None where it would take a conversion or a download.

    Raises:
        ModelError: it cannot be read.
    """
    from transformers import PreTrainedTokenizerFast

    folder = tokenizer_folder()
    if folder is None:
        return None
    try:
        return PreTrainedTokenizerFast.from_pretrained(str(folder))
    except UNREADABLE as error:
        raise ModelError(f"cannot load the tokenizer in {folder}: {first_line(error)}", WAY_OUT) from error


def tokenizer_folder() -> Path | None:
    """Where the default model's tokenizer is on this machine. None where it would take a conversion or a download."""
    embedded = find_gguf()
    if embedded is not None:
        folder = converted_folder(embedded)
        return folder if is_trusted_folder(folder) else None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(DEFAULT_MODEL, "tokenizer.json")
    return Path(cached).parent if isinstance(cached, str) else None


def first_line(error: Exception) -> str:
    """The first line of a library's message that is not empty, or the name of the exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def weights_folder(name: str) -> str:
    """The folder that holds a model's weights: of a GGUF file its converted form. A hub id stays as it is.

    Raises:
        ModelError: a GGUF file cannot be converted.
    """
    path = Path(name)
    if path.suffix.lower() == ".gguf":
        return str(convert_gguf(path))
    embedded = find_gguf() if name == DEFAULT_MODEL and not path.is_dir() else None
    return str(convert_gguf(embedded)) if embedded else name


def weights_way_out(name: str) -> str:
    """The way out where a model's files cannot be read."""
    if name == DEFAULT_MODEL:
        return WAY_OUT
    return "Give a folder with safetensors weights, a GGUF file, or a hub id that can be reached from here."
