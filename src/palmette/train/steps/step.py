"""The step of every stage, on transformers' `Trainer`: the micro-batches of an optimizer step share one denominator.

Several processes divide the micro-batches of a step among them. Gradients are summed and not averaged, because the loss
is already divided by the denominator of the whole step. Each process holds the whole model and takes the same step, so
nothing else is exchanged. A model may also be divided among the processes (`train/steps/sharding.py`).

Not covered: DeepSpeed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, load_model, save_model
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from palmette import processes
from palmette.errors import ModelError
from palmette.model.files import ADAPTER_WEIGHTS, PURPOSES
from palmette.model.forward import score_tokens
from palmette.model.heads import head_of, load_head, save_heads
from palmette.model.memory import ResidentLimit, give_back
from palmette.model.pause import load_pause, save_pause
from palmette.objectives.nll import weighted_nll
from palmette.seeds import derive_seed
from palmette.train.steps.callbacks import TALLY
from palmette.train.steps.checkpoints import WEIGHTS, SafeCheckpoints
from palmette.train.steps.optimizer import MasterAdamW
from palmette.train.steps.plan import Plan, StepLoader
from palmette.train.steps.sharding import gathered, is_divided, is_sharded
from palmette.tree.batch import PackedBatch

# A loss is a function of (model, batch, denominator of the step). The denominator is the sum of the measures of the
# step's batches.
Objective = Callable[[Any, PackedBatch, float], torch.Tensor]
Measure = Callable[[PackedBatch], float]
BeforeStep = Callable[[Any, list[PackedBatch]], None]
AfterBatches = Callable[[], None]


def nll_objective(model: Any, batch: PackedBatch, denominator: float) -> torch.Tensor:
    """This batch's share of the step's negative log-likelihood (nats per unit of learned weight)."""
    scores = score_tokens(model, batch)
    return weighted_nll(scores.logprob_P, batch.learn_BT[scores.row_P, scores.column_P], denominator)


def learn_weight(batch: PackedBatch) -> float:
    """The sum of a batch's learn weights."""
    return batch.learn_weight


class Tally:
    """Figures besides the loss, summed over a step's micro-batches. Their means go to metrics.jsonl."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, name: str, total: torch.Tensor | float, count: float) -> None:
        """Add `total`, the sum of `count` values, or of values whose weights add up to `count`."""
        before, number = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = (before + float(total), number + count)

    def note(self, name: str, value: float) -> None:
        """Set a number that belongs to the step as a whole."""
        self._sums[name] = (float(value), 1.0)

    def take(self) -> dict[str, float]:
        """The means over all processes, in the order in which they were first added. Then all sums start again.

        Every process must call this.
        """
        sums: dict[str, tuple[float, float]] = {}
        for of_process in processes.gather(self._sums):
            for name, (total, count) in of_process.items():
                before, number = sums.get(name, (0.0, 0.0))
                sums[name] = (before + total, number + count)
        self.clear()
        return {name: total / count for name, (total, count) in sums.items() if count}

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within the block, nothing counts."""
        before = dict(self._sums)
        try:
            yield
        finally:
            self._sums = before

    def clear(self) -> None:
        """Start all sums of this process again."""
        self._sums = {}


