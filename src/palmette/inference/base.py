"""Models loaded from what their names stand for."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from palmette.cache import file_hash
from palmette.config.recipes import Recipe
from palmette.config.sections import ModelSection
from palmette.errors import ModelError
from palmette.inference.fingerprint import base_fingerprint
from palmette.inference.names import ModelSource, absolute_name, check_hub, locate
from palmette.model.attention import AttentionChoice
from palmette.model.conditions import conditions
from palmette.model.loading import DType, LoadedModel, dtype_name, fast_dtype, load_model, merge_lora
from palmette.model.prepared import find_prepared, keep_prepared, remove_prepared
from palmette.model.tokenizer import load_tokenizer, weights_folder

_COMMIT = re.compile("[0-9a-f]{40}")


def load_base(recipe: Recipe, adapter: Path | None = None) -> LoadedModel:
    """Load the model that a recipe names.

    Args:
        recipe: the recipe.
        adapter: the folder of an adapter to put on the model.

    Raises:
        ModelError: the model is missing or cannot be loaded.
    """
    return load_section(recipe.model, adapter)


def load_source(
    source: ModelSource, *, attention: AttentionChoice | None = None, dtype: DType | None = None
) -> LoadedModel:
    """Load a model with its adapter, which is not merged.

    Args:
        source: what its name stands for. A run must be finished.
        attention: the attention backend. The run's own, or "auto", if None.
        dtype: the dtype. The run's own, or "auto", if None.

    Raises:
        ModelError: the model is missing or cannot be loaded.
    """
    changes: dict[str, Any] = {"attention": attention, "dtype": dtype}
    chosen = {key: value for key, value in changes.items() if value is not None}
    loaded = load_section(source.section.model_copy(update=chosen), source.adapter)
    return loaded if source.recipe is not None else replace(loaded, name=source.name)


def load_merged(source: ModelSource, *, attention: AttentionChoice | None = None) -> LoadedModel:
    """Load a model with its adapter merged into its weights, which answers faster.

    The merged weights are kept in the user's cache (`model/prepared.py`), and so are weights that are computed with in
    another dtype than they are stored in. They are the same bit for bit.

    Args:
        source: what its name stands for. A run must be finished.
        attention: the attention backend. The run's own, or "auto", if None.

    Raises:
        ModelError: the model is missing or cannot be loaded.
    """
    section = source.section.model_copy(update={} if attention is None else {"attention": attention})
    key = _prepared_key(section, source.adapter)
    found = None if key is None else find_prepared(key)
    if found is not None:
        try:
            loaded = load_section(section, source.adapter, found)
        except ModelError:
            remove_prepared(found)  # damaged: made again below
            found = None
    if found is None:
        loaded = merge_lora(load_section(section, source.adapter))
        if key is not None:
            keep_prepared(loaded.model, key, lambda folder: load_section(section, source.adapter, folder).model)
    return loaded if source.recipe is not None else replace(loaded, name=source.name)


def _prepared_key(section: ModelSection, adapter: Path | None) -> str | None:
    """The hash that merged or cast weights are kept under. None if they are not kept, or if that would save nothing."""
    content, dtype = content_of(section, adapter), fast_dtype(section.dtype)
    if content is None or (adapter is None and _stored_dtype(section) in (None, dtype_name(dtype))):
        return None
    made_of = {"content": content, "dtype": str(dtype), "cuda": torch.cuda.is_available(), **conditions()}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:40]


def _stored_dtype(section: ModelSection) -> str | None:
    """The dtype that a local model states for its weights, if it does."""
    try:
        config = json.loads((Path(weights_folder(locate(section.name))) / "config.json").read_text(encoding="utf-8"))
        stated = config.get("dtype", config.get("torch_dtype"))  # the older name
        return stated if isinstance(stated, str) else None
    except (OSError, ValueError, AttributeError):
        return None


def content_of(section: ModelSection, adapter: Path | None) -> str | None:
    """A hash of the files that weights come from. None if it is not known, as of a branch on the hub that may move.

    Nor is it for a model with code of its own, or for a quantized base, whose weights are packed as they are loaded.
    """
    if section.trust_remote_code or section.quantization is not None:
        return None
    commit = section.revision if _COMMIT.fullmatch(section.revision or "") else None
    base = base_fingerprint(weights_folder(locate(section.name)), commit)
    if base["kind"] == "hub" and commit is None:
        return None
    files = (
        {file.name: file_hash(file) for file in sorted(adapter.iterdir()) if _holds_weights(file)} if adapter else {}
    )
    made_of = {"base": base, "adapter": files, "overrides": section.overrides}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True, default=str).encode()).hexdigest()


def _holds_weights(file: Path) -> bool:
    return file.suffix == ".safetensors" or file.name == "adapter_config.json"


def load_section(section: ModelSection, adapter: Path | None = None, prepared: Path | None = None) -> LoadedModel:
    """Load the model that the `model` section of a recipe describes.

    Args:
        section: the section.
        adapter: the folder of an adapter to put on the model.
        prepared: a folder with the weights of both merged, if there is one.

    Raises:
        ModelError: the model is missing or cannot be loaded.
    """
    loaded = load_model(
        locate(section.name),
        adapter=adapter,
        revision=section.revision,
        dtype=section.dtype,
        attention=section.attention,
        quantization=section.quantization,
        fused=section.fused,
        trust_remote_code=section.trust_remote_code,
        overrides=section.overrides,
        download=check_hub(section),
        prepared=prepared,
        random=section.init == "random",
    )
    return replace(loaded, name=section.name, content=content_of(section, adapter))


def model_origin(section: ModelSection, commit: str | None) -> tuple[ModelSection, dict[str, Any]]:
    """What a run writes down of its base model, so that any working folder finds it, and a change is noticed.

    Args:
        section: the section that the base was loaded from.
        commit: the commit that the hub gave, for a model of the hub.

    Returns:
        The section with an absolute path, or with the commit as its revision, and the fingerprint of the base.

    Raises:
        ModelError: the base is missing or cannot be read.
    """
    name = absolute_name(section.name)
    fingerprint = base_fingerprint(name, commit or section.revision)
    pinned = {"name": name, "revision": commit or section.revision} if fingerprint["kind"] == "hub" else {"name": name}
    return section.model_copy(update=pinned), fingerprint


def source_tokenizer(source: ModelSource) -> Any:
    """Load the tokenizer of a model.

    Args:
        source: what the model's name stands for.

    Raises:
        ModelError: the model is missing, or its tokenizer cannot be loaded.
    """
    section = source.section
    return load_tokenizer(
        locate(section.name),
        revision=section.revision,
        trust_remote_code=section.trust_remote_code,
        folder=check_hub(section),
    )
