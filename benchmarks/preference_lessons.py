"""What is learned in `benchmarks/preferences.py`: a job for each side, and its lesson: steps and objective, as
Palmette's stages have them.

The held-out losses of both sides are measured by the same lesson, so they are the very losses that Palmette trains
with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from preference_data import Group, Logprobs, make_trees, read_groups
from side import Job

from palmette.config.recipes import Recipe
from palmette.data.records import Document, Question
from palmette.model.attention import BACKENDS, skips_hidden
from palmette.model.forward import score_tokens
from palmette.model.heads import ScalarHead, add_head, head_of
from palmette.model.loading import LoadedModel, load_model
from palmette.model.tokenizer import load_tokenizer
from palmette.rollouts.batch import RewardedCompletion, RolloutBatch
from palmette.rollouts.questions import PromptGroup
from palmette.train.job import step_plan
from palmette.train.policies.grpo import OLD, GrpoLearner
from palmette.train.preferences.dpo import DpoObjective, num_pairs
from palmette.train.preferences.reference import reference_scores
from palmette.train.preferences.reward import RewardObjective, num_comparisons
from palmette.train.recipes.preferences import DpoSection, RewardSection
from palmette.train.recipes.rollouts import GrpoSection
from palmette.train.start import load_start
from palmette.train.steps.plan import Plan, StepPlan
from palmette.train.steps.step import BeforeStep, Measure, Objective, Tally
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import Node, PrefixTree

KINDS = ("dpo", "reward", "grpo")
DPO = DpoSection()
# No KL term, which is TRL's default; else as the stage has it.
GRPO = GrpoSection(kl_coefficient=0.0, kl_limit=None)


@dataclass(frozen=True)
class PreferenceJob(Job):
    """What a side is asked to do.

    Attributes:
        kind: one of KINDS.
        completions: of each prompt.
        learning_rate: the peak.
        tokens_per_batch: the most tokens of a forward pass of Palmette's.
    """

    kind: str
    completions: int
    learning_rate: float
    tokens_per_batch: int

    def recipe(self) -> Recipe:
        """As for fine-tuning, with the learning rate and the size of batches."""
        recipe = super().recipe()
        changes = {"learning_rate": self.learning_rate, "tokens_per_batch": self.tokens_per_batch}
        train = recipe.train.model_copy(update=changes)
        return recipe.model_copy(update={"train": train})

    @property
    def learned(self) -> bool:
        """Whether completions are learned, or rewarded at their ends."""
        return self.kind != "reward"

    @property
    def num_examples(self) -> int:
        """Of an optimizer step: pairs, or for GRPO completions."""
        return self.documents * (self.completions if self.kind == "grpo" else 1)

    def trees(self, groups: Sequence[Group], tokenizer: Any) -> list[PrefixTree]:
        """The trees of the groups."""
        return make_trees(groups, ChatTemplate(tokenizer), learned=self.learned)

    def plan(self, trees: Sequence[PrefixTree], *, one_row: bool, whole: bool = False) -> StepPlan:
        """The optimizer steps over trees; all of them in one step with `whole`."""
        recipe = self.recipe()
        if whole:
            recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"trees_per_step": len(trees)})})
        return step_plan(trees, (), recipe, one_row=one_row, learns=self.learned)


def adapted(job: PreferenceJob) -> LoadedModel:
    """Palmette's model with a fresh adapter, and a fresh head for rewards, as the stages begin."""
    recipe = job.recipe()
    loaded = load_start(recipe).loaded
    if job.kind == "reward":
        add_head(loaded.model, "reward", recipe.train.seed)
    return loaded


@dataclass(frozen=True)
class Lesson:
    """What `TreeTrainer` is given to learn; see there."""

    plan: Plan
    objective: Objective
    measure: Measure
    tally: Tally
    before_step: BeforeStep | None = None

    def loss(self, model: Any) -> float:
        """The loss of the first step, without learning from it."""
        batches = [batch.to(model.device) for batch in self.plan.step_batches(0, 0)]
        with torch.no_grad():
            if self.before_step is not None:
                self.before_step(model, batches)
            denominator = sum(self.measure(batch) for batch in batches)
            return sum(float(self.objective(model, batch, denominator)) for batch in batches)


def lesson_of(job: PreferenceJob, groups: Sequence[Group], loaded: LoadedModel, *, whole: bool = False) -> Lesson:
    """The job's lesson over these groups; in one step with `whole`.

    The reference of DPO is the model without its adapter.
    """
    trees, one_row = job.trees(groups, loaded.tokenizer), skips_hidden(loaded.model)
    plan, tally = job.plan(trees, one_row=one_row, whole=whole), Tally()
    if job.kind == "grpo":
        given = GivenRollouts(job, groups, plan, one_row=one_row)
        # Only the constant average, which is not asked for, would need to know how long completions may be.
        learner = GrpoLearner(GRPO, given, max_new_tokens=1, end_tokens=ends_of(trees))
        return Lesson(given, learner, learner.measure, learner.tally, learner.before_step)
    if job.kind == "reward":
        return Lesson(plan, RewardObjective(RewardSection(), None, tally), num_comparisons, tally)
    cache = Path(job.folder) / f"reference{'-held-out' * whole}.jsonl"
    with loaded.model.disable_adapter():
        reference = reference_scores(plan, "the base", cache, lambda: loaded)
    return Lesson(plan, DpoObjective(DPO, reference, tally), num_pairs, tally)