class TreeTrainer(SafeCheckpoints):
    """Trains a model on the steps of a plan.

    Args:
        model: the model, with its trainable parameters marked.
        args: training arguments. Batch size and gradient accumulation have no effect, since the plan holds whole steps.
        plan: the optimizer steps.
        objective: loss of one packed batch, given the denominator of its step.
        measure: a batch's part of the denominator. Its learned weight by default.
        before_step: called once a step with all batches of the step and the model, in evaluation mode and without
            gradients. It computes what a loss needs of the whole step, such as KTO's reference point or old
            log-probabilities.
        after_batches: called once a step in every process, after the backward passes of its batches and before the
            weights change. It may compare what was measured with a limit.
        tally: other figures of the objective, which are logged with each step.
        callbacks: as for `Trainer`.
        keep_checkpoints: how many of the newest checkpoints are kept.
        rehearsal: a batch that goes through forward and backward pass before the first step, without being learned.
            With the largest batch, a lack of memory shows at once, and memory does not grow later.

    Raises:
        ModelError: nothing is trainable, or the loss is not finite.
        RunError: a checkpoint cannot be written. Earlier ones survive.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        plan: Plan,
        *,
        objective: Objective = nll_objective,
        measure: Measure = learn_weight,
        before_step: BeforeStep | None = None,
        after_batches: AfterBatches | None = None,
        tally: Tally | None = None,
        callbacks: Sequence[TrainerCallback] = (),
        keep_checkpoints: int = 2,
        rehearsal: PackedBatch | None = None,
    ) -> None:
        super().__init__(model=model, args=args, callbacks=list(callbacks), data_collator=lambda batch: batch)
        self.remove_callback(PrinterCallback)
        self._loader = StepLoader(plan)
        self.train_dataset = self._loader.dataset
        self._plan = plan
        self._objective, self._measure = objective, measure
        self._before_step, self._after_batches = before_step, after_batches
        self._tally = tally or Tally()
        self.keep_checkpoints = keep_checkpoints
        self._rehearsal = rehearsal
        self._memory = ResidentLimit()
        self._masters: MasterAdamW | None = None
        # The way of `Trainer` that wraps no model and leaves gradients to us.
        self.is_distributed_loading_by_transformers = self.args.world_size > 1

    def _sync_replicated_trainable_parameters(self, model: Any) -> None:
        """Do nothing. Every process loads the same weights, and `training_step` sums the gradients."""

    def get_train_dataloader(self) -> StepLoader:
        """The plan's steps. Every process gets all of them, and takes its share of the micro-batches."""
        return self._loader

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with float32 masters of the trainable parameters."""
        if self._masters is None:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            if not trained:
                raise ModelError("no parameter of the model is trainable", "Add an adapter, or train all weights.")
            self._masters = MasterAdamW(trained, lr=self.args.learning_rate, weight_decay=self.args.weight_decay)
            self.optimizer = self._masters
        return self._masters

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list[Any], None]:
        """One whole step. Its denominator is computed in `training_step`."""
        return [next(epoch_iterator)], None

    def training_step(self, model: Any, inputs: list[PackedBatch], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward pass of all micro-batches of one optimizer step.

        Returns:
            The step's loss, summed over its micro-batches and processes and divided by its denominator.
        """
        assert self._masters is not None
        self._rehearse()
        self._look_ahead(inputs)
        self.model.train()
        denominator = sum(self._measure(batch) for batch in inputs)
        total = torch.zeros((), dtype=torch.float64, device=self.args.device)
        own, idle = self._own_share(inputs)
        for batch in own:
            loss = self._objective(self.model, batch.to(self.args.device), denominator)
            loss.backward()  # type: ignore[no-untyped-call]
            self._masters.collect()
            total += loss.detach()
        for _ in range(idle):
            self._pass_along(inputs[0], denominator)
        if self._after_batches is not None:
            self._after_batches()
        self._memory.hold()
        self._sum_over_processes(total)
        if not math.isfinite(float(total)):
            raise self._exploded("the loss")
        return total

    def _own_share(self, inputs: list[PackedBatch]) -> tuple[list[PackedBatch], int]:
        """The micro-batches of this process, and how many passes it must take besides.

        All processes get much the same number of tokens. Of a divided model, all must take as many passes.
        """
        number = self.args.process_index
        if self.args.world_size == 1:
            return inputs, 0
        # Dropout must differ between processes, and a resumed process must draw what it would have drawn.
        torch.manual_seed(derive_seed(derive_seed(self.args.seed, self.state.global_step), number))
        shares = processes.balanced([batch.token_BT.numel() for batch in inputs], self.args.world_size)
        idle = max(map(len, shares)) - len(shares[number]) if is_sharded(self.model) else 0
        return [inputs[index] for index in shares[number]], idle

    def _pass_along(self, batch: PackedBatch, denominator: float) -> None:
        """Compute a batch with weight 0, because other processes still need this one's part of the weights."""
        assert self._masters is not None
        with self._tally.paused():
            loss = self._objective(self.model, batch.to(self.args.device), denominator)
        (0.0 * loss).backward()  # type: ignore[no-untyped-call]
        self._masters.collect()

    def _look_ahead(self, inputs: list[PackedBatch]) -> None:
        if self._before_step is None:
            return
        self.model.eval()
        with torch.no_grad():
            self._before_step(self.model, [batch.to(self.args.device) for batch in inputs])

    def _rehearse(self) -> None:
        """Compute the rehearsal once, without any effect on gradients and random state."""
        batch, self._rehearsal = self._rehearsal, None
        if batch is None:
            return
        self.model.train()
        give_back()  # what loading and preparing left behind, or it would count as needed
        with torch.random.fork_rng():
            loss = self._objective(self.model, batch.to(self.args.device), self._measure(batch))
            loss.backward()  # type: ignore[no-untyped-call]
        self.model.zero_grad(set_to_none=True)
        self._tally.clear()
        self._memory.reached()

    def _sum_over_processes(self, total: torch.Tensor) -> None:
        if self.args.world_size == 1:
            return
        assert self._masters is not None
        processes.add_up(total)
        for parameter, master in zip(self._masters.trained, self._masters.masters, strict=True):
            if master.grad is None:
                master.grad = torch.zeros_like(master)
            if not is_divided(parameter):
                processes.add_up(master.grad)

    def _clip_grad_norm(self, model: Any) -> float:
        return self._gradient_norm(self.args.max_grad_norm)

    def _get_grad_norm(self, model: Any, grad_norm: float | None = None) -> float:
        return self._gradient_norm(math.inf) if grad_norm is None else grad_norm

    def _gradient_norm(self, limit: float) -> float:
        assert self._masters is not None
        squares = torch.zeros(
            2, dtype=torch.float64, device=self.args.device
        )  # of whole gradients, and of divided ones
        for parameter, master in zip(self._masters.trained, self._masters.masters, strict=True):
            if master.grad is not None:
                squares[int(is_divided(parameter))] += torch.linalg.vector_norm(master.grad, dtype=torch.float64) ** 2
        if is_sharded(self.model):
            processes.add_up(squares[1:])
        norm = float(squares.sum().sqrt())
        if not math.isfinite(norm):
            raise self._exploded("a gradient")
        if norm > limit:
            for master in self._masters.masters:
                if master.grad is not None:
                    master.grad.mul_(limit / norm)
        return norm

    def _exploded(self, what: str) -> ModelError:
        return ModelError(
            f"{what} is not finite at step {self.state.global_step}",
            "Lower train.learning_rate, or set model.dtype: float32.",
        )

    def check_finite(self) -> None:
        """Check that all trained weights are finite.

        Raises:
            ModelError: one of them is not.
        """
        if self._masters is not None and not self._masters.finite:
            raise self._exploded("a weight")

    def log(self, logs: dict[str, Any], start_time: float | None = None) -> None:
        """Log a step, with the figures of the objective."""
        counted = self._tally.take() if "loss" in logs else {}
        super().log({**logs, TALLY: counted} if counted else logs, start_time)

    def _nested_gather(self, tensors: Any, name: str | None = None) -> Any:
        """The loss as it is, since `training_step` has summed it over the processes."""
        return tensors

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted here."""
        return 0

    def store_flos(self) -> None:
        """Do nothing, since they are not counted. Processes would exchange them."""

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Within the block, parameters and the optimizer's state are whole. Every process must enter it."""
        assert self._masters is not None
        with gathered(self.model), self._masters.whole():
            yield

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        self.check_finite()
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(self.model, PeftModel):
            self.model.save_pretrained(folder)
            save_pause(self.model, folder)
            save_heads(self.model, folder)
        else:  # with names as in memory, since `save_pretrained` splits layers that some families fuse
            save_model(self.model, str(folder / WEIGHTS))
        self._plan.save(folder, self.state.global_step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        if not is_sharded(self.model):  # else the optimizer's masters, which are loaded next, give every weight
            self._load_weights(folder)
        self._plan.load(folder)

    def _load_weights(self, folder: Path) -> None:
        if isinstance(self.model, PeftModel):
            set_peft_model_state_dict(self.model, load_file(folder / ADAPTER_WEIGHTS))
            load_pause(self.model, folder)
            for purpose in PURPOSES:
                if head_of(self.model, purpose) is not None:
                    load_head(self.model, folder, purpose)
        else:
            load_model(self.model, folder / WEIGHTS)
