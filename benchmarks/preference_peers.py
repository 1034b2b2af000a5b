"""One side of `benchmarks/preferences.py`, in a process of its own: Palmette's trainer, or TRL's for the same job, in a
setting given by name.

The jobs are "dpo", "reward" and "grpo". Both sides start from the same weights, the same fresh LoRA matrices and (for
rewards) the same head, and meet the same prompts in the same optimizer steps, as the same tokens: both take them from
`preference_data.make_trees`, and hand back a hash of what they train on. Learning rate, schedule, clipping and seed
come from one recipe. What TRL is given is otherwise that of peers.py: the adapter in the weights' dtype, neither
checkpointing nor autocast, stock attention. Besides, of TRL 1.16.0 (names are those of its sources):

- `padded:N`: micro-batches of N examples, all of one size, with gradient accumulation up to the step; within a step,
  from the longest example to the shortest. An example is a pair for `DPOTrainer` and `RewardTrainer`, each of whose
  sides is a row, and a completion for `GRPOTrainer`. Padding-free rows do not exist there (for DPO: "temporarily
  unavailable").
- DPO: sigmoid, beta 0.1. Reference log-probabilities are computed before the first step on both sides
  (`precompute_ref_log_probs=True`, TRL's fastest way), each by its own means, outside what is timed.
- Rewards: `AutoModelForSequenceClassification` with one label, its head trained too (`modules_to_save`), as TRL's
  documentation asks for. Both heads are in float32 (a hook widens what TRL's reads, which costs next to nothing): in
  bfloat16 the two would not learn the same. Palmette's has a bias, too, whose gradient is 0. The token that fills rows
  must stand in no row: else the model would read the reward off at another token than the last.
- GRPO: the update alone. Completions, rewards and old log-probabilities are given, the same on both sides; nothing is
  sampled. `_prepare_inputs` hands out what `_generate_and_score_completions` would have made, but padded to the longest
  of the micro-batch instead of the whole step. The loss is TRL's default ("dapo": each token counts the same), clip
  0.2, no KL term. TRL computes entropies, too, which no setting turns off.
- The output layer of DPO and GRPO scores all positions on a CPU, prompts too; `:learned-head` after a setting patches
  that, as in peers.py.

Held-out losses are measured by Palmette's forward pass, in trees and in float32, on both sides; what a reward model of
TRL's has learned is put into one of Palmette's for that.

    python benchmarks/preference_peers.py JOB.json     # as benchmarks/preferences.py does
"""

from __future__ import annotations

from pathlib import Path

from preference_data import read_groups
from preference_lessons import PreferenceJob, adapted, held_out_losses, lesson_of
from preference_trl import as_palmette, build_trainer, examples_of
from side import (
    PALMETTE,
    Channel,
    Side,
    Turns,
    give_batches,
    give_schedule,
    micro_batches,
    patch_head,
    read_job,
    row_side,
    steps_of,
    take_part,
    tree_side,
    trl_options,
)

from palmette.model.checks import check_model
from palmette.model.memory import keep_freed_memory
from palmette.model.tokenizer import load_tokenizer
from palmette.train.loop import training_arguments
from palmette.train.steps.step import TreeTrainer


def palmette_side(job: PreferenceJob, turns: Turns) -> Side:
    """Palmette's trainer, with the lesson that the job names."""
    keep_freed_memory()
    recipe, loaded = job.recipe(), adapted(job)
    check_model(loaded.model, training=True)
    lesson = lesson_of(job, read_groups(job.data), loaded)
    arguments = training_arguments(recipe, Path(job.folder), recipe.train.epochs)
    arguments.save_strategy = "no"
    trainer = TreeTrainer(
        loaded.model,
        arguments,
        lesson.plan,
        objective=lesson.objective,
        measure=lesson.measure,
        before_step=lesson.before_step,
        tally=lesson.tally,
        callbacks=[turns],
    )
    return tree_side(trainer, lesson.plan, examples=job.num_examples)


def trl_side(job: PreferenceJob, turns: Turns) -> Side:
    """TRL's trainer for the job, in the setting that it names."""
    _, size, *extra = job.side.split(":")
    patch_head(extra)
    groups = read_groups(job.data)
    order = job.plan(job.trees(groups, load_tokenizer(job.model)), one_row=False)
    steps = [examples_of(job, groups, step) for step in steps_of(order)]
    batches = micro_batches([[one["length"] for one in step] for step in steps], "padded", int(size))
    options = trl_options(job, int(size), len(batches) // len(steps))
    trainer, collate = build_trainer(job, options, [one for step in steps for one in step])
    trainer.add_callback(turns)
    give_schedule(trainer)
    give_batches(trainer, batches, collate)
    rows = [[row for one in step for row in one["rows"]] for step in steps]
    return row_side(trainer, rows, examples=job.num_examples)


def main() -> None:
    """Run one side, turn by turn."""
    channel, job = Channel(), read_job(PreferenceJob)
    if job.side == PALMETTE:
        take_part(job, channel, palmette_side, lambda side: held_out_losses(job, side.model))
    else:
        take_part(job, channel, trl_side, lambda side: held_out_losses(job, as_palmette(job, side.model)))


if __name__ == "__main__":
    main()
