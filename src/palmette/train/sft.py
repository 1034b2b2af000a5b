"""Supervised fine-tuning on extractive questions: one prefix tree per document, the loss on the completions only."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import set_seed

from palmette import run
from palmette.config import PromptSection, Recipe, load_recipe
from palmette.inference.base import load_base
from palmette.inference.task import recipe_task
from palmette.model.attention import skips_hidden
from palmette.model.checks import check_model
from palmette.model.forward import check_positions
from palmette.model.fused import describe
from palmette.model.loading import LoadedModel, add_lora, dtype_name
from palmette.model.memory import keep_freed_memory
from palmette.model.pause import add_pause, load_pause, pause_of, save_pause
from palmette.progress import Say
from palmette.tasks.qa_prompt import QaPrompt
from palmette.train import stage
from palmette.train.sources import Sources, build_trees, read_sources
from palmette.train.stage import AnyRecipe, Interrupted, Job, Part, main_part, trainable_share
from palmette.train.step import latest_checkpoint
from palmette.tree.prefix_tree import PrefixTree

_EMBEDDINGS = Part("checkpoints-embeddings", "metrics-embeddings.jsonl", 0)


def train_sft(recipe: Recipe, say: Say, *, loaded: LoadedModel | None = None) -> LoadedModel:
    """Run a recipe from the start.

    Args:
        recipe: the recipe; its output folder must not exist.
        say: called with a line about each stage.
        loaded: the recipe's model, where it is loaded already.

    Returns, Raises: see `stage.start`.
    """
    return stage.start(recipe, partial(prepare, say=say, loaded=loaded), partial(_train, say=say))


def resume_sft(folder: Path, say: Say) -> LoadedModel:
    """Go on with a run from its latest checkpoint, to the same parameters as if it had not stopped; see `stage.resume`."""
    return stage.resume(folder, load_recipe, partial(prepare, say=say, loaded=None), partial(_train, say=say), say)


def prepare(recipe: Recipe, say: Say, loaded: LoadedModel | None) -> Job:
    """Read the data, load and check the model, and build the trees; nothing is written."""
    keep_freed_memory()
    data = read_sources(recipe)
    loaded = loaded or load_base(recipe)
    task = recipe_task(recipe, loaded.tokenizer)
    learned = build_trees(data, task, recipe)
    trees = learned.trees
    for tree in trees:
        check_positions(loaded.model, tree.num_positions, f"document {tree.name!r}")
    set_seed(recipe.train.seed)
    model = loaded.model
    if recipe.train.method == "lora":
        model = add_lora(model, **recipe.lora.model_dump())
    num_pauses = len(set(task.reasoning.pause_tokens))
    if num_pauses:
        add_pause(model, num_pauses)
    check_model(model, training=True)
    dropped = [reason for source in data for reason in source.dropped] + learned.dropped
    num_tokens = sum(tree.num_tokens for tree in trees)
    what = "turns of the assistant" if recipe.data.kind == "chat" else "questions"
    say(f"{len(trees)} trees, {learned.num_questions} {what}, {num_tokens} tokens; {len(dropped)} dropped")
    say(f"computing in {model.dtype} with {describe(model)}".replace("torch.", ""))
    plan = stage.step_plan(trees, dropped, recipe, one_row=skips_hidden(model))
    resolved, loaded = settled(recipe, task.prompt, model.dtype), replace(loaded, model=model)
    made_of = _fingerprint(resolved, data, loaded, task.prompt, trees, dropped, learned.num_questions)
    return Job("sft", resolved, loaded, plan, learned.num_questions, "questions", made_of)


def settled(recipe: AnyRecipe, prompt: QaPrompt, dtype: torch.dtype) -> AnyRecipe:
    """The recipe with what defaults and hardware decided, so that a run keeps its meaning when they change."""
    name: Any = dtype_name(dtype)
    return recipe.model_copy(
        update={
            "prompt": PromptSection(name=recipe.prompt.name, **asdict(prompt)),
            "model": recipe.model.model_copy(update={"dtype": name}),
        }
    )


def _train(job: Job, folder: Path, checkpoint: Path | None, say: Say) -> LoadedModel:
    if job.recipe.reasoning.embedding_epochs:
        _train_embeddings(job, folder, say)
    stage.say_training(job, say)
    _run_stage(job, folder, main_part(job), checkpoint)
    return stage.save_result(job, folder)


def _train_embeddings(job: Job, folder: Path, say: Say) -> None:
    """Train the embeddings of the pause tokens alone; what they have become is kept, and read where the run goes on."""
    model, done = job.loaded.model, folder / run.EMBEDDINGS
    if not done.is_dir():
        part = replace(_EMBEDDINGS, epochs=job.recipe.reasoning.embedding_epochs)
        own = pause_of(model)
        others = [p for p in model.parameters() if p.requires_grad and p is not own]
        for parameter in others:
            parameter.requires_grad_(False)
        say(f"training {trainable_share(model)}, the pause tokens, for {part.epochs} epochs")
        interrupted = _run_stage(job, folder, part, latest_checkpoint(folder / part.checkpoints))
        for parameter in others:
            parameter.requires_grad_(True)
        with run.whole_folder(done) as staging:
            save_pause(model, staging)
        shutil.rmtree(folder / part.checkpoints, ignore_errors=True)
        if interrupted:
            raise Interrupted(folder, 0)
    load_pause(model, done)


def _run_stage(job: Job, folder: Path, part: Part, checkpoint: Path | None) -> bool:
    """Train on the completions; whether Ctrl-C came so late that all was done."""
    return stage.run_part(job, folder, part, checkpoint)


def _fingerprint(
    recipe: Recipe,
    data: Sources,
    loaded: LoadedModel,
    prompt: QaPrompt,
    trees: list[PrefixTree],
    dropped: list[str],
    num_questions: int,
) -> dict[str, Any]:
    """What a run is made of: seed, model, data and prompt, with their hashes."""
    return {
        "seed": recipe.train.seed,
        "model": stage.model_fingerprint(recipe, loaded),
        "data": [source.describe() for source in data],
        "dropped": dropped,
        "prompt_sha256": prompt.sha256,
        "trees": len(trees),
        "questions": num_questions,
        **stage.tree_fingerprint(trees),
    }
