"""How far a policy has gone from its reference, and what its sampled completions earn."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from palmette import run
from palmette.config.recipes import Recipe
from palmette.data.records import DataSet
from palmette.decode.reasoning import end_tokens
from palmette.errors import ModelError, PackingError
from palmette.evaluate.divergence.result import Divergence, ScoredCompletion
from palmette.inference.base import load_source, source_tokenizer
from palmette.inference.names import ModelSource, check_answers, resolve_model
from palmette.inference.task import recipe_prompt, recipe_task
from palmette.model.attention import skips_hidden
from palmette.model.checks import check_model
from palmette.model.forward import check_positions
from palmette.model.loading import DType, LoadedModel, dtype_name, weights_hash
from palmette.objectives.branches import branch_sum
from palmette.objectives.kl import kl_estimate
from palmette.progress import progress
from palmette.rollouts.batch import RolloutBatch
from palmette.rollouts.maker import RolloutMaker
from palmette.rollouts.questions import PromptGroup, group_prompts
from palmette.rollouts.rewards import RewardMixture
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.scoring import score_rollouts
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import QaPrompt
from palmette.tasks.rewards import REWARDS, QaReward
from palmette.tree.batch import PackedBatch

_PARTS = 8  # of documents with their questions, sampled and scored side by side


@dataclass(frozen=True)
class DivergenceSettings:
    """What is sampled, and how it is scored.

    Attributes:
        samples: completions to each question.
        max_new_tokens: longer completions are cut.
        seed: random seed.
        tokens_per_batch: the most tokens in memory at the same time. A document with one question and all of its
            completions has to fit.
        rewards: weights of the verifiable rewards. Each is also reported by itself, whatever its weight.
    """

    samples: int = 2
    max_new_tokens: int = 64
    seed: int = 0
    tokens_per_batch: int = 4096
    rewards: Mapping[str, float] = field(default_factory=lambda: {"exact": 1.0, "valid_json": 0.2})


@dataclass(frozen=True)
class _Chunk:
    """Completions that were sampled together, in packed batches.

    Their log-probabilities under the policy are [P], in float64.
    """

    rollouts: RolloutBatch
    batches: Sequence[PackedBatch]
    policy_P: torch.Tensor


@dataclass(frozen=True)
class _SampledCompletions:
    """All completions of the policy, how they are read, the tokens that end them, and what drew them."""

    portions: tuple[_Chunk, ...]
    prompt: QaPrompt
    end_tokens: Sequence[int]
    made_of: dict[str, Any]


def measure_divergence(model: str, reference: str, source: DataSet, settings: DivergenceSettings) -> Divergence:
    """Measure the KL divergence of a policy from its reference on a data set, and its rewards.

    Args:
        model: the policy: a finished run, or a model by name. Prompts are those of its own run.
        reference: the model that it is compared with: a finished run, or a model by name.
        source: questions with known answers.
        settings: how to measure.

    Raises:
        RunError: a run is not finished, or is a reward model.
        ModelError: a model cannot be loaded, or the reference reads the prompts as other tokens.
        DataError: the policy does not say its answer in one completion of its own.
        PackingError: a question with its completions does not fit.
        RecipeError: an unknown reward, or none that counts.
    """

    policy, other = _answering(model), _answering(reference)
    dtype: DType = next((one.section.dtype for one in (policy, other) if one.recipe is not None), "auto")
    drawn = _draw(policy, other, dtype, source, settings)
    gc.collect()  # the policy is gone before the reference comes
    loaded, made_of = _open(other, dtype)
    completions: list[ScoredCompletion] = []
    with progress(source.num_questions, "reference", "questions") as bar:
        for portion in drawn.portions:
            reference_P, _ = score_rollouts(loaded.model, portion.batches, portion.rollouts, drawn.end_tokens)
            completions.extend(_scored(portion, reference_P.cpu().double(), drawn.prompt))
            bar.update(_num_questions(portion))
    made_by = {
        **run.environment(),
        "model": drawn.made_of,
        "reference": made_of,
        "prompt_sha256": drawn.prompt.sha256,
        "settings": asdict(settings),
        "data": source.describe(),
    }
    return Divergence(tuple(completions), made_by)


def _answering(name: str) -> ModelSource:
    """What a model's name stands for, where it gives answers."""
    source = resolve_model(name)
    check_answers(source)
    return source


def _open(source: ModelSource, dtype: DType) -> tuple[LoadedModel, dict[str, Any]]:
    """A model, its adapter not merged, and what it is made of. The dtype is for models that are not runs."""
    loaded = load_source(source, dtype=dtype if source.recipe is None else None)
    check_model(loaded.model, training=False, weights=loaded.content)
    made_of = {
        "name": source.name,
        "weights": weights_hash(str(source.trained or loaded.folder)),
        "base": loaded.name,
        "base_sha256": weights_hash(loaded.folder),
        "dtype": dtype_name(loaded.model.dtype),
    }
    return loaded, made_of


