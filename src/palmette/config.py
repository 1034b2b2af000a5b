"""Recipes: what a run does, as YAML read into frozen models. An unknown key is an error that names the nearest one."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from palmette.errors import RecipeError

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class Section(BaseModel):
    """A part of a recipe: frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


class ModelSection(Section):
    """The model to start from.

    Attributes:
        name: hub id, folder, or GGUF file.
        revision: branch, tag or commit on the hub.
        dtype: "auto" picks what the hardware is fast at.
        attention: attention backend.
        trust_remote_code: run code that comes with the model.
        overrides: values for the model's own configuration.
    """

    name: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Literal["sdpa", "eager"] = "sdpa"
    trust_remote_code: bool = False
    overrides: dict[str, Any] = {}


class DataSection(Section):
    """The data to learn from.

    Attributes:
        train: sources, read one after the other.
        on_bad_record: "error", or "drop" to leave bad questions and documents out and count them.
        on_too_long: "error", or "drop" to leave trees over train.row_tokens out and count them.
        limit_documents: use at most so many documents of each source.
    """

    train: Annotated[list[str], Field(min_length=1)] = ["builtin:train"]
    on_bad_record: Literal["error", "drop"] = "error"
    on_too_long: Literal["error", "drop"] = "error"
    limit_documents: Positive | None = None


class PromptSection(Section):
    """Words of the prompt that differ from the default ones (None = default)."""

    system: str | None = None
    before_document: str | None = None
    before_question: str | None = None
    after_question: str | None = None


class LoraSection(Section):
    """LoRA (Hu et al., 2021).

    Attributes:
        rank: rank of the update.
        alpha: the update is scaled by alpha / rank.
        dropout: dropout on the adapter's input.
        targets: "all-linear", or names of layers.
    """

    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Fraction = 0.0
    targets: str | list[str] = "all-linear"


class TrainSection(Section):
    """How to train.

    Attributes:
        method: "lora", or "full" for all weights.
        epochs: passes over the data.
        learning_rate: peak learning rate.
        trees_per_step: documents per optimizer step.
        row_tokens: the most tokens a tree, and a row, may have.
        tokens_per_batch: the most tokens in one forward pass; more only if one row alone has more.
        schedule: learning-rate schedule after the warm-up.
        warmup: share of the steps over which the learning rate rises.
        max_grad_norm: gradients are clipped to this norm; 0 = not at all.
        weight_decay: AdamW's decoupled weight decay.
        seed: of adapters, dropout and order.
        save_every: optimizer steps between checkpoints; 0 = only at each epoch's end.
        keep_checkpoints: how many of the latest checkpoints stay.
        gradient_checkpointing: recompute activations to save memory.
    """

    method: Literal["lora", "full"] = "lora"
    epochs: Positive = 2
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    trees_per_step: Positive = 2
    row_tokens: Positive = 4096
    tokens_per_batch: Positive = 4096
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    save_every: Annotated[int, Field(ge=0)] = 0
    keep_checkpoints: Positive = 2
    gradient_checkpointing: bool = False


class Recipe(Section):
    """A fine-tuning run.

    Attributes:
        output: the run folder, which must not exist yet.
    """

    output: str
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    prompt: PromptSection = PromptSection()
    lora: LoraSection = LoraSection()
    train: TrainSection = TrainSection()

    def to_yaml(self) -> str:
        """The whole recipe, defaults included, as YAML."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML whose maps hold each key once; plain YAML keeps the last and drops the others."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The map of a node."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.value[index][0].start_mark
                )
        return super().construct_mapping(node, deep)


# YAML 1.1 takes 1e-4 for a word, since it wants a point in every float.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        RecipeError: no such file, not YAML, an unknown key (naming the nearest), or a value out of bounds.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {error}", "Check the path.") from error
    return parse_recipe(text, str(path))


def parse_recipe(text: str, source: str) -> Recipe:
    """Read a recipe from YAML text; `source` is how messages name it.

    Raises:
        RecipeError: as for `load_recipe`.
    """
    try:
        values = yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{source} is not YAML: {error}", "Mend the line it names.") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{source} holds no settings", "Start with `output: runs/NAME`.")
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise _explain(error, source) from error


def _explain(error: ValidationError, source: str) -> RecipeError:
    """The first problem of a recipe, in words."""
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = sorted(_keys(path[:-1]))
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return RecipeError(f"{source}: unknown key {name!r}", f"{hint}Known: {', '.join(known)}.")
    if first["type"] in ("model_type", "model_attributes_type", "dataclass_type"):
        return RecipeError(
            f"{source}: {name} = {first['input']!r} is not a map of settings", "Indent its settings below it."
        )
    if first["type"] == "missing":
        return RecipeError(f"{source}: {name!r} is missing", "Add it.")
    return RecipeError(f"{source}: {name} = {first['input']!r}: {first['msg']}", "Correct the value.")


def _keys(path: list[str]) -> set[str]:
    section: type[BaseModel] = Recipe
    for part in path:
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return set(section.model_fields)
