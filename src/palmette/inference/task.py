"""The task of a recipe: its prompt, and the trees that it makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from palmette.config.recipes import Recipe
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning
from palmette.tasks.qa_prompt import OPTIONAL, QaPrompt, checked, load_prompt
from palmette.tree.chat import ChatTemplate


def recipe_prompt(recipe: Recipe) -> QaPrompt:
    """The prompt that a recipe asks for."""
    changes = recipe.prompt.model_dump(exclude={"name"})
    changed = {key: value for key, value in changes.items() if value is not None}
    if changes.keys() - changed.keys() <= set(OPTIONAL):  # as a run records it: its file need not be there any more
        return QaPrompt(**changed)
    return checked(replace(load_prompt(recipe.prompt.name), **changed), recipe.prompt.name)


def recipe_task(recipe: Recipe, tokenizer: Any) -> ExtractiveQa:
    """The task of a recipe, for a model's tokenizer.

    Raises:
        TemplateError: the tokenizer's chat template cannot be taken apart.
        DataError: the prompt, or what is to be learned, makes no sense.
    """
    reasoning = Reasoning(**recipe.reasoning.model_dump(exclude={"embedding_epochs"}))
    learn = recipe.learn if recipe.data.kind == "qa" else "assistant"
    return ExtractiveQa(ChatTemplate(tokenizer), recipe_prompt(recipe), learn, reasoning)
