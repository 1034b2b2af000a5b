"""The shared parts of the stages in which a policy learns from its own completions.

They turn a recipe into a job, and train the job. Each stage adds its `Method`, which says how rollouts are scored
before they are learned from, and with which objective they are learned.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from palmette.data.records import DataSet
from palmette.decode.reasoning import end_tokens
from palmette.errors import DataError
from palmette.files import expand
from palmette.inference.names import resolve_run
from palmette.inference.reward_model import judged_by, load_reward
from palmette.inference.task import recipe_task
from palmette.model.attention import skips_hidden
from palmette.model.forward import check_positions
from palmette.model.loading import LoadedModel
from palmette.numbers import count
from palmette.progress import Say
from palmette.rollouts.batch import RolloutBatch
from palmette.rollouts.maker import RolloutMaker
from palmette.rollouts.questions import PromptGroup, group_prompts
from palmette.rollouts.rewards import RewardMixture, Scorer
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import RolloutSampler, Sampling, check_prompts
from palmette.rollouts.scoring import sampler_gap
from palmette.rollouts.vllm import LOCAL_SERVER, VllmSampler, VllmServer, check_adapter
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import QaPrompt
from palmette.tasks.rewards import QaReward
from palmette.train.job import Job, settle
from palmette.train.loop import run_steps
from palmette.train.policies.plan import SAMPLES, RolloutPlan, Score
from palmette.train.recipes.rollouts import RolloutRecipe
from palmette.train.sources import read_sources
from palmette.train.start import load_start
from palmette.train.steps.step import Tally
from palmette.tree.batch import PackedBatch

AnyRollouts = TypeVar("AnyRollouts", bound=RolloutRecipe)


class Learner(Protocol):
    """An objective over the packed trees of rollouts, with its figures. See `TreeTrainer`."""

    tally: Tally

    def measure(self, batch: PackedBatch) -> float:
        """A batch's part of the step's denominator."""

    def before_step(self, model: Any, batches: list[PackedBatch]) -> None:
        """Compute what the objective needs of the whole step."""

    def __call__(self, model: Any, batch: PackedBatch, denominator: float) -> torch.Tensor:
        """The batch's share of the step's loss."""

    def after_batches(self) -> None:
        """Compare what was measured over the step with limits."""


@dataclass(frozen=True)
class Method:
    """How a stage learns.

    Attributes:
        score: scores new rollouts, as `RolloutPlan` describes.
        learner: makes the objective for a plan's rollouts.
    """

    score: Score
    learner: Callable[[RolloutPlan], Learner]


@dataclass(frozen=True)
class PolicyJob(Job):
    """A job over rollouts.

    Attributes:
        plan: the optimizer steps.
        learner: the objective.
        shown: number of questions of each batch of rollouts that are written to samples.jsonl.
    """

    plan: RolloutPlan
    learner: Learner
    shown: int


def num_updates(recipe: RolloutRecipe) -> int:
    """Most optimizer steps that learn from one batch of rollouts."""
    documents, trees = recipe.rollouts.documents or recipe.train.trees_per_step, recipe.train.trees_per_step
    return -(-documents // min(trees, documents)) * recipe.rollouts.passes


def make_job(recipe: AnyRollouts, say: Say, method_of: Callable[[AnyRollouts, Any, list[int]], Method]) -> PolicyJob:
    """Read the data, load and check the models, and build all prompts. Write nothing.

    Args:
        recipe: the stage's recipe.
        say: called with lines about what is learned.
        method_of: gives the stage's method for the recipe, the model, and the tokens that end a completion.

    Raises:
        PalmetteError: the data are bad, a reward is unknown, the model is unfit, or a prompt does not fit.
    """
    server = _server(recipe)
    data = [source for source in read_sources(recipe) if isinstance(source, DataSet)]
    start = load_start(recipe)
    recipe, loaded = start.recipe, start.loaded
    model, rollouts = loaded.model, recipe.rollouts
    task = recipe_task(recipe, loaded.tokenizer)
    groups, left_out = _groups(recipe, data, task, model)
    ends = end_tokens(model, task)
    method = method_of(recipe, model, ends)
    dropped = [reason for source in data for reason in source.dropped] + left_out
    number = sum(len(group.questions) for group in groups)
    asked = f"{count(number, 'question')} about {count(len({group.document.id for group in groups}), 'document')}"
    counted = f"{asked}, {count(rollouts.samples, 'completion')} for each question"
    entries = {
        **judged_by(rollouts.reward_model),
        "questions": number,
        "prompts_sha256": hashlib.sha256(repr([group.prompts for group in groups]).encode()).hexdigest(),
    }
    recipe, fingerprint = settle(start, data, dropped, counted, say, prompt=task.prompt, **entries)
    sampler = _sampler(recipe, loaded, ends, server)
    plan = _plan(recipe, model, groups, _maker(recipe, sampler, task.prompt), method.score)
    return PolicyJob(recipe, loaded, plan, number, "questions", fingerprint, method.learner(plan), rollouts.shown)


def learn(job: PolicyJob, folder: Path, checkpoint: Path | None, say: Say) -> None:
    """Train a job in its run folder, from a checkpoint if one is given."""
    step = int(checkpoint.name.partition("-")[2]) if checkpoint else 0
    job.plan.keep_samples(folder / SAMPLES, step, job.shown)
    learner = job.learner
    run_steps(
        job,
        folder,
        checkpoint,
        say,
        objective=learner,
        measure=learner.measure,
        before_step=learner.before_step,
        after_batches=learner.after_batches,
        tally=learner.tally,
    )


def _groups(
    recipe: RolloutRecipe, data: Sequence[DataSet], task: ExtractiveQa, model: Any
) -> tuple[list[PromptGroup], list[str]]:
    """The prompts of a recipe, and the reason for each question that was left out."""
    rollouts = recipe.rollouts
    groups, left_out = group_prompts(
        [document for source in data for document in source.documents],
        task,
        num_samples=rollouts.samples,
        max_new_tokens=rollouts.max_new_tokens,
        most_questions=rollouts.questions,
        row_tokens=recipe.train.row_tokens,
        on_too_long="drop" if recipe.on_too_long == "drop" else "error",
        on_bad_record=recipe.data.on_bad_record,
        check_positions=functools.partial(check_positions, model),
    )
    prompts = [prompt for group in groups for prompt in group.prompts]
    if not prompts:
        reason = f"all was dropped, first {left_out[0]}" if left_out else "the documents have no questions"
        raise DataError(
            f"there is nothing to ask: {reason}", "Raise train.row_tokens, or give documents with questions."
        )
    sampling = Sampling(max_new_tokens=rollouts.max_new_tokens)
    check_prompts(prompts, sampling, rollouts.tokens_per_batch, "rollouts.tokens_per_batch")
    return groups, left_out


def _server(recipe: RolloutRecipe) -> VllmServer | None:
    """The vLLM server of a recipe, if it names one, checked before anything is loaded.

    Raises:
        RunError, RecipeError, EndpointError, ModelError: see `resolve_run`, `check_adapter` and `VllmServer`.
    """
    if recipe.rollouts.sampler != "vllm":
        return None
    source = resolve_run(recipe.start) if recipe.start is not None else None
    lora, reasoning = recipe.lora, recipe.reasoning
    if source is not None and source.recipe is not None:  # as `load_start` takes them over
        reasoning = source.recipe.reasoning
        lora = lora if source.is_full else source.recipe.lora
    check_adapter(recipe.train.method, lora, reasoning.kind)
    name = recipe.model.name if source is None else source.section.name
    return VllmServer(recipe.rollouts.server or LOCAL_SERVER, name)


def _sampler(recipe: RolloutRecipe, loaded: LoadedModel, ends: list[int], server: VllmServer | None) -> RolloutSampler:
    if server is None:
        most = recipe.rollouts.tokens_per_batch
        return Sampler(loaded.model, loaded.tokenizer, end_tokens=ends, tokens_per_batch=most)
    return VllmSampler(loaded.model, loaded.tokenizer, server, end_tokens=ends, folder=expand(recipe.output))


def note_gap(rollouts: RolloutBatch, trained_P: torch.Tensor) -> None:
    """Note how far the sampler's log-probabilities are from those of training, if the completions hold them.

    Args:
        rollouts: new rollouts.
        trained_P: log-probability of each token under the policy that sampled (nats).
    """
    if rollouts.samples and rollouts.samples[0].sampled:
        rollouts.notes.update(sampler_gap(rollouts, trained_P))


def _maker(recipe: RolloutRecipe, sampler: RolloutSampler, prompt: QaPrompt) -> RolloutMaker:
    rollouts = recipe.rollouts
    rules = QaReward(prompt, rollouts.rewards) if rollouts.rewards else None
    rewards = RewardMixture(rules, _scorer(rollouts.reward_model, prompt), rollouts.reward_model_weight)
    return RolloutMaker(
        sampler,
        rewards,
        rollouts.samples,
        rollouts.max_new_tokens,
        recipe.train.seed,
        keeps_logprobs=rollouts.sampler == "vllm",
    )


def _scorer(reward_model: str | None, prompt: QaPrompt) -> Scorer | None:
    """The reward model that scores completions, or None. It reads the prompt as messages, as in its training."""
    if reward_model is None:
        return None
    return partial(load_reward(reward_model).score_answers, prompt)


def _plan(
    recipe: RolloutRecipe, model: Any, groups: Sequence[PromptGroup], maker: RolloutMaker, score: Score
) -> RolloutPlan:
    train, rollouts = recipe.train, recipe.rollouts
    return RolloutPlan(
        model,
        groups,
        maker,
        score=score,
        documents=rollouts.documents or train.trees_per_step,
        trees_per_step=train.trees_per_step,
        passes=rollouts.passes,
        row_tokens=train.row_tokens,
        tokens_per_batch=train.tokens_per_batch,
        one_row=skips_hidden(model),
        seed=train.seed,
    )
