"""The recipe of masked language modelling."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from palmette.config.corpus import CleanSection
from palmette.config.recipes import Recipe
from palmette.config.sections import Above0, ModelSection, Positive, Section, TrainSection, contradiction
from palmette.train.recipes.texts import TextDataSection

_TREES = TrainSection().trees_per_step


class EncoderSection(ModelSection):
    """The encoder to train.

    Attributes:
        name: a folder, minilm, or an encoder of the hub. If it has no head for masked tokens, one is drawn (train.seed)
            that shares the word embeddings, as BERT's does.
    """

    name: str = "minilm"


class MlmSection(Section):
    """What is masked and learned, and what is measured meanwhile.

    Attributes:
        masked_share: share of the tokens that are learned. Of these, 80 % are masked, 10 % are replaced by random ones,
            and 10 % stay (Devlin et al., 2019, "BERT").
        piece_tokens: longest piece of a text, in tokens, with the two special tokens around it.
        pieces_per_step: pieces of an optimizer step.
        held_out_share: share of the pieces that is not learned, on which the loss is measured.
        held_out_pieces: most pieces that it is measured on.
        measure_every: optimizer steps between two measurements. 0 measures at the beginning and at the end only.
    """

    masked_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    piece_tokens: Annotated[int, Field(ge=4)] = 128
    pieces_per_step: Positive = 32
    held_out_share: Annotated[float, Field(ge=0, lt=1)] = 0.02
    held_out_pieces: Positive = 64
    measure_every: Annotated[int, Field(ge=0)] = 100


class MlmTrainSection(TrainSection):
    """How to train.

    Attributes:
        method: "full". All weights are trained.
        epochs: passes over the texts. What is masked differs in each.
        trees_per_step: has no meaning here. Use mlm.pieces_per_step.
    """

    method: Literal["lora", "full"] = "full"
    epochs: Positive = 1
    learning_rate: Above0 = 3e-4


class MlmRecipe(Recipe):
    """A run of masked language modelling."""

    stage: str = "mlm"
    model: EncoderSection = EncoderSection()
    data: TextDataSection = TextDataSection()
    train: MlmTrainSection = MlmTrainSection()
    mlm: MlmSection = MlmSection()
    clean: CleanSection = CleanSection()

    @model_validator(mode="after")
    def _is_of_an_encoder(self) -> MlmRecipe:
        for key, value, needed in (
            ("data.kind", self.data.kind, "text"),
            ("train.method", self.train.method, "full"),
            ("train.shard", self.train.shard, False),
            ("train.trees_per_step", self.train.trees_per_step, _TREES),
            ("model.quantization", self.model.quantization, None),
            ("model.init", self.model.init, "pretrained"),
            ("model.overrides", self.model.overrides, {}),
            ("model.trust_remote_code", self.model.trust_remote_code, False),
            ("start", self.start, None),
            ("learn", self.learn, "assistant"),
            ("clean.weights", self.clean.weights, {}),
            ("data.columns.weight", self.data.columns.get("weight"), None),
            ("reasoning.kind", self.reasoning.kind, "none"),
        ):
            if value != needed:
                raise contradiction(f"{key} = {value} has no meaning for an encoder", f"Take {key} out.")
        return self
