"""What the stages that learn from preferences share: records to trees to a job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from palmette.data.preference import Comparison, PreferenceSet, Verdict, read_comparisons, read_verdicts, unpaired
from palmette.inference.reference import reference_fingerprint
from palmette.model.attention import skips_hidden
from palmette.model.checks import check_model
from palmette.model.forward import check_positions
from palmette.model.fused import describe
from palmette.model.heads import add_head
from palmette.model.loading import LoadedModel, dtype_name
from palmette.model.memory import keep_freed_memory
from palmette.progress import Say
from palmette.tasks.preference import PreferenceTrees, TreeSet, grow
from palmette.train import stage
from palmette.train.plan import StepPlan
from palmette.train.recipes.preferences import AnyPreferences
from palmette.train.stage import Job
from palmette.train.start import load_start
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree

Record = TypeVar("Record", Comparison, Verdict)


@dataclass(frozen=True)
class Source:
    """What a source gave, for the manifest, and what was left out of it, with reasons."""

    counted: dict[str, Any]
    dropped: tuple[str, ...]


@dataclass(frozen=True)
class PreferenceJob(Job, Generic[AnyPreferences, Record]):
    """A job over preferences.

    Attributes:
        recipe: of the stage's own kind.
        plan: the steps over what is learned of the trees.
        trees: the trees of all records.
        records: what they are of, in the same order.
    """

    recipe: AnyPreferences
    plan: StepPlan
    trees: tuple[PrefixTree, ...]
    records: tuple[Record, ...]


def comparisons_of(recipe: AnyPreferences) -> tuple[list[Comparison], list[Source]]:
    """The comparisons that a recipe names; see `read_comparisons`."""
    return _collected([_read(recipe, read_comparisons, name) for name in recipe.data.train])


def verdicts_of(recipe: AnyPreferences, *, pairs: bool) -> tuple[list[Verdict], list[Source]]:
    """The verdicts that a recipe names, or those that its pairs amount to; see `read_verdicts` and `unpaired`."""
    if pairs:
        comparisons, sources = comparisons_of(recipe)
        return [verdict for comparison in comparisons for verdict in unpaired(comparison)], sources
    return _collected([_read(recipe, read_verdicts, name) for name in recipe.data.train])


def _read(recipe: AnyPreferences, reader: Callable[..., PreferenceSet[Record]], source: str) -> PreferenceSet[Record]:
    return reader(source, on_bad_record=recipe.data.on_bad_record, limit=recipe.data.limit_documents)


def _collected(sets: Sequence[PreferenceSet[Record]]) -> tuple[list[Record], list[Source]]:
    """All records, with ids that no two of them share, and what is said of each source."""
    records: list[Record] = []
    for number, found in enumerate(sets):
        alone = len(sets) == 1
        records += [one if alone else replace(one, id=f"{number}: {one.id}") for one in found.records]
    sources = [
        Source(
            found.describe(),
            tuple(dropped.problem for dropped in found.dropped),
        )
        for found in sets
    ]
    return records, sources


def make_job(
    name: str,
    recipe: AnyPreferences,
    records: Sequence[Record],
    sources: Sequence[Source],
    tree_of: Callable[[PreferenceTrees, Record], PrefixTree],
    say: Say,
    *,
    reference: str | None = None,
    learned: Callable[[PrefixTree], PrefixTree] | None = None,
) -> PreferenceJob[AnyPreferences, Record]:
    """Load and check the model, and build the trees; nothing is written.

    Args:
        name: the stage; "reward" gives the model a reward head, and its trees learn no token.
        recipe: the stage's recipe.
        records: what is learned from.
        sources: where they came from.
        tree_of: the tree of a record.
        say: called with a line about each stage.
        reference: another run or model that the stage holds its own against.
        learned: what of a record's tree the plan holds; all of it if None.

    Raises:
        PalmetteError: an unfit model, a bad record, or a run to start from that does not fit.
    """
    keep_freed_memory()
    learns = name != "reward"
    beginning = load_start(recipe, recipe.start)
    recipe, model, train = beginning.recipe, beginning.loaded.model, beginning.recipe.train
    grown = _grown(recipe, beginning.loaded, records, tree_of, learns=learns)
    if not learns:
        add_head(model, "reward", train.seed)
    check_model(model, training=True)
    dropped = [reason for source in sources for reason in source.dropped] + [d.problem for d in grown.dropped]
    tokens = stage.tree_fingerprint(grown.trees)
    say(f"{len(grown.trees)} trees, {tokens['tokens']} tokens; {len(dropped)} dropped")
    say(f"computing in {model.dtype} with {describe(model)}".replace("torch.", ""))
    dtype: Any = dtype_name(model.dtype)
    resolved = recipe.model_copy(update={"model": recipe.model.model_copy(update={"dtype": dtype})})
    fingerprint = {
        "stage": name,
        "seed": train.seed,
        "model": stage.model_fingerprint(resolved, beginning.loaded),
        **beginning.fingerprint,
        **(reference_fingerprint(reference, beginning.loaded.tokenizer) if reference else {}),
        "data": [source.counted for source in sources],
        "dropped": dropped,
        "trees": len(grown.trees),
        **tokens,
    }
    trees = [learned(tree) for tree in grown.trees] if learned else grown.trees
    plan = stage.step_plan(trees, dropped, resolved, one_row=skips_hidden(model), learns=learns)
    unit = "verdicts" if name == "kto" else "comparisons"
    job = (name, resolved, beginning.loaded, plan, len(trees), unit, fingerprint)
    return PreferenceJob(*job, grown.trees, grown.records)


def _grown(
    recipe: AnyPreferences,
    loaded: LoadedModel,
    records: Sequence[Record],
    tree_of: Callable[[PreferenceTrees, Record], PrefixTree],
    *,
    learns: bool,
) -> TreeSet[Record]:
    """The trees of records, none longer than the recipe and the model allow."""
    builder = PreferenceTrees(ChatTemplate(loaded.tokenizer), learned=learns)
    grown = grow(
        records,
        lambda record: tree_of(builder, record),
        max_tokens=recipe.train.row_tokens,
        on_too_long=recipe.data.on_too_long,
        on_bad_record=recipe.data.on_bad_record,
    )
    for tree in grown.trees:
        check_positions(loaded.model, tree.num_positions, f"record {tree.name!r}")
    return grown