# Rollouts


def tokens_of(node: Node) -> tuple[int, ...]:
    """The tokens of a node."""
    return tuple(token for segment in node.segments for token in segment.tokens)


class GivenRollouts:
    """The steps of a run whose completions are given; a `train/steps/plan.py:Plan` that keeps the rollouts of the step
    asked for last.

    Args:
        job: how they are packed.
        groups: the completions, with what belongs to them.
        order: the steps over the groups' own trees.
        one_row: see `StepPlan`.
    """

    def __init__(self, job: PreferenceJob, groups: Sequence[Group], order: StepPlan, *, one_row: bool) -> None:
        self._job, self._order, self._one_row = job, order, one_row
        self._groups = {group.id: group for group in groups}
        self.steps_per_epoch = order.steps_per_epoch
        self.rollouts: RolloutBatch | None = None

    def step_batches(self, epoch: int, step: int) -> list[PackedBatch]:
        """The packed batches of one step."""
        trees = [self._order.trees[index] for index in self._order.step_trees(epoch, step)]
        self.rollouts = as_rollouts(step, [self._groups[tree.name] for tree in trees], trees)
        return self._job.plan(self.rollouts.trees(), one_row=self._one_row, whole=True).step_batches(0, 0)

    def save(self, folder: Path) -> None:
        """Nothing is saved here."""

    def load(self, folder: Path) -> None:
        """So nothing is taken up."""


def as_rollouts(number: int, groups: Sequence[Group], trees: Sequence[PrefixTree]) -> RolloutBatch:
    """Groups as if they had just been sampled; `trees` are theirs."""
    asked, samples = [], []
    for group, tree in zip(groups, trees, strict=True):
        root, *trunk, end = (segment.tokens for segment in tree.root.segments)
        question = Question(f"{group.id}?", group.prompt)
        asked.append(
            PromptGroup(
                name=tree.name,
                document=Document(group.id, group.prompt, (question,)),
                questions=(question,),
                first_key=len(asked),
                root=root,
                trunk=tuple(token for part in trunk for token in part),
                ends=(end,),
            )
        )
        for text, reward, child in zip(group.completions, group.rewards, tree.root.children, strict=True):
            samples.append(RewardedCompletion(tokens_of(child), text, "end", {"given": reward}, reward))
    old = [value for group in groups for values in group.old or () for value in values]
    scored = {OLD: torch.tensor(old)} if old else {}
    return RolloutBatch(number, tuple(asked), tuple(samples), len(groups[0].completions), scored)


def ends_of(trees: Sequence[PrefixTree]) -> list[int]:
    """The tokens that completions end with."""
    return sorted({tokens_of(child)[-1] for tree in trees for child in tree.root.children})


@torch.no_grad()
def score_old(job: PreferenceJob, groups: Sequence[Group]) -> Logprobs:
    """The log-probability of each token of each completion under the untouched model (nats), by tree and leaf."""
    loaded = load_model(job.model)
    trees = job.trees(groups, loaded.tokenizer)
    found: Logprobs = {}
    for batch in job.plan(trees, one_row=skips_hidden(loaded.model), whole=True).step_batches(0, 0):
        scores, branches = score_tokens(loaded.model, batch.to(loaded.model.device)), find_branches(batch)
        branch_P = branches.of_tokens(batch, scores.row_P.cpu(), scores.column_P.cpu())
        for index, name in enumerate(branches.names):
            found[name] = scores.logprob_P.cpu()[branch_P == index].tolist()
    return found


# After training


@contextmanager
def untrained(model: Any, seed: int) -> Iterator[None]:
    """Within the block, the model is what it was before training."""
    head = head_of(model, "reward")
    kept = {} if head is None else {name: value.clone() for name, value in head.state_dict().items()}
    if head is not None:
        head.load_state_dict(ScalarHead(len(head.weight), seed).state_dict())
    with model.disable_adapter():
        yield
    if head is not None:
        head.load_state_dict(kept)


def held_out_losses(job: PreferenceJob, model: Any) -> tuple[float, float]:
    """Loss on the held-out groups before training and after it, of one of Palmette's models, however it was trained.

    In float32: in bfloat16 rounding alone moves a reward of SmolLM2-135M by about 0.1, on either side, and so the loss
    of a few pairs by more than the sides may differ by. The model stays in float32.
    """
    model.float().get_base_model().set_attn_implementation(BACKENDS["sdpa"])
    model.eval()
    loaded = LoadedModel(model, load_tokenizer(job.model), job.model, "")
    lesson = lesson_of(job, read_groups(job.held_out), loaded, whole=True)
    with untrained(model, job.recipe().train.seed):
        untouched = lesson.loss(model)
    return untouched, lesson.loss(model)
