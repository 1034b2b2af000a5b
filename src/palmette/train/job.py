"""A job: everything that a stage trains with, checked before anything is written."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from palmette.config import PromptSection, Recipe
from palmette.errors import DataError
from palmette.inference.base import model_origin
from palmette.inference.fingerprint import BASE
from palmette.model.checks import check_model
from palmette.model.fused import describe
from palmette.model.loading import LoadedModel, dtype_name, weights_hash
from palmette.progress import Say
from palmette.tasks.qa_prompt import QaPrompt
from palmette.train.plan import Plan, StepPlan
from palmette.train.start import AnyRecipe, StartingPoint
from palmette.tree.prefix_tree import PrefixTree, lay_out


@dataclass(frozen=True)
class Job:
    """Everything that a stage trains with.

    Attributes:
        recipe: with what defaults and hardware decided, so that a run keeps its meaning when they change.
        loaded: the model, its trainable parameters marked, and its tokenizer.
        plan: the optimizer steps.
        num_examples: what an epoch holds, for the rate shown.
        unit: what is counted there.
        fingerprint: what the run is made of, with hashes, for the manifest. Where it has changed, the run cannot be resumed.
    """

    recipe: Recipe
    loaded: LoadedModel
    plan: Plan
    num_examples: int
    unit: str
    fingerprint: dict[str, Any]


class Source(Protocol):
    """Records from one source; `DataSet`, `ChatSet` and `PreferenceSet` are such."""

    def describe(self) -> dict[str, Any]:
        """What names the records in the manifest."""


def settle(
    begun: StartingPoint[AnyRecipe],
    sources: Sequence[Source],
    dropped: Sequence[str],
    counted: str,
    say: Say,
    *,
    prompt: QaPrompt | None = None,
    **made_of: Any,
) -> tuple[AnyRecipe, dict[str, Any]]:
    """The end of what all stages prepare: check the model, say what is learned, write down what the run is made of.

    Args:
        begun: the model, with everything that is trained on it.
        sources: where the data are from.
        dropped: what was left out, with reasons.
        counted: what is left, in words.
        say: called with two lines of news.
        prompt: the prompt, where the stage learns under it. Its texts are written into the recipe.
        made_of: what else the stage's run is made of.

    Returns:
        The recipe with what defaults and hardware decided, and the fingerprint of the run.

    Raises:
        ModelError: the model cannot be trained here.
    """
    model = begun.loaded.model
    check_model(model, training=True)
    say(f"{counted}; {len(dropped)} dropped")
    say(f"computing in {model.dtype} with {describe(model)}".replace("torch.", ""))
    dtype: Any = dtype_name(model.dtype)
    located, base = model_origin(begun.recipe.model, getattr(model.config, "_commit_hash", None))
    decided: dict[str, Any] = {"model": located.model_copy(update={"dtype": dtype})}
    if prompt is not None:
        decided["prompt"] = PromptSection(name=begun.recipe.prompt.name, **asdict(prompt))
    recipe = begun.recipe.model_copy(update=decided)
    fingerprint = {
        "seed": recipe.train.seed,
        "model": _model_fingerprint(recipe, begun.loaded),
        BASE: base,
        **begun.fingerprint,
        "data": [source.describe() for source in sources],
        "dropped": list(dropped),
        **({"prompt_sha256": prompt.sha256} if prompt is not None else {}),
        **made_of,
    }
    return recipe, fingerprint


def _model_fingerprint(recipe: Recipe, loaded: LoadedModel) -> dict[str, Any]:
    """What a run starts from."""
    return {
        "name": loaded.name,
        "revision": getattr(loaded.model.config, "_commit_hash", None) or recipe.model.revision,
        "dtype": dtype_name(loaded.model.dtype),
        "sha256": weights_hash(loaded.folder),
        "attention": loaded.model.config.get_text_config()._attn_implementation,
        "layers": describe(loaded.model),
    }


def tree_fingerprint(trees: Sequence[PrefixTree]) -> dict[str, Any]:
    """What a run learns from, for its manifest: the tokens and masks of all trees, by their hash."""
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
        trees: what is learned.
        dropped: what was left out, with reasons, for the message.
        recipe: how they are packed.
        one_row: see `StepPlan`.
        learns: see `StepPlan`.

    Raises:
        DataError: nothing is left.
        PackingError: see `StepPlan`.
    """
    if not trees and dropped:
        raise DataError(
            f"nothing is left to train on: all was dropped, first {dropped[0]}",
            "Correct the records, raise train.row_tokens, or split the documents.",
        )
    train = recipe.train
    return StepPlan(
        trees,
        trees_per_step=train.trees_per_step,
        row_tokens=train.row_tokens,
        tokens_per_batch=train.tokens_per_batch,
        seed=train.seed,
        one_row=one_row,
        learns=learns,
    )
