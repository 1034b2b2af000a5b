"""Jobs: everything that a stage trains with, checked before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from palmette import processes
from palmette.config.recipes import Recipe
from palmette.config.sections import PromptSection
from palmette.errors import DataError
from palmette.inference.base import model_origin
from palmette.inference.fingerprint import BASE
from palmette.model.checks import check_model
from palmette.model.fused import describe, kernels_name
from palmette.model.loading import LoadedModel, dtype_name, weights_hash
from palmette.progress import Say
from palmette.tasks.qa_prompt import QaPrompt
from palmette.train.start import AnyRecipe, StartingPoint
from palmette.train.steps.plan import Plan, StepPlan
from palmette.tree.prefix_tree import PrefixTree, lay_out


@dataclass(frozen=True)
class Job:
    """Everything that a stage trains with.

    Attributes:
        recipe: the recipe, completed with the values that defaults and hardware gave. So a run keeps its meaning when
            they change.
        loaded: the tokenizer, and the model with its trainable parameters marked.
        plan: the optimizer steps.
        num_examples: number of examples in an epoch, for the rate that is shown.
        unit: name of these examples.
        fingerprint: model, data and settings of the run, with hashes, for the manifest. A run is resumed only if it is
            the same.
    """

    recipe: Recipe
    loaded: LoadedModel
    plan: Plan
    num_examples: int
    unit: str
    fingerprint: dict[str, Any]


class Source(Protocol):
    """Records from one source, such as a `DataSet`, `ChatSet` or `PreferenceSet`."""

    def describe(self) -> dict[str, Any]:
        """The entry for the manifest that identifies the records."""


def settle(
    start: StartingPoint[AnyRecipe],
    sources: Sequence[Source],
    dropped: Sequence[str],
    counted: str,
    say: Say,
    *,
    prompt: QaPrompt | None = None,
    **entries: Any,
) -> tuple[AnyRecipe, dict[str, Any]]:
    """Finish the preparation of a job: check the model, report what is learned, and complete recipe and fingerprint.

    Args:
        start: the model, with everything that is trained on it.
        sources: the sources of the data.
        dropped: the reason for each record that was left out.
        counted: what is learned, in words.
        say: called with two lines of news.
        prompt: the prompt, if the stage uses one. Its texts are written into the recipe.
        entries: further entries of the fingerprint.

    Returns:
        The recipe, completed with the values that defaults and hardware gave, and the fingerprint of the run.

    Raises:
        ModelError: the model cannot be trained here.
    """
    model = start.loaded.model
    check_model(model, training=True)
    say(f"{counted}, {f'{len(dropped):,} records' if dropped else 'nothing'} left out")
    say(f"computing in {model.dtype}, {describe(model)}".replace("torch.", ""))
    dtype: Any = dtype_name(model.dtype)
    located, base = model_origin(start.recipe.model, getattr(model.config, "_commit_hash", None))
    changes: dict[str, Any] = {"model": located.model_copy(update={"dtype": dtype})}
    if prompt is not None:
        changes["prompt"] = PromptSection(name=start.recipe.prompt.name, **asdict(prompt))
    recipe = start.recipe.model_copy(update=changes)
    fingerprint = {
        "seed": recipe.train.seed,
        "model": _model_fingerprint(recipe, start.loaded),
        BASE: base,
        **start.fingerprint,
        "data": [source.describe() for source in sources],
        "dropped": list(dropped),
        **({"prompt_sha256": prompt.sha256} if prompt is not None else {}),
        **entries,
    }
    return recipe, fingerprint


def _model_fingerprint(recipe: Recipe, loaded: LoadedModel) -> dict[str, Any]:
    """The model that a run starts from. The recipe is the completed one, whose names mean the same anywhere."""
    return {
        "name": recipe.model.name,
        "revision": getattr(loaded.model.config, "_commit_hash", None) or recipe.model.revision,
        "dtype": dtype_name(loaded.model.dtype),
        "sha256": weights_hash(loaded.folder),
        "attention": loaded.model.config.get_text_config()._attn_implementation,
        "layers": describe(loaded.model),
        "kernels": kernels_name(loaded.model),
    }


def tree_fingerprint(trees: Sequence[PrefixTree]) -> dict[str, Any]:
    """Number and hash of the tokens and masks of all trees, for the manifest."""
    digest = hashlib.sha256()
    for tree in trees:
        row = lay_out(tree)
        digest.update(repr((row.token, row.attend, row.learn, row.predictor)).encode())
    return {"tokens": sum(tree.num_tokens for tree in trees), "tokens_sha256": digest.hexdigest()}


def step_plan(
    trees: Sequence[PrefixTree], dropped: Sequence[str], recipe: Recipe, *, one_row: bool, learns: bool = True
) -> StepPlan:
    """The steps of a recipe over trees.

    Args:
        trees: the trees to learn.
        dropped: the reason for each record that was left out, for the message.
        recipe: says how they are packed.
        one_row: see `StepPlan`.
        learns: see `StepPlan`.

    Raises:
        DataError: all records were left out.
        PackingError: see `StepPlan`.
    """
    if not trees and dropped:
        raise DataError(
            f"nothing is left to train on: all was dropped, first {dropped[0]}",
            "Correct the records, raise train.row_tokens, or set data.on_too_long: split where it can be.",
        )
    train = recipe.train
    return StepPlan(
        trees,
        trees_per_step=train.trees_per_step,
        row_tokens=train.row_tokens,
        tokens_per_batch=train.tokens_per_batch,
        seed=train.seed,
        one_row=one_row,
        parts=processes.count(),
        learns=learns,
    )
