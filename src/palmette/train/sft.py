"""Supervised fine-tuning on extractive questions: one prefix tree per document, the loss on the replies only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed

from palmette import run
from palmette.config import PromptSection, Recipe, load_recipe
from palmette.errors import DataError, RunError
from palmette.model.attention import skips_hidden
from palmette.model.checks import check_model
from palmette.model.forward import check_positions
from palmette.model.fused import describe
from palmette.model.loading import LoadedModel, add_lora, load_model, weights_hash
from palmette.model.memory import keep_freed_memory
from palmette.model.pause import add_pause, load_pause, pause_of, save_pause, without_pause
from palmette.tasks.extractive_qa import ExtractiveQa, Reasoning
from palmette.tasks.qa_prompt import TWO_TURNS, QaPrompt, checked, load_prompt
from palmette.train.callbacks import MetricsLog, SaveOnInterrupt
from palmette.train.plan import StepPlan
from palmette.train.sources import Sources, build_trees, counted, read_sources
from palmette.train.step import TreeTrainer, latest_checkpoint
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree, lay_out

Say = Callable[[str], None]


class Interrupted(Exception):
    """Training was stopped by Ctrl-C, after saving. `step` is the step that was saved."""

    def __init__(self, folder: Path, step: int) -> None:
        self.folder, self.step = folder, step
        super().__init__(f"stopped after step {step}; go on with: palmette train sft --resume {folder}")


@dataclass(frozen=True)
class Job:
    """Everything a run needs, checked before anything is written."""

    recipe: Recipe
    data: Sources
    loaded: LoadedModel
    task: ExtractiveQa
    plan: StepPlan
    dropped: tuple[str, ...]
    num_questions: int


def recipe_prompt(recipe: Recipe) -> QaPrompt:
    """The prompt that a recipe asks for."""
    changes = recipe.prompt.model_dump(exclude={"name"})
    changed = {key: value for key, value in changes.items() if value is not None}
    if changes.keys() - changed.keys() <= set(TWO_TURNS):  # as a run records it: its file need not be there any more
        return QaPrompt(**changed)
    return checked(replace(load_prompt(recipe.prompt.name), **changed), recipe.prompt.name)


def recipe_task(recipe: Recipe, tokenizer: Any) -> ExtractiveQa:
    """The task of a recipe, for a model's tokenizer.

    Raises:
        TemplateError: the tokenizer's chat template cannot be taken apart.
        DataError: the prompt, or what is to be learned, makes no sense.
    """
    reasoning = Reasoning(**recipe.reasoning.model_dump(exclude={"embedding_epochs"}))
    learn = recipe.learn if recipe.data.kind == "qa" else "assistant"
    return ExtractiveQa(ChatTemplate(tokenizer), recipe_prompt(recipe), learn, reasoning)


def load_base(recipe: Recipe) -> LoadedModel:
    """The model that a recipe starts from."""
    model = recipe.model
    return load_model(
        model.name,
        revision=model.revision,
        dtype=model.dtype,
        attention=model.attention,
        quantization=model.quantization,
        fused=model.fused,
        trust_remote_code=model.trust_remote_code,
        overrides=model.overrides,
    )


def train_sft(recipe: Recipe, say: Say, *, loaded: LoadedModel | None = None) -> LoadedModel:
    """Run a recipe from the start.

    Args:
        recipe: the recipe; its output folder must not exist.
        say: called with a line about each stage.
        loaded: the recipe's model, where it is loaded already.

    Returns:
        The trained model.

    Raises:
        PalmetteError: bad data, an unfit model, or a folder that exists or cannot be written.
        Interrupted: Ctrl-C; a checkpoint was saved.
    """
    folder = Path(recipe.output).expanduser()
    run.check_absent(folder)
    _check_one_process()
    job = prepare(recipe, say, loaded)
    with run.whole_folder(folder) as staging:
        run.write_text(staging / run.RECIPE, job.recipe.to_yaml())
        run.write_json(staging / run.MANIFEST, {**run.environment(), **fingerprint(job)})
    return _train(job, folder, None, say)


def resume_sft(folder: Path, say: Say) -> LoadedModel:
    """Go on with a run from its latest checkpoint, to the same parameters as if it had not stopped.

    Raises:
        RunError: not a run folder, or one that is finished already.
        PalmetteError, Interrupted: as for `train_sft`.
    """
    run.check_run(folder)
    recipe = load_recipe(folder / run.RECIPE).model_copy(update={"output": str(folder)})
    if (folder / run.ADAPTER).is_dir() or (folder / run.FULL_MODEL).is_dir():
        raise RunError(f"{folder} is finished", f"Try it: palmette ask --model {folder} --document FILE QUESTION")
    checkpoint = latest_checkpoint(folder / run.CHECKPOINTS)
    say(f"resuming from {checkpoint.name}" if checkpoint else "no checkpoint yet: starting again")
    job = prepare(recipe, say, None)
    _check_unchanged(folder, fingerprint(job))
    return _train(job, folder, checkpoint, say)


def _check_unchanged(folder: Path, now: dict[str, Any]) -> None:
    """Refuse to go on with other data, weights or words than the run began with."""
    before = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
    for key, value in now.items():
        if before.get(key) != value:
            raise RunError(
                f"{folder}: {key} has changed since the run began: {before.get(key)!r} became {value!r}",
                "Put it back as it was, or start a new run.",
            )


def _check_one_process() -> None:
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise RunError(
            f"this stage was started as one of {processes} processes, and it writes its run folder alone",
            "Start it without torchrun or accelerate launch.",
        )


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
    plan = _plan(trees, dropped, recipe, skips_hidden(model))
    resolved = _resolved(recipe, task.prompt, model.dtype)
    return Job(resolved, data, replace(loaded, model=model), task, plan, tuple(dropped), learned.num_questions)


def _plan(trees: list[PrefixTree], dropped: list[str], recipe: Recipe, one_row: bool) -> StepPlan:
    if not trees and dropped:
        raise DataError(
            f"nothing is left to train on: all was dropped, first {dropped[0]}",
            "Mend the records, raise train.row_tokens, or split the documents.",
        )
    train = recipe.train
    return StepPlan(
        trees,
        trees_per_step=train.trees_per_step,
        row_tokens=train.row_tokens,
        tokens_per_batch=train.tokens_per_batch,
        seed=train.seed,
        one_row=one_row,
    )


def _resolved(recipe: Recipe, prompt: QaPrompt, dtype: torch.dtype) -> Recipe:
    """The recipe with what defaults and hardware decided, so that a run keeps its meaning when they change."""
    name: Any = str(dtype).removeprefix("torch.")
    return recipe.model_copy(
        update={
            "prompt": PromptSection(name=recipe.prompt.name, **asdict(prompt)),
            "model": recipe.model.model_copy(update={"dtype": name}),
        }
    )


def _train(job: Job, folder: Path, checkpoint: Path | None, say: Say) -> LoadedModel:
    train = job.recipe.train
    if job.recipe.reasoning.embedding_epochs:
        _train_embeddings(job, folder, say)
    say(f"training {trainable_share(job.loaded.model)} for {train.epochs} epochs of {job.plan.steps_per_epoch} steps")
    _run_stage(job, folder, _Stage(run.CHECKPOINTS, run.METRICS_LOG, train.epochs), checkpoint)
    _save_result(job, folder)
    return replace(job.loaded, model=job.loaded.model.eval())


@dataclass(frozen=True)
class _Stage:
    """A part of a run: where its checkpoints and its log are, and its passes over the data."""

    checkpoints: str
    log: str
    epochs: int


_EMBEDDINGS = _Stage("checkpoints-embeddings", "metrics-embeddings.jsonl", 0)


def _train_embeddings(job: Job, folder: Path, say: Say) -> None:
    """Train the embeddings of the pause tokens alone; what they have become is kept, and read where the run goes on."""
    model, done = job.loaded.model, folder / run.EMBEDDINGS
    if not done.is_dir():
        stage = replace(_EMBEDDINGS, epochs=job.recipe.reasoning.embedding_epochs)
        own = pause_of(model)
        others = [p for p in model.parameters() if p.requires_grad and p is not own]
        for parameter in others:
            parameter.requires_grad_(False)
        say(f"training {trainable_share(model)}, the pause tokens, for {stage.epochs} epochs")
        interrupted = _run_stage(job, folder, stage, latest_checkpoint(folder / stage.checkpoints))
        for parameter in others:
            parameter.requires_grad_(True)
        with run.whole_folder(done) as staging:
            save_pause(model, staging)
        shutil.rmtree(folder / stage.checkpoints, ignore_errors=True)
        if interrupted:
            raise Interrupted(folder, 0)
    load_pause(model, done)


def _run_stage(job: Job, folder: Path, stage: _Stage, checkpoint: Path | None) -> bool:
    """Train; whether Ctrl-C came so late that all was done."""
    interrupt = SaveOnInterrupt()
    log = MetricsLog(folder / stage.log, job.num_questions)
    trainer = TreeTrainer(
        job.loaded.model,
        training_arguments(job.recipe, folder / stage.checkpoints, stage.epochs),
        job.plan,
        callbacks=[log, interrupt],
        keep_checkpoints=job.recipe.train.keep_checkpoints,
        rehearsal=job.plan.largest_batch(stage.epochs),
    )
    with interrupt.listening(), contextlib.closing(log):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.check_finite()
    if interrupt.interrupted and trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted(folder, trainer.state.global_step)
    return interrupt.interrupted


def training_arguments(recipe: Recipe, checkpoints: Path, epochs: int) -> TrainingArguments:
    """The `Trainer`'s arguments for a recipe, with checkpoints in a folder and so many passes over the data."""
    train = recipe.train
    return TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=epochs,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        lr_scheduler_type=train.schedule,
        warmup_steps=train.warmup,
        max_grad_norm=train.max_grad_norm,
        seed=train.seed,
        per_device_train_batch_size=1,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if train.save_every else "epoch",
        save_steps=train.save_every or 500,
        activation_checkpointing=train.gradient_checkpointing,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
    )


