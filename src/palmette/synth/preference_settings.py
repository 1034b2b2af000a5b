"""Settings of `palmette synth preferences`: a command's options, or a section of a recipe."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from palmette.config.sections import NonNegative, Positive, Section, contradiction

Form = Literal["pairs", "ranked"]
# What verdicts need none of: it says how answers are drawn, and how rewards rank them.
_OF_SAMPLES = (
    "reward",
    "reward_model",
    "reward_model_weight",
    "temperatures",
    "top_p",
    "samples",
    "max_new_tokens",
    "form",
    "min_margin",
    "tokens_per_batch",
    "attention",
    "seed",
)


def _rewards() -> dict[str, float]:
    return {"f1": 1.0, "valid_json": 0.2}


def _temperatures() -> list[float]:
    return [0.7, 1.0, 1.3]


class PreferenceSettings(Section):
    """Where answers come from, and what ranks them: verifiable rewards, a reward model, or both together; or people.

    With `verdicts` nothing is sampled: the file holds the answers. Otherwise the model's are.

    Attributes:
        data: the questions: builtin:train, a SQuAD v2 .json, a .jsonl, or a hub data set.
        model: the model that answers: a run folder, a model folder, a GGUF file, or a hub id. With `verdicts` only the
            prompt of a run is used.
        reward: weights of abstention, exact, f1 and valid_json. {} leaves only the reward model.
        reward_model: a finished run of `palmette train reward`, whose score of each answer is added.
        reward_model_weight: weight of the reward model's score.
        verdicts: a file of answers that people judged good or bad. Nothing is sampled then.
        temperatures: sampling temperatures. Each gives `samples` answers to a question.
        top_p: sample from the likeliest tokens with this total probability.
        samples: answers to each question at each temperature.
        max_new_tokens: longest answer, in tokens. A longer one is cut, and not compared.
        form: "pairs" compares the best and the worst answer, "ranked" one answer at each reward, best first.
        min_margin: smallest difference of rewards at which two answers are compared.
        against: evaluation sets. Documents that hold a part of one are left out.
        limit_documents: use only the first N documents.
        tokens_per_batch: most tokens in memory while sampling.
        attention: attention backend. By default that of the run, or auto.
        seed: random seed.
    """

    renamed: ClassVar = {"limit": "limit_documents"}

    data: str
    model: str | None = None
    reward: dict[str, NonNegative] = Field(default_factory=_rewards)
    reward_model: str | None = None
    reward_model_weight: Annotated[float, Field(gt=0)] = 1.0
    verdicts: str | None = None
    temperatures: Annotated[list[NonNegative], Field(min_length=1)] = Field(default_factory=_temperatures)
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    samples: Positive = 4
    max_new_tokens: Positive = 48
    form: Form = "pairs"
    min_margin: NonNegative = 0.0
    against: list[str] = Field(default_factory=list)
    limit_documents: Positive | None = None
    tokens_per_batch: Annotated[int, Field(ge=64)] = 8192
    attention: Literal["auto", "flex", "sdpa", "eager"] | None = None
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _answers_are_drawn_and_ranked(self) -> PreferenceSettings:
        if self.verdicts is not None:
            return self
        if self.model is None:
            raise contradiction("there is no model, and there are no verdicts", "Say whose answers to rank.")
        if not self.reward and self.reward_model is None:
            raise contradiction(
                "there is no reward and no reward_model, so nothing ranks the answers",
                "Give one: reward f1=1, a finished run of palmette train reward, or both.",
            )
        if self.reward_model is None and self.reward_model_weight != 1:
            raise contradiction(
                f"reward_model_weight = {self.reward_model_weight} has no meaning without a reward_model",
                "Give a finished run of palmette train reward, or take it out.",
            )
        if self.samples * len(self.temperatures) < 2:
            raise contradiction("one answer to each question leaves nothing to compare it with", "Draw 2 or more.")
        return self

    @model_validator(mode="after")
    def _verdicts_need_no_samples(self) -> PreferenceSettings:
        fields = type(self).model_fields
        for name in _OF_SAMPLES if self.verdicts is not None else ():
            value = getattr(self, name)
            if value != fields[name].get_default(call_default_factory=True):
                raise contradiction(
                    f"{name} = {value!r} has no meaning with verdicts: nothing is sampled, and people do the ranking",
                    f"Take {name} out, or the verdicts.",
                )
        return self
