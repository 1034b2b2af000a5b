"""Recipes say in YAML what a run does. They are read into frozen models.

An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from palmette.errors import RecipeError, in_yaml, reason_of
from palmette.files import format_yaml, parse_yaml

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Above0 = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


_DATA_SUFFIXES = {".json", ".jsonl", ".csv", ".tsv", ".parquet", ".xlsx"}


class Section(BaseModel):
    """A part of a recipe. It cannot be changed, and it refuses unknown keys.

    Attributes:
        renamed: keys of earlier versions, each with the key that replaced it, for messages.
    """

    renamed: ClassVar[Mapping[str, str]] = {}

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    def to_yaml(self) -> str:
        """All settings as YAML, including the defaults."""
        return format_yaml(self.model_dump())


AnySection = TypeVar("AnySection", bound=Section)


def contradiction(problem: str, way_out: str) -> PydanticCustomError:
    """The error that a section's validator raises if two settings contradict each other.

    Args:
        problem: the contradiction, with both settings and their values.
        way_out: what the user can do about it.
    """
    return PydanticCustomError("contradiction", "{problem}", {"problem": problem, "way_out": way_out})


class ModelSection(Section):
    """The model to start from.

    Attributes:
        name: hub id, folder, or GGUF file.
        revision: branch, tag or commit on the hub.
        dtype: data type of the weights. "auto" is the one that the hardware is fast at.
        attention: attention backend. "auto" is flex where a GPU and the model allow it, and sdpa elsewhere.
        quantization: keep the base in 4 or 8 bits, with bitsandbytes. It needs LoRA, and 4 bits need a GPU.
        fused: on a CPU, run each layer as one operation. It works for the families Llama, Mistral and Qwen2.
        trust_remote_code: run code that comes with the model.
        overrides: values that replace those of the model's own configuration.
    """

    name: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Literal["auto", "flex", "sdpa", "eager"] = "auto"
    quantization: Literal["4bit", "8bit"] | None = None
    fused: bool = True
    trust_remote_code: bool = False
    overrides: dict[str, Any] = {}


class NegativesSection(Section):
    """Unanswerable questions that are added to documents, so that a model learns to refuse.

    Attributes:
        siblings: the most questions of other documents of the same title that a document is asked, too.
        altered: the most questions of a document that are asked once more, altered so that it does not answer them.
    """

    siblings: Annotated[int, Field(ge=0)] = 0
    altered: Annotated[int, Field(ge=0)] = 0


class DataSection(Section):
    """The data to learn from.

    Attributes:
        train: sources, read one after the other.
        kind: "qa" for questions about documents, "chat" for conversations, "preferences" for the stages that learn from
            preferences.
        on_bad_record: what to do with a broken question, document or conversation. "drop" leaves it out and counts it.
        on_too_long: what to do with a tree of more than train.row_tokens tokens. "drop" leaves it out and counts it.
        limit_documents: use only the first N documents or conversations of each source.
        negatives: unanswerable questions that are added to those of the data. Only for questions about documents.
    """

    train: Annotated[list[str], Field(min_length=1)] = ["builtin:train"]
    kind: Literal["qa", "chat", "preferences"] = "qa"
    on_bad_record: Literal["error", "drop"] = "error"
    on_too_long: Literal["error", "drop"] = "error"
    limit_documents: Positive | None = None
    negatives: NegativesSection = NegativesSection()

    @model_validator(mode="after")
    def _negatives_are_questions(self) -> DataSection:
        if self.kind != "qa" and self.negatives != NegativesSection():
            raise contradiction(
                f"data.negatives adds questions about documents, and data.kind = {self.kind}",
                "Take data.negatives out, or set data.kind: qa.",
            )
        return self


class PromptSection(Section):
    """The prompt. All keys but `name` replace a text of the prompt. null leaves it as it is.

    Attributes:
        name: a prompt that `palmette prompts` lists, or a YAML file of the same form.
        system: the instruction, as the system message.
        before_document: text before the document in the user's message.
        before_question: text between the document and a question.
        after_question: text after a question.
        before_answer: how the completion opens, up to the quote that opens the answer's JSON string.
        after_answer: how the completion closes, from the closing quote on.
        reasons: whether the completion may hold anything before the JSON.
        bare: whether the completion is the answer alone, as it stands in the document, instead of JSON.
        again: text between the document and a second copy of it, which is read with the whole text known. Empty reads
            the document once.
        look: with a bare prompt, the text after an answer that asks whether the document states it, for a second look.
            Empty takes no second look.
        before_verdict: in a prompt of two turns, how the first completion opens. That completion only says whether the
            document holds the answer.
        after_verdict: in a prompt of two turns, how the first completion closes.
        second_turn: in a prompt of two turns, what the user then says to get the answer.
    """

    name: str = "plain"
    system: str | None = None
    before_document: str | None = None
    before_question: str | None = None
    after_question: str | None = None
    before_answer: str | None = None
    after_answer: str | None = None
    reasons: bool | None = None
    bare: bool | None = None
    again: str | None = None
    look: str | None = None
    before_verdict: str | None = None
    after_verdict: str | None = None
    second_turn: str | None = None


class ReasoningSection(Section):
    """What the completion holds before the answer.

    Attributes:
        kind: what stands before an answer. "blah" is placeholders that are neither learned nor attended to, and only
            shift positions. "pause" is placeholders with input embeddings that are learned. "rationale" is the
            reasoning in the data.
        tokens: number of placeholders.
        shared: use the same token for all pause tokens.
        embedding_epochs: passes over the data that train only the embeddings of the pause tokens, before everything
            else.
    """

    kind: Literal["none", "blah", "pause", "rationale"] = "none"
    tokens: Positive = 5
    shared: bool = True
    embedding_epochs: Annotated[int, Field(ge=0)] = 0


class LoraSection(Section):
    """LoRA (Hu et al., 2021).

    Attributes:
        rank: rank of the update.
        alpha: scale of the update, which is multiplied by alpha / rank.
        dropout: dropout probability at the adapter's input.
        targets: "all-linear", or the names of layers.
        dora: learn the norm of each output's weights apart from their direction (DoRA, Liu et al., 2024).
        rank_stabilised: multiply the update by alpha / sqrt(rank) instead (rsLoRA, Kalajdzievski, 2023).
        rank_pattern: another rank for some layers, by name or by a regular expression for the end of the name.
        alpha_pattern: another alpha for some layers, by name or by a regular expression for the end of the name.
    """

    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    dropout: Fraction = 0.0
    targets: str | list[str] = "all-linear"
    dora: bool = False
    rank_stabilised: bool = False
    rank_pattern: dict[str, Positive] = {}
    alpha_pattern: dict[str, Annotated[float, Field(gt=0)]] = {}


class TrainSection(Section):
    """How to train.

    Attributes:
        method: "lora" trains an adapter, "full" trains all weights.
        epochs: passes over the data.
        learning_rate: peak learning rate.
        trees_per_step: documents of an optimizer step.
        row_tokens: most tokens of a tree. With a dense attention mask, also of a row.
        tokens_per_batch: most tokens of a forward pass. A row that has more is passed alone.
        schedule: learning-rate schedule after the warm-up.
        warmup: share of the steps over which the learning rate rises.
        max_grad_norm: norm that gradients are clipped to. 0 does not clip.
        weight_decay: decoupled weight decay of AdamW.
        seed: random seed of adapters, dropout and order.
        save_every: optimizer steps between checkpoints. 0 saves only at the end of an epoch.
        save_minutes: minutes after which a checkpoint is saved in any case, at the end of a step. 0 saves none by time.
        keep_checkpoints: number of checkpoints that are kept, the latest ones.
        gradient_checkpointing: compute activations again in the backward pass, which saves memory.
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
    save_minutes: NonNegative = 10.0
    keep_checkpoints: Positive = 2
    gradient_checkpointing: bool = False


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
        if self.reasoning.embedding_epochs and self.reasoning.kind != "pause":
            raise contradiction(
                f"reasoning.embedding_epochs = {self.reasoning.embedding_epochs} trains embeddings that "
                f"reasoning.kind = {self.reasoning.kind} does not have",
                "Use reasoning.kind: pause, or take reasoning.embedding_epochs out.",
            )
        return self

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
