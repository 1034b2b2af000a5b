"""What all stages of training share: the run folder, exact resume, Ctrl-C, checkpoints, the log, and what is saved in the end.

A stage is a thin module. It checks everything and makes a `Job` (`prepare`), then trains it in one part or several (`run_part`) and
saves what came out (`save_result`):

    def train_dpo(recipe, say):
        return start(recipe, partial(prepare, say=say), partial(_train, say=say))

    def resume_dpo(folder, say):
        return resume(folder, load, partial(prepare, say=say), partial(_train, say=say), say, stage="dpo")

    def _train(job, folder, checkpoint, say):
        run_part(job, folder, main_part(job), checkpoint, objective=..., measure=..., before_step=..., tally=...)
        return save_result(job, folder)

The objective is any function of (model, batch, denominator), see `train/step.py`; the denominator is the sum of `measure` over the
batches of the step. The plan is any `train/plan.py:Plan`: `StepPlan` over trees that are known beforehand, or one that makes each
step's batches just before the step is taken, with the model as it is then (rollouts), and keeps in checkpoints what later steps need
of them. What belongs to a batch besides its tokens (old log-probabilities, advantages) is looked up by the names of its branches
(`tree/branches.py`), or stands in a subclass of `PackedBatch` whose `to` keeps it. `before_step` sees all batches of a step at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

from transformers import TrainingArguments

from palmette import run
from palmette.config import Recipe
from palmette.errors import DataError, RunError
from palmette.model.fused import describe
from palmette.model.heads import save_heads, without_heads
from palmette.model.loading import LoadedModel, dtype_name, weights_hash
from palmette.model.pause import save_pause, without_pause
from palmette.progress import Say
from palmette.train.callbacks import MetricsLog, SaveOnInterrupt
from palmette.train.plan import Plan, StepPlan
from palmette.train.step import BeforeStep, Measure, Objective, Tally, TreeTrainer, latest_checkpoint
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import PrefixTree, lay_out


class Interrupted(Exception):
    """Training was stopped by Ctrl-C, after saving. `step` is the step that was saved."""

    def __init__(self, folder: Path, step: int, stage: str = "sft") -> None:
        self.folder, self.step = folder, step
        super().__init__(f"stopped after step {step}; go on with: palmette train {stage} --resume {folder}")


@dataclass(frozen=True)
class Job:
    """Everything that a stage trains with, checked before anything is written.

    Attributes:
        stage: the stage's name, as in `palmette train NAME`.
        recipe: with what defaults and hardware decided, so that a run keeps its meaning when they change.
        loaded: the model, its trainable parameters marked, and its tokenizer.
        plan: the optimizer steps.
        num_examples: what an epoch holds, for the rate shown.
        unit: what is counted there.
        fingerprint: what the run is made of, with hashes, for the manifest; where it has changed, the run cannot go on.
    """

    stage: str
    recipe: Recipe
    loaded: LoadedModel
    plan: Plan
    num_examples: int
    unit: str
    fingerprint: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of a run: where its checkpoints and its log are, and its passes over the data."""

    checkpoints: str
    log: str
    epochs: int


class TrainerOptions(TypedDict, total=False):
    """How a part learns; see `TreeTrainer`."""

    objective: Objective
    measure: Measure
    before_step: BeforeStep | None
    tally: Tally | None
    rehearsal: PackedBatch | None


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)
AnyJob = TypeVar("AnyJob", bound=Job)


def start(
    recipe: AnyRecipe,
    prepare: Callable[[AnyRecipe], AnyJob],
    train: Callable[[AnyJob, Path, Path | None], LoadedModel],
) -> LoadedModel:
    """Run a recipe from the start.

    Args:
        recipe: the recipe; its output folder must not exist.
        prepare: reads, loads and checks everything, and writes nothing.
        train: trains a job in its run folder, from a checkpoint if one is given.

    Returns:
        The trained model.

    Raises:
        PalmetteError: bad data, an unfit model, or a folder that exists or cannot be written.
        Interrupted: Ctrl-C; a checkpoint was saved.
    """
    folder = Path(recipe.output).expanduser()
    run.check_absent(folder)
    _check_one_process()
    job = prepare(recipe)
    with run.whole_folder(folder) as staging:
        run.write_text(staging / run.RECIPE, job.recipe.to_yaml())
        run.write_json(staging / run.MANIFEST, {**run.environment(), **job.fingerprint})
    return train(job, folder, None)


def resume(
    folder: Path,
    load: Callable[[Path], AnyRecipe],
    prepare: Callable[[AnyRecipe], AnyJob],
    train: Callable[[AnyJob, Path, Path | None], LoadedModel],
    say: Say,
    *,
    way_out: str = "palmette ask --model {} --document FILE QUESTION",
) -> LoadedModel:
    """Go on with a run from its latest checkpoint, to the same parameters as if it had not stopped.

    Args:
        folder: the run folder.
        load: reads the stage's recipe.
        prepare: as for `start`.
        train: as for `start`.
        say: called with a line about each stage.
        way_out: what to do with a run that is finished, {} for its folder.

    Raises:
        RunError: not a run folder, or one that is finished already; or data, weights or words are not those it began with.
        PalmetteError, Interrupted: as for `start`.
    """
    run.check_run(folder)
    recipe = load(folder / run.RECIPE).model_copy(update={"output": str(folder)})
    if run.is_finished(folder):
        raise RunError(f"{folder} is finished", f"Try it: {way_out.format(folder)}")
    checkpoint = latest_checkpoint(folder / run.CHECKPOINTS)
    say(f"resuming from {checkpoint.name}" if checkpoint else "no checkpoint yet: starting again")
    job = prepare(recipe)
    _check_unchanged(folder, job.fingerprint)
    return train(job, folder, checkpoint)


