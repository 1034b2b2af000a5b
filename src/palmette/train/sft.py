"""Supervised fine-tuning on questions about documents, or on conversations. The loss counts chosen tokens only."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

from palmette import processes, run
from palmette.config.recipes import Recipe
from palmette.data.records import DataSet
from palmette.inference.task import recipe_task
from palmette.model.attention import skips_hidden
from palmette.model.forward import check_positions
from palmette.model.pause import add_pause, load_pause, pause_of, save_pause
from palmette.numbers import count
from palmette.progress import Say
from palmette.train.job import Job, settle, step_plan, tree_fingerprint
from palmette.train.loop import Part, interrupted, run_steps
from palmette.train.sources import build_trees, read_sources
from palmette.train.start import load_start
from palmette.train.steps.checkpoints import latest_checkpoint


def prepare(recipe: Recipe, say: Say) -> Job:
    """Read the data, load and check the model, and build the trees. Write nothing.

    Args:
        recipe: the recipe.
        say: called with lines about what is learned.

    Raises:
        PalmetteError: the data are bad, the model is unfit, or a tree does not fit.
    """
    data = read_sources(recipe)
    for source in data:
        if isinstance(source, DataSet) and source.num_added:
            say(f"{source.source}: {count(source.num_added, 'unanswerable question')} added, as data.negatives asks")
    start = load_start(recipe)
    recipe, model = start.recipe, start.loaded.model
    task = recipe_task(recipe, start.loaded.tokenizer)
    learned = build_trees(data, task, recipe, functools.partial(check_positions, model))
    for line in learned.splits.lines():
        say(line)
    num_pauses = len(set(task.reasoning.pause_tokens))
    if num_pauses and pause_of(model) is None:
        add_pause(model, num_pauses)
    dropped = [reason for source in data for reason in source.dropped] + learned.dropped
    counts, tokens = {"trees": len(learned.trees), "questions": learned.num_questions}, tree_fingerprint(learned.trees)
    if learned.unreachable:
        say(str(learned.unreachable))
    unit = "turns" if recipe.data.kind == "chat" else "questions"
    what = ("turn of the assistant", "turns of the assistant") if recipe.data.kind == "chat" else ("question",)
    trees = count(counts["trees"], "prefix tree")
    counted = f"{count(counts['questions'], *what)} in {trees}, {tokens['tokens']:,} tokens"
    if recipe.data.kind != "chat":
        tokens["unreachable"] = learned.unreachable.describe()
    resolved, fingerprint = settle(start, data, dropped, counted, say, prompt=task.prompt, **counts, **tokens)
    plan = step_plan(learned.trees, dropped, resolved, one_row=skips_hidden(model))
    return Job(resolved, start.loaded, plan, learned.num_questions, unit, fingerprint)


def learn(job: Job, folder: Path, checkpoint: Path | None, say: Say) -> None:
    """Train a job in its run folder, from a checkpoint if one is given."""
    if job.recipe.reasoning.embedding_epochs and job.recipe.start is None:
        _learn_embeddings(job, folder, say)
    run_steps(job, folder, checkpoint, say)


def _learn_embeddings(job: Job, folder: Path, say: Say) -> None:
    """Train only the embeddings of the pause tokens, and save them. A resumed run reads them again."""
    model, done = job.loaded.model, folder / run.EMBEDDINGS
    if not done.is_dir():
        epochs = job.recipe.reasoning.embedding_epochs
        part = Part(", the pause tokens,", "checkpoints-embeddings", "metrics-embeddings.jsonl", epochs)
        own = pause_of(model)
        others = [p for p in model.parameters() if p.requires_grad and p is not own]
        for parameter in others:
            parameter.requires_grad_(False)
        checkpoint = latest_checkpoint(folder / part.checkpoints, say)
        stop = run_steps(job, folder, checkpoint, say, part)
        for parameter in others:
            parameter.requires_grad_(True)
        with processes.together():
            if processes.is_main():
                with run.whole_folder(done) as staging:
                    save_pause(model, staging)
                shutil.rmtree(folder / part.checkpoints, ignore_errors=True)
        if stop is not None:
            raise interrupted(job, folder, 0, stop)
    load_pause(model, done)
