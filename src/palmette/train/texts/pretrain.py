"""Continued pre-training: next-token prediction on collections of texts. Every token of every text is learned, with the
weight that the text has.

Pieces of texts are packed as trees of their own, so none sees another and positions begin at 0 in each. Sources are
read as streams, mixed by weight, with a share of replay (Ibrahim et al., 2024, "Simple and Scalable Strategies to
Continually Pre-train Large Language Models").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from palmette import processes, run
from palmette.corpus.sources import check_once, open_source
from palmette.corpus.steps import step_maker
from palmette.corpus.survey import SourceSurvey, clean_texts, survey
from palmette.corpus.texts import Text, TextSource
from palmette.data.general import GENERAL
from palmette.errors import DataError, RecipeError
from palmette.inference.perplexity import some_pieces
from palmette.model.attention import skips_hidden
from palmette.model.forward import check_positions
from palmette.numbers import count
from palmette.progress import Say
from palmette.tasks.text_pieces import TextPieces, num_learned
from palmette.train.job import Job, settle
from palmette.train.loop import Part, run_steps
from palmette.train.recipes.texts import PretrainRecipe
from palmette.train.start import load_start
from palmette.train.texts.plan import TextPlan
from palmette.train.texts.stream import HeldOut, PieceStream, Strand
from palmette.train.texts.watch import Watch
from palmette.tree.prefix_tree import PrefixTree


@dataclass(frozen=True)
class TextJob(Job):
    """A job that learns texts.

    Attributes:
        pieces: cuts texts into pieces.
        held_out: pieces that are measured on, named by their sources.
    """

    pieces: TextPieces
    held_out: tuple[PrefixTree, ...]


@dataclass(frozen=True)
class _Corpus:
    """The sources of a recipe: those that are learned, those that are replayed, those that are only measured on."""

    train: tuple[TextSource, ...]
    replay: tuple[TextSource, ...]
    held_out: tuple[TextSource, ...]

    @property
    def all(self) -> tuple[TextSource, ...]:
        return (*self.train, *self.replay, *self.held_out)


def prepare(recipe: PretrainRecipe, say: Say) -> TextJob:
    """Read the texts once, load and check the model, and plan the steps. Write nothing.

    Args:
        recipe: the recipe.
        say: called with lines about what is learned.

    Raises:
        PalmetteError: a source cannot be read, nothing is left to learn, or the model is unfit.
    """
    corpus = _open(recipe)
    start = load_start(recipe)
    recipe, model, settings = start.recipe, start.loaded.model, start.recipe.pretrain
    pieces = TextPieces(start.loaded.tokenizer, settings.piece_tokens, settings.long_texts)
    check_positions(model, settings.piece_tokens, "pretrain.piece_tokens")
    held_out = HeldOut(settings.held_out_share)
    sample = _Sample(pieces, held_out, settings.held_out_tokens)
    groups, make_steps = _groups(recipe, corpus), step_maker(recipe.clean)
    found = [one for group, _ in groups for one in survey(group, make_steps, sample.count)]
    for source in corpus.held_out:
        sample.hold(some_pieces(source, pieces, settings.held_out_tokens))
    for one in found:
        say(_said(one))
    budget = _budget(recipe, corpus, found)
    changes = {"pretrain": settings.model_copy(update={"tokens": budget}), "train": _one_epoch(recipe)}
    start = replace(start, recipe=recipe.model_copy(update=changes))
    counted = f"{budget:,} tokens to learn, {sample.num_tokens:,} held out"
    corpora = [one.as_record() for one in found]
    vocabulary = model.get_input_embeddings().num_embeddings
    resolved, fingerprint = settle(start, corpus.all, [], counted, say, corpus=corpora, vocabulary=vocabulary)
    strands = [
        Strand(", ".join(source.name for source in group), partial(clean_texts, group, make_steps, {}), weight)
        for group, weight in groups
    ]
    stream = PieceStream(strands, pieces, held_out=held_out, seed=recipe.train.seed, shuffle=settings.shuffle)
    plan = TextPlan(
        stream,
        budget=budget,
        tokens_per_step=settings.tokens_per_step,
        row_tokens=recipe.train.row_tokens,
        tokens_per_batch=recipe.train.tokens_per_batch,
        one_row=skips_hidden(model),
        parts=processes.count(),
    )
    return TextJob(resolved, start.loaded, plan, budget, "tokens", fingerprint, pieces, tuple(sample.trees))


def learn(job: TextJob, folder: Path, checkpoint: Path | None, say: Say) -> None:
    """Train a job in its run folder, from a checkpoint if one is given, and measure before, meanwhile and after."""
    assert isinstance(job.recipe, PretrainRecipe)
    step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    watch = Watch(
        folder, job.recipe, job.recipe.pretrain, job.pieces, job.loaded.tokenizer, job.held_out, step=step, say=say
    )
    part = Part("", run.CHECKPOINTS, run.METRICS_LOG, 1)
    run_steps(job, folder, checkpoint, say, part, before_step=watch.before_step, tally=watch.tally)
    watch.step = job.plan.steps_per_epoch
    watch.measure(job.loaded.model)


def _open(recipe: PretrainRecipe) -> _Corpus:
    """The sources of a recipe.

    Raises:
        DataError: there is no such source, it is named twice, or it is the one that measures forgetting.
    """
    data, own = recipe.data, recipe.pretrain
    if GENERAL in (*data.train, *own.replay):
        raise DataError(
            f"{GENERAL} are the texts that measure forgetting, and they are not learned",
            "Name it in pretrain.held_out.",
        )
    opened = partial(
        open_source, columns=data.columns, limit=data.limit_documents, drop_bad=data.on_bad_record == "drop"
    )
    train, replay, held_out = (tuple(map(opened, names)) for names in (data.train, own.replay, own.held_out))
    corpus = _Corpus(train, replay, held_out)
    check_once(corpus.all)
    return corpus


def _groups(recipe: PretrainRecipe, corpus: _Corpus) -> list[tuple[tuple[TextSource, ...], float]]:
    """The sources of each strand that is mixed, and its share: all sources are in one or, with weights, each is in its
    own, and the replayed ones are in another. Texts are cleaned strand by strand, in the survey and when they are
    learned, so that both drop the same.
    """
    own = recipe.pretrain
    apart = [(source,) for source in corpus.train] if own.weights else [corpus.train]
    weights = own.weights or [1.0]
    share = own.replay_share if corpus.replay else 0.0
    mixed = [(group, (1 - share) * weight / sum(weights)) for group, weight in zip(apart, weights, strict=True)]
    return [*mixed, (corpus.replay, share)] if corpus.replay else mixed


class _Sample:
    """Counts the tokens of texts, and keeps pieces to measure on, up to so many tokens of each source."""

    def __init__(self, pieces: TextPieces, held_out: HeldOut, most: int) -> None:
        self._pieces, self._held_out, self._most = pieces, held_out, most
        self._kept: dict[str, int] = {}
        self.trees: list[PrefixTree] = []

    @property
    def num_tokens(self) -> int:
        """Tokens of the pieces that were kept."""
        return sum(self._kept.values())

    def count(self, text: Text) -> tuple[int, int]:
        """The number of tokens of a text that are learned, and of those that are held out."""
        learned = held = 0
        for tree in self._pieces.trees(text.source, text.text):
            if self._held_out(tree):
                held += num_learned(tree)
                self._keep(tree)
            else:
                learned += num_learned(tree)
        return learned, held

    def hold(self, trees: Iterable[PrefixTree]) -> None:
        """Keep pieces of a source that is only measured on."""
        for tree in trees:
            self._keep(tree)

    def _keep(self, tree: PrefixTree) -> None:
        if self._kept.get(tree.name, 0) < self._most:
            self.trees.append(tree)
            self._kept[tree.name] = self._kept.get(tree.name, 0) + num_learned(tree)


def _budget(recipe: PretrainRecipe, corpus: _Corpus, found: Sequence[SourceSurvey]) -> int:
    """The tokens to learn in the whole run.

    Raises:
        RecipeError: the recipe does not say, and a source has no known end.
        DataError: nothing is left to learn.
    """
    names = {source.name for source in corpus.train}
    learned = [one for one in found if one.source in names]
    if not any(one.tokens for one in learned):
        raise DataError(
            f"{', '.join(sorted(names))}: nothing is left to learn",
            "Give texts, or loosen the steps under `clean`. `palmette data corpus` says what they drop.",
        )
    if recipe.pretrain.tokens is not None:
        return recipe.pretrain.tokens
    endless = next((one.source for one in learned if not one.whole), None)
    if endless is not None:
        raise RecipeError(f"{endless} is read as a stream, whose length is not known", "Set pretrain.tokens.")
    share = recipe.pretrain.replay_share if corpus.replay else 0.0
    return round(recipe.train.epochs * sum(one.tokens for one in learned) / (1 - share))


def _one_epoch(recipe: PretrainRecipe) -> Any:
    """The training settings of a run whose budget is known: the run is one epoch."""
    return recipe.train.model_copy(update={"epochs": 1})


def _said(one: SourceSurvey) -> str:
    """A line about a source."""
    counts = one.counts
    reasons = ", ".join(f"{drops.texts:,} {reason}" for reason, drops in counts.dropped.items())
    weighed = ", ".join(f"{number:,} {reason}" for reason, number in counts.weighed.items())
    kept = f"{one.source}: {count(counts.texts, 'text')} of {counts.read:,}, {one.tokens:,} tokens"
    beginning = "" if one.whole else ", as far as it was looked at"
    less = f"; learned with less weight: {weighed}" if weighed else ""
    return f"{kept}{beginning}{f'; dropped: {reasons}' if reasons else ''}{less}"