def _check_unchanged(folder: Path, now: dict[str, Any]) -> None:
    """Refuse to go on with other data, weights or words than the run began with."""
    manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
    before = {key: manifest[key] for key in now if key in manifest}
    run.check_same(before, now, where=folder, way_out="Put it back as it was, or start a new run.")


def _check_one_process() -> None:
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        raise RunError(
            f"this stage was started as one of {processes} processes, and it writes its run folder alone",
            "Start it without torchrun or accelerate launch.",
        )


def step_plan(
    trees: Sequence[PrefixTree], dropped: Sequence[str], recipe: Recipe, *, one_row: bool, learns: bool = True
) -> StepPlan:
    """The steps of a recipe over trees.

    Args:
        trees: what is learned.
        dropped: what was left out, with reasons, for the message.
        recipe: how they are packed.
        one_row: see `StepPlan`.
        learns: see `StepPlan`.

    Raises:
        DataError: nothing is left.
        PackingError: see `StepPlan`.
    """
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
        learns=learns,
    )


def main_part(job: Job) -> Part:
    """The part that a run consists of, or ends with."""
    return Part(run.CHECKPOINTS, run.METRICS_LOG, job.recipe.train.epochs)


def run_part(job: Job, folder: Path, part: Part, checkpoint: Path | None, **learning: Unpack[TrainerOptions]) -> bool:
    """Train, from a checkpoint if one is given; whether Ctrl-C came so late that all was done.

    Raises:
        Interrupted: Ctrl-C; a checkpoint was saved.
        ModelError, RunError: see `TreeTrainer`.
    """
    interrupt = SaveOnInterrupt()
    log = MetricsLog(folder / part.log, job.num_examples, job.unit)
    if "rehearsal" not in learning and isinstance(job.plan, StepPlan):
        learning["rehearsal"] = job.plan.largest_batch(part.epochs)
    trainer = TreeTrainer(
        job.loaded.model,
        training_arguments(job.recipe, folder / part.checkpoints, part.epochs),
        job.plan,
        callbacks=[log, interrupt],
        keep_checkpoints=job.recipe.train.keep_checkpoints,
        **learning,
    )
    with interrupt.listening(), contextlib.closing(log):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.check_finite()
    if interrupt.interrupted and trainer.state.global_step < trainer.state.max_steps:
        raise Interrupted(folder, trainer.state.global_step, job.stage)
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


def say_training(job: Job, say: Say) -> None:
    """Say what is about to be trained."""
    share, epochs = trainable_share(job.loaded.model), job.recipe.train.epochs
    say(f"training {share} for {epochs} epochs of {job.plan.steps_per_epoch} steps")


def trainable_share(model: Any) -> str:
    """How many parameters are trained, in words."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"{trained:,} of {total:,} parameters ({trained / total:.1%})"


def save_result(job: Job, folder: Path) -> LoadedModel:
    """Write the adapter (or the whole model) and its heads whole or not at all, then delete the checkpoints.

    Returns:
        The trained model, in evaluation mode.
    """
    adapter = job.recipe.train.method == "lora"
    with run.whole_folder(folder / (run.ADAPTER if adapter else run.FULL_MODEL)) as staging:
        model = job.loaded.model
        model.save_pretrained(staging, **({} if adapter else {"state_dict": without_heads(without_pause(model))}))
        save_pause(model, staging)
        save_heads(model, staging)
        if adapter:
            _name_base(staging / "adapter_config.json", job.loaded.name)
        else:
            job.loaded.tokenizer.save_pretrained(staging)
    shutil.rmtree(folder / run.CHECKPOINTS, ignore_errors=True)
    return replace(job.loaded, model=job.loaded.model.eval())


def _name_base(config: Path, name: str) -> None:
    """Let an adapter name its base model as the recipe does, not by the folder that it was found in here.

    In the file, after saving: under a hub id peft would ask the hub about it while it saves.
    """
    values = json.loads(config.read_text(encoding="utf-8"))
    run.write_json(config, {**values, "base_model_name_or_path": name})


def model_fingerprint(recipe: Recipe, loaded: LoadedModel) -> dict[str, Any]:
    """What a run starts from, for its manifest."""
    return {
        "name": loaded.name,
        "revision": getattr(loaded.model.config, "_commit_hash", None) or recipe.model.revision,
        "dtype": dtype_name(loaded.model.dtype),
        "sha256": weights_hash(loaded.folder),
        "attention": loaded.model.config.get_text_config()._attn_implementation,
        "layers": describe(loaded.model),
    }


def tree_fingerprint(trees: Sequence[PrefixTree]) -> dict[str, Any]:
    """What a run learns from, for its manifest: the tokens and masks of all trees, by their hash."""
    digest = hashlib.sha256()
    for tree in trees:
        digest.update(tree_bytes(tree))
    return {"tokens": sum(tree.num_tokens for tree in trees), "tokens_sha256": digest.hexdigest()}


def tree_bytes(tree: PrefixTree) -> bytes:
    """The tokens and masks of a tree, for hashing."""
    row = lay_out(tree)
    return repr((row.token, row.attend, row.learn, row.predictor)).encode()
