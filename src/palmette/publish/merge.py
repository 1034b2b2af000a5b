"""Merging an adapter into its model's weights, as a plain folder that transformers and other programs load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch

from palmette import run
from palmette.config.recipes import Recipe
from palmette.errors import ModelError, RunError
from palmette.inference.base import load_section
from palmette.inference.names import resolve_run
from palmette.model.files import ADAPTER_WEIGHTS
from palmette.model.loading import LoadedModel, merge_lora, weights_hash

MergeDType = Literal["auto", "float32", "bfloat16", "float16"]
ORIGIN = "palmette.json"
# Relative difference of logits in float32: sums of the same products in another order, through every layer.
_TOLERANCE = 1e-3


def merge_run(folder: Path, out: Path, dtype: MergeDType = "auto") -> torch.dtype:
    """Write a run's model, with its adapter merged, as a plain folder. Its `palmette.json` records the origin.

    Args:
        folder: a finished run folder with an adapter.
        out: the folder to write, which must not exist.
        dtype: the dtype of the written weights. "auto" is the run's own.

    Returns:
        The dtype of the written weights.

    Raises:
        RunError: the folder is no such run, or `out` cannot be written.
        ModelError: the base cannot be loaded, or the merged weights compute something else than the adapter.
    """
    run.check_absent(out)
    recipe = mergeable(folder)
    merged = merged_model(folder, recipe)
    with run.whole_folder(out) as staging:
        written = write_merged(merged, recipe, staging, dtype)
        manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
        run.write_json(staging / ORIGIN, origin(folder, recipe.model_dump(), manifest))
    return written


def mergeable(folder: Path) -> Recipe:
    """The recipe of a run whose adapter a plain model folder can hold.

    Raises:
        RunError: the folder is no run folder, has a full model or nothing trained, or has more beside the adapter than
            its matrices.
    """
    source = resolve_run(folder)
    adapter, recipe = source.adapter, source.recipe
    if adapter is None or recipe is None:
        raise RunError(f"{folder} holds a full model: there is no adapter to merge", f"Use {source.trained} as it is.")
    more = sorted(path.name for path in adapter.glob("*.safetensors") if path.name != ADAPTER_WEIGHTS)
    if more:
        raise RunError(
            f"{adapter} holds {more[0]}, which a plain model has no place for", "Publish the adapter instead."
        )
    return recipe


def merged_model(folder: Path, recipe: Recipe) -> LoadedModel:
    """A run's model in float32 with its adapter merged, checked to compute the same as before.

    The adapter of a quantized base is merged into the unquantized base.

    Raises:
        ModelError: it cannot be loaded, or computes something else. That happens where the output layer shares the
            weights of the embedding, for example.
    """
    attention = "eager" if recipe.model.attention == "eager" else "sdpa"
    plain = {"dtype": "float32", "attention": attention, "fused": False, "quantization": None}
    loaded = load_section(recipe.model.model_copy(update=plain), folder / run.ADAPTER)
    before = _probe(loaded.model)
    merged = merge_lora(loaded)
    difference = float((_probe(merged.model) - before).norm() / before.norm())
    if not difference <= _TOLERANCE:
        raise ModelError(
            f"{folder}: merged weights compute something else than the adapter (relative difference {difference:.2g})",
            "Publish the adapter instead, or train without the layers that share their weights.",
        )
    return merged


@torch.no_grad()
def _probe(model: Any) -> torch.Tensor:
    """Logits [T, V] of a few tokens from all over the vocabulary."""
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    token_BT = torch.tensor([[(7919 * index + 5) % vocabulary for index in range(16)]], device=model.device)
    logits: torch.Tensor = model(input_ids=token_BT).logits[0].float()
    return logits


def write_merged(merged: LoadedModel, recipe: Recipe, folder: Path, dtype: MergeDType) -> torch.dtype:
    """Write a merged model and its tokenizer into a folder that exists. The result is the dtype of the weights."""
    chosen: torch.dtype = getattr(torch, recipe.model.dtype if dtype == "auto" else dtype)
    model = merged.model.to(chosen)
    model.save_pretrained(folder)
    merged.tokenizer.save_pretrained(folder)
    return chosen


def origin(folder: Path, recipe: dict[str, Any], manifest: dict[str, Any]) -> dict[str, Any]:
    """The origin of a merged model."""
    return {
        "made_by": run.environment(),
        "adapter_sha256": weights_hash(str(folder / run.ADAPTER)),
        "merged_onto": "the unquantized base" if recipe["model"]["quantization"] else "the base",
        "recipe": recipe,
        "manifest": manifest,
    }
