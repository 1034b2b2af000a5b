"""A reward model, loaded and ready to score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from palmette.config.recipes import Recipe
from palmette.data.chat import turns_of
from palmette.data.preference import Verdict
from palmette.data.records import Document, Question
from palmette.errors import DataError, PackingError, RunError
from palmette.inference.base import load_source
from palmette.inference.names import ModelName, resolve_run
from palmette.model.attention import AttentionChoice, skips_hidden
from palmette.model.checks import check_model
from palmette.model.files import has_head
from palmette.model.forward import check_positions, evaluating
from palmette.model.heads import branch_rewards, load_head
from palmette.model.loading import LoadedModel, weights_hash
from palmette.progress import progress
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.preference import PreferenceTrees
from palmette.tasks.qa_prompt import QaPrompt
from palmette.tree.batch import PackedBatch
from palmette.tree.branches import find_branches
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree
from palmette.tree.segments import Segment

Messages = str | Sequence[Mapping[str, Any]]


_TREES = 64  # packed at a time


@dataclass(frozen=True)
class RewardModel:
    """A reward model, ready to score.

    Attributes:
        loaded: the model with its adapter and its head, and its tokenizer.
        recipe: how it was trained.
    """

    loaded: LoadedModel
    recipe: Recipe

    def scores(self, completions: Sequence[tuple[Messages, str]], *, quiet: bool = False) -> list[float]:
        """The reward of each completion. A prompt is read once for all its completions that fit into a forward pass.

        Args:
            completions: pairs of a prompt and a completion. A prompt is a text, or messages with "role" and "content"
                that end with the user's.
            quiet: whether to hide the progress bar.

        Raises:
            DataError: a prompt is malformed.
            PackingError: there are no completions.
            ModelError: a prompt with its completion is longer than the model reads.
        """
        # Completions are scored as a model has written them, even where a template would remove a part.
        builder = PreferenceTrees(ChatTemplate(self.loaded.tokenizer, literal=True), learned=False)
        trees = []
        for index, (prompt, completion) in enumerate(completions):
            turns = turns_of(prompt, "user", f"prompt {index + 1}")
            if turns[-1].role != "user":
                raise DataError(
                    f"prompt {index + 1} ends with the message of the {turns[-1].role}", "End with the user's."
                )
            trees.append(builder.of_verdict(Verdict(str(index), turns, completion, label=True)))
        groups = _by_prompt(trees, self.recipe.train.tokens_per_batch)
        scored = self.score_trees([_joined([trees[index] for index in group]) for group in groups], quiet=quiet)
        found = {
            index: reward
            for group, rewards in zip(groups, scored, strict=True)
            for index, reward in zip(group, rewards, strict=True)
        }
        return [found[index] for index in range(len(trees))]

    def score_answers(self, prompt: QaPrompt, completions: Sequence[tuple[Document, Question, str]]) -> list[float]:
        """The reward of each completion to a question about a document, without a progress bar.

        The prompt is given as messages, as the model learned to read it.

        Args:
            prompt: the prompt that the completions answer.
            completions: documents, questions and completions.

        Raises: as for `scores`.
        """
        asked = [
            (qa_messages(prompt, document, question), completion) for document, question, completion in completions
        ]
        return self.scores(asked, quiet=True)

    def score_trees(self, trees: Sequence[PrefixTree], *, quiet: bool = False) -> list[list[float]]:
        """The reward of each leaf, in the order of the leaves. A prompt is read once for all of its completions.

        Args:
            trees: as `PreferenceTrees` without learning builds them, with different names.
            quiet: whether to hide the progress bar.

        Raises:
            PackingError: there are no trees.
            ModelError: a tree is longer than the model reads.
        """
        model, train = self.loaded.model, self.recipe.train
        for tree in trees:
            check_positions(model, tree.num_positions, f"record {tree.name!r}")
        if not trees:
            raise PackingError("there is nothing to score", "Give at least one completion.")
        row_tokens = max([train.row_tokens, *(tree.num_tokens for tree in trees)])
        found: dict[tuple[str, str], float] = {}
        bar = None if quiet else progress(len(trees), "rewards", "prompts")
        with torch.no_grad(), evaluating(model):
            for start in range(0, len(trees), _TREES):
                chunk = trees[start : start + _TREES]
                for batch in PackedBatch.pack(
                    chunk,
                    row_tokens=row_tokens,
                    tokens_per_batch=train.tokens_per_batch,
                    one_row=skips_hidden(model),
                ):
                    branches = find_branches(batch)
                    reward_N = branch_rewards(model, batch.to(model.device), branches)
                    found |= dict(zip(branches.names, reward_N.tolist(), strict=True))
                if bar is not None:
                    bar.update(len(chunk))
        if bar is not None:
            bar.close()
        return [[found[tree.name, leaf.name] for leaf in tree.root.children] for tree in trees]


def _by_prompt(trees: Sequence[PrefixTree], most_tokens: int) -> list[list[int]]:
    """Indices of trees with one completion each, by prompt, in groups of at most so many tokens or of one tree."""
    groups: list[list[int]] = []
    latest: dict[tuple[Segment, ...], int] = {}
    tokens: list[int] = []
    for index, tree in enumerate(trees):
        own = tree.num_tokens - tree.root.num_tokens
        group = latest.get(tree.root.segments)
        if group is not None and tokens[group] + own <= most_tokens:
            groups[group].append(index)
            tokens[group] += own
            continue
        latest[tree.root.segments] = len(groups)
        groups.append([index])
        tokens.append(tree.num_tokens)
    return groups


def _joined(trees: Sequence[PrefixTree]) -> PrefixTree:
    """Trees of one completion each, joined below the prompt that they share. Leaves are named by their positions."""
    leaves = (leaf for tree in trees for leaf in tree.root.children)
    named = tuple(replace(leaf, name=str(place)) for place, leaf in enumerate(leaves))
    return PrefixTree(replace(trees[0].root, children=named), trees[0].name)


def load_reward(name: ModelName, *, attention: AttentionChoice | None = None) -> RewardModel:
    """Load the reward model of a finished run: its base, its adapter and its head.

    Args:
        name: the run folder.
        attention: the attention backend, "auto", "flex", "sdpa" or "eager". The run's own if None.

    Raises:
        RunError: it is not a finished run, or not the run of a reward model.
        ModelError: the base is missing or cannot honour the attention mask of a tree, or the head was made for another
            model.
    """
    source = resolve_run(name)
    assert source.trained is not None
    assert source.recipe is not None
    if not has_head(source.trained, "reward"):
        raise RunError(f"{source.folder} is not a reward model's run", "Train one: palmette train reward RECIPE")
    loaded = load_source(source, attention=attention)
    check_model(loaded.model, training=False, weights=loaded.content)
    load_head(loaded.model, source.trained, "reward")
    loaded.model.eval()
    # The recipe with the weights that it stands for now, since a run with a full model is not loaded from its base.
    return RewardModel(loaded, source.recipe.model_copy(update={"model": source.section}))


def judged_by(reward_model: str | None) -> dict[str, Any]:
    """The reward model, for a manifest: its name and the hash of its weights.

    Args:
        reward_model: the run of the reward model, or None where there is none.

    Raises:
        RunError: it is not a finished run.
    """
    if reward_model is None:
        return {}
    return {"reward_model": {"run": reward_model, "sha256": weights_hash(str(resolve_run(reward_model).trained))}}
