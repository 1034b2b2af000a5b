"""Recipes say in YAML what a run does. They are read into frozen models.

An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError, model_validator

from palmette.config.sections import (
    AnySection,
    DataSection,
    LoraSection,
    ModelSection,
    PromptSection,
    ReasoningSection,
    Section,
    TrainSection,
    contradiction,
)
from palmette.errors import RecipeError, in_yaml, reason_of
from palmette.files import parse_yaml

_DATA_SUFFIXES = {".json", ".jsonl", ".csv", ".tsv", ".tab", ".xlsx", ".parquet", ".arrow"}


class Recipe(Section):
    """A fine-tuning run. The recipes of all other stages have these settings too.

    Attributes:
        output: the run folder. It must not exist.
        stage: the training stage, as in `palmette train STAGE`. Each kind of recipe has one, its default.
        start: a finished run to start from, whose adapter is trained further. The new run needs only the base of that
            run, and takes over its `model`, `lora`, `prompt` and `reasoning`. A run with all weights trained is the
            base of a new adapter, or is trained further with train.method: full.
        learn: the tokens that the loss sees. "full" is every token, "assistant" the whole completion, "answer" the
            answer and what ends it. A map gives a weight to each kind of token: template, document, question, verdict,
            reasoning, opening, answer, closing, end. In conversations "assistant" is every turn of the assistant and
            "answer" its last one, and the kinds are template, system, user, assistant, end.
    """

    output: str
    stage: str = "sft"
    start: str | None = None
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    prompt: PromptSection = PromptSection()
    learn: Literal["full", "assistant", "answer"] | dict[str, float] = "assistant"
    reasoning: ReasoningSection = ReasoningSection()
    lora: LoraSection = LoraSection()
    train: TrainSection = TrainSection()

    @model_validator(mode="after")
    def _is_of_its_stage(self) -> Recipe:
        own = type(self).model_fields["stage"].default
        if self.stage != own:
            raise contradiction(
                f"stage = {self.stage}, but this is a recipe of the stage {own}",
                f"Write stage: {own}, or leave it out.",
            )
        return self

    @model_validator(mode="after")
    def _settings_agree(self) -> Recipe:
        if self.model.quantization is not None and self.train.method == "full":
            raise contradiction(
                f"model.quantization = {self.model.quantization} keeps weights that train.method = full would train",
                "Use train.method: lora, or take model.quantization out.",
            )
        if self.model.init == "random" and (self.train.method != "full" or self.start is not None):
            raise contradiction(
                "model.init = random draws weights that nobody has trained, and "
                + (f"start = {self.start} has others" if self.start else "train.method = lora would never train them"),
                "Set train.method: full, without start.",
            )
        if self.model.quantization is not None and self.train.shard:
            raise contradiction(
                f"model.quantization = {self.model.quantization} keeps weights that train.shard cannot divide",
                "Take one of them out.",
            )
        if self.data.on_too_long == "split" and (self.data.kind != "qa" or self.stage != "sft"):
            raise contradiction(
                f"data.on_too_long = split cuts documents with questions, and this is the stage {self.stage} with "
                f"data.kind = {self.data.kind}",
                "Set data.on_too_long: drop or error.",
            )
        if self.reasoning.embedding_epochs and self.reasoning.kind != "pause":
            raise contradiction(
                f"reasoning.embedding_epochs = {self.reasoning.embedding_epochs} trains embeddings that "
                f"reasoning.kind = {self.reasoning.kind} does not have",
                "Use reasoning.kind: pause, or take reasoning.embedding_epochs out.",
            )
        return self

    @property
    def on_too_long(self) -> Literal["error", "drop", "split"]:
        """What to do with a tree of too many tokens: what the recipe says, or the default of its stage and data."""
        return self.data.on_too_long or ("split" if self.stage == "sft" and self.data.kind == "qa" else "error")

    @model_validator(mode="after")
    def _conversations_hold_their_reasoning(self) -> Recipe:
        if self.data.kind == "chat" and self.reasoning.kind != "none":
            raise contradiction(
                f"reasoning.kind = {self.reasoning.kind} has no place in conversations (data.kind = chat)",
                "Write it into the conversations, and take reasoning out.",
            )
        return self


def load_run_recipe(path: Path) -> Recipe:
    """Read the settings that recipes of all stages share, such as the model, the prompt, the data and the training.

    The run's own stage, and the sections that only this stage has, are left out. `run.stage_of` says which stage it is.

    Raises:
        RecipeError: the file does not exist, it is not YAML, or a value is out of bounds.
    """
    settings = read_file(path)
    shared = {key: value for key, value in settings.items() if key in Recipe.model_fields and key != "stage"}
    return read_section(Recipe, shared, str(path))


def read_file(path: Path) -> dict[Any, Any]:
    """Read the map of settings in a YAML file.

    Raises:
        RecipeError: the file does not exist (the message names the nearest), it is a folder or data, it is not UTF-8,
            or `read_settings` refuses its text.
    """
    if path.suffix.lower() in _DATA_SUFFIXES:
        raise RecipeError(
            f"{path} is data, not a recipe",
            "Name it in a recipe, under data.train. `palmette recipe` prints recipes to start from.",
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read the recipe {path}: {reason_of(error)}", _way_to(path)) from error
    return read_settings(text, str(path))


def _way_to(path: Path) -> str:
    """What to do about a recipe that cannot be read."""
    if path.is_dir():
        return "Give a YAML file. A run folder that was stopped is continued with --resume."
    with contextlib.suppress(OSError):
        there = {file.stem: file for file in path.parent.iterdir() if file.suffix in (".yaml", ".yml")}
        if not path.exists() and (near := difflib.get_close_matches(path.stem, there, n=1)):
            return f"Did you mean {there[near[0]]}?"
    return "Check the path. `palmette recipe` prints recipes to start from."


def read_settings(text: str, source: str) -> dict[Any, Any]:
    """Read the map of settings in YAML text. Messages call the text `source`.

    Raises:
        RecipeError: the text is not YAML, it is not a map, or a key occurs twice.
    """
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise RecipeError(f"{source} is not YAML: {error}", "Fix the line it names.") from error
    if not isinstance(values, dict):
        raise RecipeError(
            f"{source} holds no settings",
            "Start with `output: runs/NAME`. `palmette recipe` prints recipes with every key.",
        )
    return values


def read_section(kind: type[AnySection], values: dict[Any, Any], source: str) -> AnySection:
    """Read settings as a recipe or as another kind of section. Messages call them `source`.

    Raises:
        RecipeError: a key is unknown (the message names the nearest), a value is out of bounds, or two settings
            contradict each other.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _explain(error, source, kind) from error


