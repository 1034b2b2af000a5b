"""The recipe of continued pre-training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from palmette.config.corpus import CleanSection
from palmette.config.recipes import Recipe
from palmette.config.sections import (
    Above0,
    DataSection,
    Fraction,
    NonNegative,
    Positive,
    Section,
    TrainSection,
    contradiction,
)

_TREES = TrainSection().trees_per_step


class TextDataSection(DataSection):
    """The texts to learn from.

    Attributes:
        train: files, folders, data sets of the hub (USER/NAME/CONFIGURATION:SPLIT, read as a stream), or builtin:train.
        kind: "text".
    """

    kind: Literal["qa", "chat", "preferences", "text"] = "text"


class PretrainSection(Section):
    """What is learned of the texts, and what is measured meanwhile.

    Attributes:
        tokens: the tokens to learn in the whole run, which then ends with the last of them. null learns all texts
            train.epochs times. Data sets of the hub need it.
        tokens_per_step: the least learned tokens of an optimizer step.
        piece_tokens: longest piece of a text, in tokens. Texts do not see each other, nor do the pieces of one text.
        long_texts: "split" learns all pieces of a text that is longer than a piece, "cut" only the first.
        weights: shares of the sources in data.train among the learned tokens, one for each. A source that ends begins
            again. [] reads the sources one after the other.
        replay: sources like what the model learned before, which are mixed in against forgetting.
        replay_share: their share of the learned tokens.
        shuffle: pieces that are shuffled at a time. 0 keeps the order of the texts.
        held_out: other sources, on which perplexity is measured. builtin:general are the general texts of `palmette
            eval retention`, which show meanwhile what is forgotten.
        held_out_share: share of the pieces of each source that is not learned, on which perplexity is measured too.
        held_out_tokens: most tokens of each source that perplexity is measured on.
        measure_every: optimizer steps between two measurements. 0 measures at the beginning and at the end only.
        prompts: beginnings of texts that the model continues at each measurement. "" begins a text.
        sample_tokens: most tokens of such a continuation.
        temperature: temperature of these samples. 0 takes the likeliest token.
    """

    tokens: Positive | None = None
    tokens_per_step: Positive = 8192
    piece_tokens: Annotated[int, Field(ge=2)] = 1024
    long_texts: Literal["split", "cut"] = "split"
    weights: list[Above0] = Field(default_factory=list)
    replay: list[str] = Field(default_factory=list)
    replay_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    shuffle: Annotated[int, Field(ge=0)] = 256
    held_out: list[str] = Field(default_factory=list)
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.02
    held_out_tokens: Positive = 16384
    measure_every: Annotated[int, Field(ge=0)] = 50
    prompts: list[str] = Field(default_factory=list)
    sample_tokens: Positive = 64
    temperature: NonNegative = 0.8


class PretrainTrainSection(TrainSection):
    """How to train.

    Attributes:
        epochs: passes over the texts, if there is no pretrain.tokens.
        trees_per_step: has no meaning here. Use pretrain.tokens_per_step.
        warmup: share of the steps over which the learning rate rises again.
        final_rate: learning rate after the last step, as a share of the peak.
    """

    epochs: Positive = 1
    learning_rate: Above0 = 3e-4
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.02
    final_rate: Fraction = 0.1


class PretrainRecipe(Recipe):
    """A run of continued pre-training."""

    stage: str = "pretrain"
    data: TextDataSection = TextDataSection()
    train: PretrainTrainSection = PretrainTrainSection()
    pretrain: PretrainSection = PretrainSection()
    clean: CleanSection = CleanSection()

    @model_validator(mode="after")
    def _tokens_are_the_unit(self) -> PretrainRecipe:
        own = self.pretrain
        if self.data.kind != "text":
            raise contradiction(f"data.kind = {self.data.kind}, but pre-training learns texts", "Take data.kind out.")
        if self.train.trees_per_step != _TREES:
            raise contradiction(
                f"train.trees_per_step = {self.train.trees_per_step} has no meaning in pre-training",
                "Use pretrain.tokens_per_step.",
            )
        if own.tokens is not None and self.train.epochs != 1:
            raise contradiction(
                f"pretrain.tokens = {own.tokens} and train.epochs = {self.train.epochs} both say how long to train",
                "Take one of them out.",
            )
        if self.learn != "assistant":
            raise contradiction("learn says what is learned, but pre-training learns every token", "Take learn out.")
        return self

    @model_validator(mode="after")
    def _pieces_fit(self) -> PretrainRecipe:
        own = self.pretrain
        for limit, value in (
            ("train.row_tokens", self.train.row_tokens),
            ("pretrain.tokens_per_step", own.tokens_per_step),
        ):
            if own.piece_tokens > value:
                raise contradiction(
                    f"pretrain.piece_tokens = {own.piece_tokens} is more than {limit} = {value}",
                    f"Lower the first, or raise {limit}.",
                )
        return self

    @model_validator(mode="after")
    def _mixture_is_whole(self) -> PretrainRecipe:
        own = self.pretrain
        if self.train.shard and own.prompts:
            raise contradiction(
                "train.shard divides a model, and pretrain.prompts are continued by a whole one",
                "Take one of them out.",
            )
        if own.weights and len(own.weights) != len(self.data.train):
            raise contradiction(
                f"pretrain.weights has {len(own.weights)} weights for {len(self.data.train)} sources in data.train",
                "Give one for each, in the same order.",
            )
        if own.weights and own.tokens is None:
            raise contradiction(
                "pretrain.weights mixes sources that begin again where they end, so the texts have no end",
                "Set pretrain.tokens.",
            )
        return self
