"""The loop of every stage: `Trainer` over a job's steps, with checkpoints, log and signals, and the saved result.

A stage's `learn` calls `run_steps`, once or in several parts:

    def learn(job, folder, checkpoint, say):
        run_steps(job, folder, checkpoint, say, objective=..., measure=..., before_step=..., tally=...)

The objective is any function of (model, batch, denominator), see `train/steps/step.py`. The denominator is the sum of
`measure` over the batches of the step. The plan is any `train/steps/plan.py:Plan`. `StepPlan` has trees that are all
known at the start. Another plan may make the batches of a step just before the step is taken, with the model as it is
then, as rollouts need. It keeps in checkpoints what later steps need.

Other numbers of a batch, such as old log-probabilities or advantages, are found by the names of its branches
(`tree/branches.py`), or they are in a subclass of `PackedBatch` whose `to` keeps them. `before_step` sees all batches
of a step at once.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from transformers import TrainingArguments

from palmette import processes, run
from palmette.config.recipes import Recipe
from palmette.errors import RunError
from palmette.model.heads import save_heads, without_heads
from palmette.model.pause import save_pause, without_pause
from palmette.numbers import count, in_percent
from palmette.progress import Say
from palmette.train.job import Job
from palmette.train.steps.callbacks import MetricsLog, SaveByTime, SaveOnInterrupt, TrainingInterrupted
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.schedule import begins_at_zero
from palmette.train.steps.sharding import gathered, is_sharded
from palmette.train.steps.step import AfterBatches, BeforeStep, Measure, Objective, Tally, TreeTrainer
from palmette.tree.batch import PackedBatch


@dataclass(frozen=True)
class Part:
    """A part of a run that is trained before the rest.

    Attributes:
        what: name of what is trained, for messages.
        checkpoints: name of its folder of checkpoints.
        log: name of its log.
        epochs: passes over the data.
    """

    what: str
    checkpoints: str
    log: str
    epochs: int


class TrainerOptions(TypedDict, total=False):
    """Arguments of `TreeTrainer` that say how a part learns."""

    objective: Objective
    measure: Measure
    before_step: BeforeStep | None
    after_batches: AfterBatches | None
    tally: Tally | None
    rehearsal: PackedBatch | None


def run_steps(
    job: Job,
    folder: Path,
    checkpoint: Path | None,
    say: Say,
    part: Part | None = None,
    **options: Unpack[TrainerOptions],
) -> int | None:
    """Take the optimizer steps of a job, or of a part of it.

    Args:
        job: the job.
        folder: the run folder.
        checkpoint: the checkpoint to continue from, or None.
        say: called with a line about what is trained.
        part: a part that is trained before the rest. None for the run itself.
        options: how the job learns, as arguments of `TreeTrainer`.

    Returns:
        The number of a signal, SIGINT or SIGTERM, that came after the last step had begun. None if none came.

    Raises:
        TrainingInterrupted: Ctrl-C or SIGTERM. A checkpoint was saved.
        RunError: another process has ended. The main process saved a checkpoint of the last whole step.
        ModelError, RunError: see `TreeTrainer`.
    """
    train = job.recipe.train
    part = part or Part("", run.CHECKPOINTS, run.METRICS_LOG, train.epochs)
    say(
        f"training {_trainable(job.loaded.model)}{part.what} for {count(part.epochs, 'epoch')} "
        f"of {count(job.plan.steps_per_epoch, 'step')}"
    )
    interrupt = SaveOnInterrupt()
    log = MetricsLog(folder / part.log, job.num_examples, job.unit)
    if "rehearsal" not in options and isinstance(job.plan, StepPlan):
        options["rehearsal"] = job.plan.largest_batch(part.epochs)
    trainer = TreeTrainer(
        job.loaded.model,
        training_arguments(job.recipe, folder / part.checkpoints, part.epochs),
        job.plan,
        callbacks=[log, SaveByTime(train.save_minutes), interrupt],
        keep_checkpoints=train.keep_checkpoints,
        **options,
    )
    trainer.from_zero = begins_at_zero(folder)
    trainer.decay, trainer.final_rate = train.decay, train.final_rate
    if trainer.from_zero:
        say("begun by an earlier version of palmette: the learning rate rises from 0, as it did then")
    with interrupt.listening(say), contextlib.closing(log):
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except processes.ProcessLost as lost:
            raise _broken_off(job, folder, trainer, lost) from lost
    trainer.check_finite()
    if interrupt.number is not None and trainer.state.global_step < trainer.state.max_steps:
        raise interrupted(job, folder, trainer.state.global_step, interrupt.number)
    return interrupt.number


def interrupted(job: Job, folder: Path, step: int, number: int) -> TrainingInterrupted:
    """The exception of a run that a signal stopped after a step."""
    return TrainingInterrupted(folder, step, f"train {job.recipe.stage} --resume {shlex.quote(str(folder))}", number)


def _broken_off(job: Job, folder: Path, trainer: TreeTrainer, lost: processes.ProcessLost) -> RunError:
    """The error of a run that lost another process in the middle of a step. The weights are those before the step.

    They are saved, unless the lost process had a part of them.
    """
    step = trainer.state.global_step
    if processes.is_main() and step and not is_sharded(trainer.model):
        trainer.write_checkpoint(trainer.model)
    return RunError(
        f"{lost.problem}, after step {step}",
        f"Continue from there with: palmette train {job.recipe.stage} --resume {shlex.quote(str(folder))}",
    )


def training_arguments(recipe: Recipe, checkpoints: Path, epochs: int) -> TrainingArguments:
    """The arguments of `Trainer` for a recipe, a folder of checkpoints, and a number of passes over the data."""
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
        use_cpu=not torch.cuda.is_available(),  # as the model was loaded: the Trainer would pick a Mac's GPU
        ddp_backend="gloo" if processes.count() > 1 and not torch.cuda.is_available() else None,
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


def _trainable(model: Any) -> str:
    """The number of trained parameters, in words."""
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"{trained:,} of {total:,} parameters ({in_percent(trained / total, 2)})"


def save_result(job: Job, folder: Path) -> None:
    """Write the adapter or the full model, with its heads, whole or not at all. Then delete the checkpoints.

    Every process must call this. The main one writes.
    """
    with gathered(job.loaded.model), processes.together():
        if processes.is_main():
            _write_result(job, folder)


def _write_result(job: Job, folder: Path) -> None:
    adapter = job.recipe.train.method == "lora"
    with run.whole_folder(folder / (run.ADAPTER if adapter else run.FULL_MODEL)) as staging:
        model = job.loaded.model
        model.save_pretrained(staging, **({} if adapter else {"state_dict": without_heads(without_pause(model))}))
        save_pause(model, staging)
        save_heads(model, staging)
        if adapter:
            _name_base(staging / "adapter_config.json", job.recipe.model.name)
        else:
            job.loaded.tokenizer.save_pretrained(staging)
    shutil.rmtree(folder / run.CHECKPOINTS, ignore_errors=True)


def _name_base(config: Path, name: str) -> None:
    """Write the base model's name in an adapter's configuration as the recipe has it, not as a folder of this machine.

    This edits the file after it was saved. With a hub id in the model, peft would ask the hub about it while it saves.
    """
    values = json.loads(config.read_text(encoding="utf-8"))
    run.write_json(config, {**values, "base_model_name_or_path": name})
