"""The shared parts of the stages that learn from preferences: from records to trees to a job."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from palmette.arena.source import open_votes
from palmette.data.pairs import unpaired
from palmette.data.preference import Comparison, Verdict
from palmette.data.preference_sets import PreferenceSet, read_comparisons, read_verdicts
from palmette.inference.reference import reference_fingerprint
from palmette.model.attention import skips_hidden
from palmette.model.forward import check_positions
from palmette.model.heads import add_head
from palmette.model.loading import LoadedModel
from palmette.progress import Say
from palmette.tasks.preference import PreferenceTrees, TreeSet, grow
from palmette.train.job import Job, settle, step_plan, tree_fingerprint
from palmette.train.recipes.preferences import AnyPreferences
from palmette.train.start import load_start
from palmette.train.steps.plan import StepPlan
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree

Record = TypeVar("Record", Comparison, Verdict)


@dataclass(frozen=True)
class PreferenceJob(Job, Generic[AnyPreferences, Record]):
    """A job over preferences.

    Attributes:
        recipe: the recipe, of the stage's own class.
        plan: the steps over the learned parts of the trees.
        trees: the trees of all records.
        records: the records, in the order of their trees.
    """

    recipe: AnyPreferences
    plan: StepPlan
    trees: tuple[PrefixTree, ...]
    records: tuple[Record, ...]


def comparisons_of(recipe: AnyPreferences) -> tuple[list[Comparison], list[PreferenceSet[Comparison]]]:
    """The comparisons that a recipe names, and their sources. Errors are those of `read_comparisons`."""
    return _collected([_read(recipe, read_comparisons, name) for name in recipe.data.train])


def verdicts_of(recipe: AnyPreferences, *, pairs: bool) -> tuple[list[Verdict], Sequence[PreferenceSet[Any]]]:
    """The verdicts that a recipe names, and their sources. With `pairs`, each pair gives two verdicts (`unpaired`)."""
    if pairs:
        comparisons, sources = comparisons_of(recipe)
        return [verdict for comparison in comparisons for verdict in unpaired(comparison)], sources
    return _collected([_read(recipe, read_verdicts, name) for name in recipe.data.train])


def _read(recipe: AnyPreferences, reader: Callable[..., PreferenceSet[Record]], source: str) -> PreferenceSet[Record]:
    """Read a file, a hub data set, or the folder of an arena."""
    data = recipe.data
    return reader(
        source,
        on_bad_record=data.on_bad_record,
        limit=data.limit_documents,
        columns=data.columns,
        opened=open_votes(source),
    )


def _collected(sets: list[PreferenceSet[Record]]) -> tuple[list[Record], list[PreferenceSet[Record]]]:
    """All records, with unique ids, and their sources."""
    records: list[Record] = []
    for number, source in enumerate(sets):
        alone = len(sets) == 1
        records += [one if alone else replace(one, id=f"{number}: {one.id}") for one in source.records]
    return records, sets


def make_job(
    recipe: AnyPreferences,
    records: Sequence[Record],
    sources: Sequence[PreferenceSet[Any]],
    tree_of: Callable[[PreferenceTrees, Record], PrefixTree],
    say: Say,
    *,
    unit: str = "comparisons",
    reward_head: bool = False,
    reference: str | None = None,
    learned: Callable[[PrefixTree], PrefixTree] | None = None,
) -> PreferenceJob[AnyPreferences, Record]:
    """Load and check the model, and build the trees. Write nothing.

    Args:
        recipe: the stage's recipe.
        records: the records to learn from.
        sources: the sources of the records.
        tree_of: builds the tree of a record.
        say: called with lines about what is learned.
        unit: name of the records.
        reward_head: whether the model gets a reward head to learn. Then the trees learn no token.
        reference: another run or model that the stage compares its own with.
        learned: gives the part of a record's tree that is learned. None learns the whole tree.

    Raises:
        PalmetteError: the model is unfit, a record is bad, or the run to start from does not fit.
    """
    start = load_start(recipe)
    loaded, model = start.loaded, start.loaded.model
    built = _build(start.recipe, loaded, records, tree_of, learns=not reward_head)
    if reward_head:
        add_head(model, "reward", recipe.train.seed)
    for source in sources:
        if source.votes is not None:
            say(f"{source.source}: {source.votes.words()}")
    dropped = [one.problem for source in sources for one in source.dropped] + [one.problem for one in built.dropped]
    tokens = tree_fingerprint(built.trees)
    counted = f"{len(built.trees):,} {unit}, {tokens['tokens']:,} tokens"
    entries = {"trees": len(built.trees), **tokens}
    if reference:
        entries |= reference_fingerprint(reference, loaded.tokenizer)
    resolved, fingerprint = settle(start, sources, dropped, counted, say, **entries)
    trees = [learned(tree) for tree in built.trees] if learned else built.trees
    plan = step_plan(trees, dropped, resolved, one_row=skips_hidden(model), learns=not reward_head)
    return PreferenceJob(resolved, loaded, plan, len(trees), unit, fingerprint, built.trees, built.records)


def _build(
    recipe: AnyPreferences,
    loaded: LoadedModel,
    records: Sequence[Record],
    tree_of: Callable[[PreferenceTrees, Record], PrefixTree],
    *,
    learns: bool,
) -> TreeSet[Record]:
    """The trees of records. None is longer than the recipe and the model allow."""
    builder = PreferenceTrees(ChatTemplate(loaded.tokenizer), learned=learns)
    return grow(
        records,
        lambda record: tree_of(builder, record),
        max_tokens=recipe.train.row_tokens,
        on_too_long=recipe.data.on_too_long,
        on_bad_record=recipe.data.on_bad_record,
        check_positions=functools.partial(check_positions, loaded.model),
    )
