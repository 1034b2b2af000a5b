"""Opening what `--model` names: a run folder (base model, adapter and prompt), or any model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palmette import run
from palmette.config import Recipe, load_recipe
from palmette.errors import RunError
from palmette.model.attention import Attention
from palmette.model.checks import check_model
from palmette.model.loading import LoadedModel, load_model
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.train.sft import recipe_prompt
from palmette.tree.chat import ChatTemplate


@dataclass(frozen=True)
class Opened:
    """A model ready to answer, with the task that its prompts are made with."""

    loaded: LoadedModel
    task: ExtractiveQa


def open_model(name: str, attention: Attention | None = None) -> Opened:
    """Open a run folder or a model by name.

    Args:
        name: a run folder, a model folder, a GGUF file, or a hub id.
        attention: the attention backend; the run's own, or sdpa, if None.

    Raises:
        RunError: the run is not finished.
        ModelError: the model is missing or cannot honour a tree's mask.
    """
    folder = Path(name).expanduser()
    if not run.is_run(folder):
        loaded, recipe = load_model(name, attention=attention or "sdpa"), Recipe(output="")
    else:
        recipe = load_recipe(folder / run.RECIPE)
        adapter, full = folder / run.ADAPTER, folder / run.FULL_MODEL
        if not adapter.is_dir() and not full.is_dir():
            raise RunError(f"{folder} is not finished", f"Go on with: palmette train sft --resume {folder}")
        loaded = load_model(
            str(full) if full.is_dir() else recipe.model.name,
            adapter=None if full.is_dir() else adapter,
            revision=None if full.is_dir() else recipe.model.revision,
            dtype=recipe.model.dtype,
            attention=attention or recipe.model.attention,
            trust_remote_code=recipe.model.trust_remote_code,
            overrides=recipe.model.overrides,
        )
    check_model(loaded.model, training=False)
    return Opened(loaded, ExtractiveQa(ChatTemplate(loaded.tokenizer), recipe_prompt(recipe)))
