"""The sections of recipes: frozen models that refuse unknown keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from palmette.files import format_yaml

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Above0 = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


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
        init: "pretrained" loads the weights. "random" draws new ones (train.seed) for the model's configuration, and
            needs only that and a tokenizer. Every weight is then trained.
    """

    name: str = "HuggingFaceTB/SmolLM2-135M-Instruct"
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Literal["auto", "flex", "sdpa", "eager"] = "auto"
    quantization: Literal["4bit", "8bit"] | None = None
    fused: bool = True
    trust_remote_code: bool = False
    overrides: dict[str, Any] = {}
    init: Literal["pretrained", "random"] = "pretrained"


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
            preferences, "text" for continued pre-training.
        on_bad_record: what to do with a broken question, document or conversation. "drop" leaves it out and counts it.
        on_too_long: what to do with a tree of more than train.row_tokens tokens. "drop" leaves it out and counts it.
            "split" cuts a document into windows, of which each question is learned in one. It is for fine-tuning on
            questions about documents, and the default there. Elsewhere the default is "error". (A document of many
            questions has several trees in any case.)
        limit_documents: use only the first N documents or conversations of each source.
        negatives: unanswerable questions that are added to those of the data. Only for questions about documents.
        columns: the names of columns that the data call otherwise, such as {text: content}. Not for questions
            about documents.
        stream: keep documents and prefix trees on disk, for questions about documents that do not fit into memory.
            Sources are .arrow files or data sets of the hub, in which the rows about a document stand together. Batches
            and losses stay the same. Only for fine-tuning.
    """

    train: Annotated[list[str], Field(min_length=1)] = ["builtin:train"]
    kind: Literal["qa", "chat", "preferences", "text"] = "qa"
    on_bad_record: Literal["error", "drop"] = "error"
    on_too_long: Literal["error", "drop", "split"] | None = None
    limit_documents: Positive | None = None
    negatives: NegativesSection = NegativesSection()
    columns: dict[str, str] = {}
    stream: bool = False

    @model_validator(mode="after")
    def _streamed_are_questions(self) -> DataSection:
        if self.stream and self.kind != "qa":
            raise contradiction(
                f"data.stream keeps questions about documents on disk, and data.kind = {self.kind}",
                "Take data.stream out. Texts (data.kind: text) are read as a stream in any case.",
            )
        if self.stream and self.negatives != NegativesSection():
            raise contradiction(
                "data.stream reads one document at a time, and data.negatives looks for questions in others",
                "Take one of them out.",
            )
        return self

    @model_validator(mode="after")
    def _negatives_are_questions(self) -> DataSection:
        if self.kind != "qa" and self.negatives != NegativesSection():
            raise contradiction(
                f"data.negatives adds questions about documents, and data.kind = {self.kind}",
                "Take data.negatives out, or set data.kind: qa.",
            )
        return self

    @model_validator(mode="after")
    def _columns_are_read(self) -> DataSection:
        if self.kind == "qa" and self.columns:
            raise contradiction(
                f"data.columns = {self.columns} renames no column of questions about documents (data.kind = qa)",
                "Rename the columns in the data, or set data.kind: chat if they are conversations.",
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
        schedule: learning-rate schedule after the warm-up. "warmup_stable_decay" stays at the peak until `decay`.
        warmup: share of the steps over which the learning rate rises.
        decay: share of the steps over which "warmup_stable_decay" falls, in a line.
        final_rate: learning rate after the last step, as a share of the peak.
        max_grad_norm: norm that gradients are clipped to. 0 does not clip.
        weight_decay: decoupled weight decay of AdamW.
        seed: random seed of adapters, dropout and order.
        save_every: optimizer steps between checkpoints. 0 saves only at the end of an epoch.
        save_minutes: minutes after which a checkpoint is saved in any case, at the end of a step. 0 saves none by time.
        keep_checkpoints: number of checkpoints that are kept, the latest ones.
        gradient_checkpointing: compute activations again in the backward pass, which saves memory.
        shard: of several processes, each keeps a part of the weights, the gradients and the moments (FSDP2).
    """

    method: Literal["lora", "full"] = "lora"
    epochs: Positive = 2
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    trees_per_step: Positive = 2
    row_tokens: Positive = 4096
    tokens_per_batch: Positive = 4096
    schedule: Literal["linear", "cosine", "constant_with_warmup", "warmup_stable_decay"] = "cosine"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    decay: Fraction = 0.2
    final_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    save_every: Annotated[int, Field(ge=0)] = 0
    save_minutes: NonNegative = 10.0
    keep_checkpoints: Positive = 2
    gradient_checkpointing: bool = False
    shard: bool = False