def _explain(error: ValidationError, source: str, kind: type[Section]) -> RecipeError:
    """The first problem of a recipe, in words."""
    first = error.errors()[0]
    if first["type"] == "contradiction":
        return RecipeError(f"{source}: {first['msg']}", first["ctx"]["way_out"])
    path = [str(part) for part in first["loc"]]
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        section = _section(path[:-1], kind)
        if path[-1] in section.renamed:
            now = ".".join([*path[:-1], section.renamed[path[-1]]])
            return RecipeError(f"{source}: {name!r} is now called {now!r}", f"Write {section.renamed[path[-1]]}.")
        known = sorted(section.model_fields)
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return RecipeError(f"{source}: unknown key {name!r}", f"{hint}Known: {', '.join(known)}.")
    if first["type"] in ("model_type", "model_attributes_type", "dataclass_type"):
        return RecipeError(
            f"{source}: {name} = {in_yaml(first['input'])} is not a map of settings", "Indent its settings below it."
        )
    if first["type"] == "missing":
        return RecipeError(f"{source}: {name!r} is missing", "Add it.")
    return RecipeError(f"{source}: {name} = {in_yaml(first['input'])}: {_in_words(first['msg'])}", "Correct the value.")


def _in_words(message: str) -> str:
    """A message of pydantic in the words of YAML.

    >>> _in_words("Input should be a valid dictionary")
    'it should be a map'
    """
    words = {"Input should be": "it should be", "a valid dictionary": "a map", "a valid list": "a list"}
    words |= {"a valid string": "text", "a valid integer": "a whole number", "a valid number": "a number"}
    words |= {
        "a valid boolean": "true or false",
        "Dictionary should": "the map should",
        "List should": "the list should",
    }
    for old, new in words.items():
        message = message.replace(old, new)
    return message


def _section(path: list[str], kind: type[Section]) -> type[Section]:
    """The section at a path of keys."""
    section = kind
    for part in path:
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next(c for c in candidates if isinstance(c, type) and issubclass(c, Section))
    return section