def _draw(
    model: ModelSource, reference: ModelSource, dtype: DType, source: DataSet, settings: DivergenceSettings
) -> _SampledCompletions:
    """The policy's completions, sampled and scored. When this returns, the policy is no longer in memory."""

    recipe = model.recipe or Recipe(output="")
    reward = QaReward(recipe_prompt(recipe), {**dict.fromkeys(REWARDS, 0.0), **settings.rewards})
    loaded, made_of = _open(model, dtype)
    task = recipe_task(recipe, loaded.tokenizer)
    groups = _ask(task, source, settings)
    _check_reads_alike(reference, recipe, task, loaded.tokenizer, source)
    longest = max(len(prompt) for one in groups for prompt in one.prompts)
    check_positions(loaded.model, longest + settings.max_new_tokens, "the longest prompt, with its completion,")
    ends = end_tokens(loaded.model, task)
    sampler = Sampler(loaded.model, loaded.tokenizer, end_tokens=ends, tokens_per_batch=settings.tokens_per_batch)
    maker = RolloutMaker(sampler, RewardMixture(reward), settings.samples, settings.max_new_tokens, settings.seed)
    portions: list[_Chunk] = []
    with progress(source.num_questions, "sampling", "questions") as bar:
        for portion in _portions(loaded.model, maker, groups, ends, settings):
            portions.append(portion)
            bar.update(_num_questions(portion))
    return _SampledCompletions(tuple(portions), task.prompt, ends, made_of)


def _ask(task: ExtractiveQa, source: DataSet, settings: DivergenceSettings) -> list[PromptGroup]:
    """All questions, in parts whose completions fit."""

    groups, left_out = group_prompts(
        source.documents,
        task,
        num_samples=settings.samples,
        max_new_tokens=settings.max_new_tokens,
        most_questions=source.num_questions,
        row_tokens=settings.tokens_per_batch,
        on_too_long="drop",
    )
    if left_out:
        raise PackingError(
            f"{len(left_out)} questions do not fit, first: {left_out[0]}",
            "Raise --tokens-per-batch, or lower --samples or --max-new-tokens.",
        )
    return groups


def _check_reads_alike(
    reference: ModelSource, recipe: Recipe, task: ExtractiveQa, tokenizer: Any, source: DataSet
) -> None:
    """Refuse a reference to which the policy's tokens mean something else.

    Raises:
        ModelError: its tokenizer has other tokens, or makes other tokens of a prompt.
    """

    other, name = source_tokenizer(reference), reference.name
    way_out = "Give a reference of the same family: the run or model that the policy began from, say."
    if other.get_vocab() != tokenizer.get_vocab():
        raise ModelError(f"the reference {name!r} has other tokens than the policy", way_out)
    theirs = recipe_task(recipe, other)
    for document in source.documents:
        for question in document.questions:
            if task.prompt_tokens(document, question) != theirs.prompt_tokens(document, question):
                raise ModelError(
                    f"the reference {name!r} reads the prompt of question {question.id!r} "
                    "as other tokens than the policy",
                    way_out,
                )


def _portions(
    policy: Any, maker: RolloutMaker, groups: Sequence[PromptGroup], ends: Sequence[int], settings: DivergenceSettings
) -> Iterator[_Chunk]:
    """Completions, a few documents at a time. How many does not change the samples."""

    for start in range(0, len(groups), _PARTS):
        rollouts = maker.make(groups[start : start + _PARTS], 0)
        batches = PackedBatch.pack(
            rollouts.trees(),
            row_tokens=settings.tokens_per_batch,
            tokens_per_batch=settings.tokens_per_batch,
            one_row=skips_hidden(policy),
        )
        policy_P, _ = score_rollouts(policy, batches, rollouts, ends)
        yield _Chunk(rollouts, batches, policy_P.cpu().double())


def _num_questions(portion: _Chunk) -> int:
    return sum(len(one.questions) for one in portion.rollouts.groups)


def _scored(portion: _Chunk, reference_P: torch.Tensor, prompt: QaPrompt) -> Iterator[ScoredCompletion]:
    """The completions of a portion, with what both models say of them."""

    rollouts, policy_P = portion.rollouts, portion.policy_P
    values = (policy_P, reference_P, kl_estimate(policy_P, reference_P, "k3"))
    sums = [branch_sum(value_P, rollouts.branch_P, len(rollouts.samples)).tolist() for value_P in values]
    questions = [(one.document.id, question.id) for one in rollouts.groups for question in one.questions]
    for index, (sample, logprob, reference_logprob, k3) in enumerate(zip(rollouts.samples, *sums, strict=True)):
        question, number = divmod(index, rollouts.num_samples)
        answer = prompt.read(sample.text)
        yield ScoredCompletion(
            *questions[question],
            sample=number,
            text=sample.text,
            finish=sample.finish,
            num_tokens=len(sample.tokens),
            logprob=logprob,
            reference_logprob=reference_logprob,
            kl_k3=k3,
            rewards=sample.rewards,
            reward=sample.reward,
            abstained=answer.valid and answer.text == "",
        )
