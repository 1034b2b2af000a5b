"""The reference model of a policy, loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from palmette import run
from palmette.config import load_run_recipe
from palmette.errors import ModelError
from palmette.inference.base import load_base
from palmette.model.loading import LoadedModel, load_model, load_tokenizer, weights_hash
from palmette.run import trained_folder


def reference_fingerprint(name: str, tokenizer: Any) -> dict[str, Any]:
    """What a reference other than the run's own model is made of, for the manifest.

    Args:
        name: a finished run, or a model by name.
        tokenizer: the policy's.

    Raises:
        RunError: the run is not finished.
        ModelError: there is no such model, or its tokens are not the policy's.
    """
    folder = Path(name).expanduser()
    of_run = run.is_run(folder)
    recipe = load_run_recipe(folder / run.RECIPE) if of_run else None
    own = load_tokenizer(recipe.model.name if recipe else name)
    if own.get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            f"the reference {name!r} has other tokens than the model that is trained",
            "Give a reference of the same family, or none.",
        )
    hashes = [weights_hash(str(folder))]
    if recipe is not None:
        hashes = [weights_hash(str(trained_folder(folder))), weights_hash(recipe.model.name)]
    return {"reference": {"name": name, "sha256": hashes}}


def open_reference(name: str, dtype: Any) -> LoadedModel:
    """The model of a finished run, or one by name.

    Args:
        name: as for `reference_fingerprint`.
        dtype: of a model by name; a run has its own.

    Raises:
        RunError, ModelError: as for `reference_fingerprint`.
    """
    folder = Path(name).expanduser()
    if not run.is_run(folder):
        return load_model(name, dtype=dtype)
    recipe, trained = load_run_recipe(folder / run.RECIPE), trained_folder(folder)
    if trained.name == run.FULL_MODEL:
        model = recipe.model.model_copy(update={"name": str(trained), "revision": None})
        return load_base(recipe.model_copy(update={"model": model}))
    return load_base(recipe, trained)