def _tokens_hash(trees: list[PrefixTree]) -> str:
    """SHA-256 over the tokens and masks of all trees."""
    digest = hashlib.sha256()
    for tree in trees:
        row = lay_out(tree)
        digest.update(repr((row.token, row.attend, row.learn, row.predictor)).encode())
    return digest.hexdigest()


def trainable_share(model: Any) -> str:
    """How many parameters are trained, in words."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"{trained:,} of {total:,} parameters ({trained / total:.1%})"


def _save_result(job: Job, folder: Path) -> None:
    """Write the adapter (or the whole model) whole or not at all, then delete the checkpoints."""
    adapter = job.recipe.train.method == "lora"
    with run.whole_folder(folder / (run.ADAPTER if adapter else run.FULL_MODEL)) as staging:
        model = job.loaded.model
        model.save_pretrained(staging, **({} if adapter else {"state_dict": without_pause(model)}))
        save_pause(model, staging)
        if adapter:
            _name_base(staging / "adapter_config.json", job.loaded.name)
        else:
            job.loaded.tokenizer.save_pretrained(staging)
    shutil.rmtree(folder / run.CHECKPOINTS, ignore_errors=True)


def _name_base(config: Path, name: str) -> None:
    """Let an adapter name its base model as the recipe does, not by the folder that it was found in here.

    In the file, after saving: under a hub id peft would ask the hub about it while it saves.
    """
    values = json.loads(config.read_text(encoding="utf-8"))
    run.write_json(config, {**values, "base_model_name_or_path": name})


def fingerprint(job: Job) -> dict[str, Any]:
    """What a run is made of: seed, model, data and prompt, with their hashes."""
    return {
        "seed": job.recipe.train.seed,
        "model": {
            "name": job.loaded.name,
            "revision": getattr(job.loaded.model.config, "_commit_hash", None) or job.recipe.model.revision,
            "dtype": str(job.loaded.model.dtype).removeprefix("torch."),
            "sha256": weights_hash(job.loaded.folder),
            "attention": job.loaded.model.config.get_text_config()._attn_implementation,
            "layers": describe(job.loaded.model),
        },
        "data": [counted(source) for source in job.data],
        "dropped": list(job.dropped),
        "prompt_sha256": job.task.prompt.sha256,
        "trees": len(job.plan.trees),
        "questions": job.num_questions,
        "tokens": sum(tree.num_tokens for tree in job.plan.trees),
        "tokens_sha256": _tokens_hash(job.plan.trees),
    }
