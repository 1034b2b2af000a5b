"""Recipes of the stages that learn from rollouts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from palmette.config.recipes import Recipe
from palmette.config.sections import Fraction, NonNegative, Positive, Section, contradiction


def _rewards() -> dict[str, float]:
    return {"exact": 1.0, "valid_json": 0.2}


class RolloutSection(Section):
    """What is sampled and rewarded.

    Attributes:
        samples: completions of each question.
        max_new_tokens: longest completion, in tokens. A longer one is cut, and does not learn to end.
        questions: most questions about a document at a time. Fewer are taken where their completions might not fit into
            train.row_tokens.
        documents: documents to sample for before anything is learned from the completions. By default
            train.trees_per_step.
        passes: passes over each batch of rollouts.
        tokens_per_batch: most tokens in memory while sampling.
        rewards: weights of abstention, exact, f1 and valid_json. {} leaves only the reward model.
        reward_model: a finished run of `palmette train reward`, whose score of each completion is added.
        reward_model_weight: weight of the reward model's score.
        shown: questions of each batch of rollouts whose first completion is written to samples.jsonl.
        sampler: "tree" samples on the prefix tree with the model in training. "vllm" asks a vLLM server, which gets the
            adapter's weights for each batch of rollouts.
        server: base URL of the vLLM server. The default is http://localhost:8000/v1.
    """

    samples: Positive = 8
    max_new_tokens: Positive = 48
    questions: Positive = 4
    documents: Positive | None = None
    passes: Positive = 1
    tokens_per_batch: Positive = 8192
    rewards: dict[str, NonNegative] = Field(default_factory=_rewards)
    reward_model: str | None = None
    reward_model_weight: Annotated[float, Field(gt=0)] = 1.0
    shown: Annotated[int, Field(ge=0)] = 2
    sampler: Literal["tree", "vllm"] = "tree"
    server: str | None = None

    @model_validator(mode="after")
    def _server_is_asked(self) -> RolloutSection:
        if self.server is not None and self.sampler == "tree":
            raise contradiction(
                f"rollouts.server = {self.server} is not asked with rollouts.sampler = tree",
                "Set rollouts.sampler: vllm, or take rollouts.server out.",
            )
        return self

    @model_validator(mode="after")
    def _something_is_rewarded(self) -> RolloutSection:
        if not self.rewards and self.reward_model is None:
            raise contradiction(
                "rollouts.rewards is empty, and there is no rollouts.reward_model",
                "Give a reward, such as rollouts.rewards: {exact: 1}.",
            )
        return self


class GrpoSection(Section):
    """How rewards become a loss.

    Attributes:
        objective: "grpo" (Shao et al., 2024) compares a completion's reward with the mean of its question, clips each
            token, and puts the KL divergence from the reference into the loss. "rloo" (Ahmadian et al., 2024) compares
            with the mean of the other completions, clips a completion as a whole, and puts the KL divergence into the
            reward.
        scale: what advantages are divided by: the standard deviation of the question's rewards ("group", the default),
            that of all rewards of the batch ("batch"), or nothing ("none"). Only for grpo.
        average: what counts the same: each token ("token", the default), each completion ("branch"), or each token in
            every step ("constant"). Only for grpo.
        clip_low, clip_high: the ratio of policies is clipped to 1 - clip_low and 1 + clip_high.
        kl_coefficient: weight of the KL divergence from the reference, per nat.
        kl_limit: KL divergence from the reference, in nats per completion, at which the run stops. null never stops it.
    """

    objective: Literal["grpo", "rloo"] = "grpo"
    scale: Literal["none", "group", "batch"] | None = None
    average: Literal["token", "branch", "constant"] | None = None
    clip_low: Annotated[float, Field(ge=0, le=1)] = 0.2
    clip_high: NonNegative = 0.2
    kl_coefficient: NonNegative = 0.04
    kl_limit: Annotated[float, Field(gt=0)] | None = 25.0

    @model_validator(mode="after")
    def _settings_agree(self) -> GrpoSection:
        for name in ("scale", "average") if self.objective == "rloo" else ():
            if getattr(self, name) is not None:
                raise contradiction(
                    f"grpo.{name} has no meaning with grpo.objective = rloo",
                    f"Take grpo.{name} out, or set grpo.objective: grpo.",
                )
        return self


class RolloutRecipe(Recipe):
    """A run that learns from its own completions.

    Attributes:
        learn: has no effect here. Every token of a completion is learned.
        rollouts: what is sampled and rewarded.
    """

    learn: Literal["assistant"] = "assistant"
    rollouts: RolloutSection = RolloutSection()

    @model_validator(mode="after")
    def _asks_about_documents(self) -> RolloutRecipe:
        if self.train.shard:
            raise contradiction(
                "train.shard divides a model, and completions are sampled from a whole one",
                "Take train.shard out. Several processes still share the work.",
            )
        if self.data.stream:
            raise contradiction(
                "data.stream keeps trees on disk, and the prompts of rollouts are in memory", "Take data.stream out."
            )
        if self.data.kind != "qa":
            raise contradiction(
                f"data.kind = {self.data.kind} holds no questions whose answers could be rewarded",
                "Give questions about documents, and data.kind: qa.",
            )
        return self


class GrpoRecipe(RolloutRecipe):
    """A run in which each completion is held against the others to its question."""

    stage: str = "grpo"
    grpo: GrpoSection = GrpoSection()

    @model_validator(mode="after")
    def _completions_have_others(self) -> GrpoRecipe:
        if self.rollouts.samples < 2:
            raise contradiction(
                f"rollouts.samples = {self.rollouts.samples} leaves no other completion to hold one against",
                "Give 2 or more.",
            )
        return self


class PpoSection(Section):
    """How rewards become losses of policy and value function.

    `train/policies/ppo.py` has the formulas.

    Attributes:
        kl_coefficient: penalty on each token for the KL divergence from the reference, in units of reward per nat. With
            kl_target it is the first value.
        kl_target: KL divergence to hold, in nats per completion. The coefficient adapts after each batch of rollouts
            (Ziegler et al., 2019). null keeps the coefficient.
        kl_gain: share by which a full error moves the coefficient.
        kl_limit: KL divergence from the reference, in nats per completion, at which the run stops. null never stops it.
        clip: the ratio of policies is clipped to 1 - clip and 1 + clip.
        value_clip: how far a value moves in one update before it is clipped, in units of reward. null does not clip.
        value_coefficient: weight of the value loss.
        gamma: discount per token.
        lam: lambda of generalised advantage estimation.
        unfinished: reward of a completion that was cut. "penalty" is its reward less unfinished_amount, "score" is
            unfinished_amount.
        unfinished_amount: the amount for completions that were cut, in units of reward.
    """

    kl_coefficient: NonNegative = 0.05
    kl_target: Annotated[float, Field(gt=0)] | None = None
    kl_gain: Annotated[float, Field(gt=0)] = 0.1
    kl_limit: Annotated[float, Field(gt=0)] | None = 25.0
    clip: Annotated[float, Field(ge=0, le=1)] = 0.2
    value_clip: NonNegative | None = 0.2
    value_coefficient: NonNegative = 0.1
    gamma: Fraction = 1.0
    lam: Fraction = 0.95
    unfinished: Literal["penalty", "score"] = "penalty"
    unfinished_amount: float = 1.0

    @model_validator(mode="after")
    def _settings_agree(self) -> PpoSection:
        if self.unfinished == "penalty" and self.unfinished_amount < 0:
            raise contradiction(
                f"ppo.unfinished_amount = {self.unfinished_amount} would reward completions that were cut",
                "Give 0 or more, or set ppo.unfinished: score.",
            )
        if self.kl_target is not None and not self.kl_coefficient:
            raise contradiction(
                "ppo.kl_coefficient = 0 cannot adapt to ppo.kl_target",
                "Give a coefficient to begin with, or take ppo.kl_target out.",
            )
        return self


class PpoRecipe(RolloutRecipe):
    """A run in which each token is held against what a value function expected."""

    stage: str = "ppo"
    ppo: PpoSection = PpoSection()
