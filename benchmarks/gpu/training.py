"""Training steps of models of real shapes: tokens a second, share of the card's peak, and memory beside the plan.

Steps are those of every stage (`TreeTrainer`), on random weights and tokens, with LoRA on all linear layers. The share
of the peak counts what a step needs (`counts.work`) over what square matrix products reach here, so activations that
are computed again count for nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from counts import count_layouts, work
from side import memory_peak, now
from train import matmul_peak, setting_lines
from transformers import TrainerCallback

from gpu.attention import LIMITS
from gpu.parts import Row, Skipped, each, free_memory
from gpu.shapes import device, one_by_one, random_model, random_trees, shape
from palmette.config.recipes import Recipe
from palmette.config.sections import TrainSection
from palmette.errors import ModelError
from palmette.model.attention import skips_hidden
from palmette.model.flex import use_flex
from palmette.model.forward import branch_logprobs, score_tokens
from palmette.model.loading import add_lora
from palmette.model.outline import outline_of_config
from palmette.model.quantize import quantization_config
from palmette.studies.planning.memory import GIB, Method, PlannedWork, longest_context, memory_need
from palmette.studies.planning.plan import ROOM
from palmette.train.loop import training_arguments
from palmette.train.steps.plan import StepPlan
from palmette.train.steps.step import TreeTrainer
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import PrefixTree

RANK, STEPS = 16, 3
TOKENS_PER_BATCH = 8192
# About a paragraph of SQuAD v2 with its questions.
PARAGRAPH = {"document": 320, "questions": 9, "question": 36, "learned": 9}
_TINY = {"document": 40, "questions": 3, "question": 8, "learned": 3}


@dataclass
class Subject:
    """A model with an adapter, as it is trained.

    Attributes:
        name: its size and dtype, in words.
        config: its configuration.
        model: the model.
        quantized: whether the base is in 4 bits.
        tiny: whether all shapes are tiny.
    """

    name: str
    config: Any
    model: Any
    quantized: bool
    tiny: bool

    @property
    def work(self) -> Callable[[dict[str, int]], int]:
        """Floating-point operations of a step, by what it holds. Weights in 4 bits count as those that they stand
        for.
        """
        with torch.device("meta"):
            meta = _adapted(random_model(self.config, torch.float32, "meta"))
        return lambda count: work(meta, count)


def measure(size: str, tiny: bool) -> Iterator[Row]:
    """A model in bfloat16: a step, its memory, and trees beside one row a question."""
    subject = prepare(size, tiny, quantized=False)
    yield from each(
        [
            ("steps", partial(rates, subject)),
            ("one row a question", partial(against_rows, subject)),
            *((f"memory, {part}", partial(memory, subject, part)) for part in (False, True)),
        ]
    )


def measure_quantized(size: str, tiny: bool) -> Iterator[Row]:
    """A model in 4 bits: a step, and its memory."""
    subject = prepare(size, tiny, quantized=True)
    yield from each(
        [
            ("steps", partial(rates, subject)),
            *((f"memory, {part}", partial(memory, subject, part)) for part in (False, True)),
        ]
    )


def measure_machine(tiny: bool) -> Iterator[Row]:
    """Versions, machine, and the operations a second that square matrix products reach."""
    for line in setting_lines():
        yield Row("setting", None, "", line)
    for dtype in (torch.bfloat16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        yield Row(f"matrix products, {name}", matmul_peak(dtype, small=tiny) / 1e12, "TFLOP/s")


def prepare(size: str, tiny: bool, *, quantized: bool) -> Subject:
    """A model of random weights with an adapter.

    Raises:
        Skipped: it does not fit, or it is to be in 4 bits and cannot be.
    """
    config, dtype = shape(size, tiny=tiny), torch.float32 if tiny else torch.bfloat16
    room = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 1 << 62
    need = dtype.itemsize * outline_of_config(config).num_parameters
    if need > ROOM * room:
        raise Skipped(f"the weights take {need / GIB:.1f} GiB, and {room / GIB:.1f} are free")
    model = random_model(config, dtype, device())
    if quantized:
        quantize(model, dtype)
    model = _adapted(model)
    use_flex(model, device(), required=False)
    name = f"{size}{' (tiny)' if tiny else ''}, {'4 bits' if quantized else str(dtype).removeprefix('torch.')}"
    return Subject(name, config, model, quantized, tiny)


def _adapted(model: Any) -> Any:
    return add_lora(model, rank=RANK, alpha=32, dropout=0.0, targets="all-linear")


def quantize(model: Any, dtype: torch.dtype) -> None:
    """Put the linear layers of a model into 4 bits, one after the other, as bitsandbytes does when it loads one.

    Raises:
        Skipped: this cannot be had here.
    """
    try:
        settings = quantization_config(device(), dtype, "4bit")
    except ModelError as error:
        raise Skipped(error.problem) from error
    import bitsandbytes

    head = model.get_output_embeddings()
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, torch.nn.Linear) or layer is head:
            continue
        narrow = bitsandbytes.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=False,
            compute_dtype=dtype,
            compress_statistics=settings.bnb_4bit_use_double_quant,
            quant_type=settings.bnb_4bit_quant_type,
            device="meta",
        )
        narrow.weight = bitsandbytes.nn.Params4bit(
            layer.weight.data,
            requires_grad=False,
            compress_statistics=settings.bnb_4bit_use_double_quant,
            quant_type=settings.bnb_4bit_quant_type,
            module=narrow,
        ).to(device())
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, narrow)
    model.is_loaded_in_4bit = True
    free_memory()


def rates(subject: Subject) -> Iterator[Row]:
    """Steps of paragraphs with their questions, without and with checkpointing."""
    peak = matmul_peak(subject.model.dtype, small=subject.tiny)
    plan = plan_of(subject, paragraphs(subject))
    count = count_layouts([row for batch in plan.step_batches(0, 0) for row in batch.rows])
    for checkpointing in (False, True):
        name = f"{subject.name}, steps of {count['tokens']} tokens{', checkpointing' if checkpointing else ''}"
        times = steps(subject, plan, checkpointing=checkpointing)
        yield Row(f"{name}: first step", times[0], "s", "kernels are compiled")
        yield Row(f"{name}: rate", count["tokens"] / times[-1], "tokens/s")
        yield Row(f"{name}: questions", count["questions"] / times[-1], "questions/s")
        yield Row(f"{name}: share of the peak", 100 * subject.work(count) / times[-1] / peak, "%")


def paragraphs(subject: Subject) -> list[PrefixTree]:
    """The trees of a step."""
    sizes = _TINY if subject.tiny else PARAGRAPH
    return random_trees(2 if subject.tiny else 16, **sizes, vocabulary=subject.config.vocab_size)


def plan_of(subject: Subject, trees: Sequence[PrefixTree]) -> StepPlan:
    """All trees in one step, as the stages plan it."""
    longest = max(tree.num_tokens for tree in trees)
    return StepPlan(
        trees,
        trees_per_step=len(trees),
        row_tokens=max(TOKENS_PER_BATCH, longest),
        tokens_per_batch=TOKENS_PER_BATCH,
        seed=0,
        one_row=skips_hidden(subject.model),
    )


class RowPlan:
    """A step of trees that each stand in a row of their own, longest first.

    Args:
        trees: the trees.
    """

    steps_per_epoch = 1

    def __init__(self, trees: Sequence[PrefixTree]) -> None:
        ordered = sorted(trees, key=lambda tree: -tree.num_tokens)
        size = max(1, TOKENS_PER_BATCH // ordered[0].num_tokens)
        parts = (ordered[start : start + size] for start in range(0, len(ordered), size))
        self._batches = [PackedBatch.from_trees([[tree] for tree in part]) for part in parts]

    def step_batches(self, epoch: int, step: int) -> list[PackedBatch]:  # noqa: ARG002
        """The batches of the step, which is the same in each epoch."""
        return self._batches

    def save(self, folder: Path, step: int) -> None:
        """Write nothing."""

    def load(self, folder: Path) -> None:
        """Read nothing."""


class Times(TrainerCallback):  # type: ignore[misc]
    """Notes when steps end."""

    def __init__(self) -> None:
        self.at = [now()]

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Note the time, when all is computed."""
        self.at.append(now())


def steps(subject: Subject, plan: StepPlan | RowPlan, *, checkpointing: bool) -> list[float]:
    """Train for a few steps.

    Returns:
        Seconds of the first step, and of the fastest one after it.
    """
    with suppress(AttributeError):
        subject.model.activation_checkpointing_disable()
    with tempfile.TemporaryDirectory() as folder:
        section = TrainSection(epochs=1 + STEPS, gradient_checkpointing=checkpointing, learning_rate=1e-4)
        arguments = training_arguments(Recipe(output=folder, train=section), Path(folder), 1 + STEPS)
        arguments.save_strategy, arguments.logging_strategy = "no", "no"
        times = Times()
        TreeTrainer(subject.model, arguments, plan, callbacks=[times]).train()
    taken = [after - before for before, after in zip(times.at, times.at[1:], strict=False)]
    return [taken[0], min(taken[1:])]


def against_rows(subject: Subject) -> Iterator[Row]:
    """Questions a second of trees over those of one row a question. Both must give the same log-probabilities."""
    trees = paragraphs(subject)
    plans: dict[str, StepPlan | RowPlan] = {
        "trees": plan_of(subject, trees),
        "one row a question": RowPlan(one_by_one(trees)),
    }
    values = [torch.tensor(values_of(subject, plan), dtype=torch.float64) for plan in plans.values()]
    error = float((values[0] - values[1]).norm() / (values[1] - values[1].mean()).norm())
    limit = LIMITS[subject.model.dtype]
    yield Row(f"{subject.name}: trees against rows", error, "relative error", f"limit {limit:g}", ok=error <= limit)
    found = {name: len(values[0]) / steps(subject, plan, checkpointing=False)[-1] for name, plan in plans.items()}
    for name, rate in found.items():
        yield Row(f"{subject.name}: {name}", rate, "questions/s")
    yield Row(f"{subject.name}: trees over rows", found["trees"] / found["one row a question"], "times")


@torch.no_grad()
def values_of(subject: Subject, plan: StepPlan | RowPlan) -> list[float]:
    """The log-probability of each question's learned tokens, in the order of the questions' names."""
    found: dict[str, float] = {}
    for batch in plan.step_batches(0, 0):
        moved = batch.to(device())
        rows = branch_logprobs(moved, score_tokens(subject.model.eval(), moved))
        found |= {leaf: float(value) for row in rows for (_, leaf), value in row.items()}
    return [found[name] for name in sorted(found)]


def memory(subject: Subject, checkpointing: bool) -> Iterator[Row]:
    """The peak of a step of one long row, beside the arithmetic of `palmette plan`."""
    outline, gpu = outline_of_config(subject.config), torch.cuda.is_available()
    method: Method = "qlora" if subject.quantized else "lora"
    job = PlannedWork(method, "gpu" if gpu else "cpu", 256, checkpointing, 300, RANK, subject.model.dtype.itemsize)
    room = torch.cuda.get_device_properties(0).total_memory if gpu else 8 * GIB
    fitting = longest_context(outline, job, int(ROOM * room))
    job = replace(job, context=min(256 if subject.tiny else 8192, fitting))
    name = f"{subject.name}, a row of {job.context} tokens{', checkpointing' if checkpointing else ''}: peak"
    if job.context < 256:
        yield Row(name, None, "", "by the plan, not even 256 tokens fit")
        return
    question = 60 if subject.tiny else 100
    trees = random_trees(
        1,
        document=job.context - 3 * question,
        questions=3,
        question=question,
        learned=question if subject.tiny else 100,
        vocabulary=subject.config.vocab_size,
    )
    free_memory()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    steps(subject, plan_of(subject, trees), checkpointing=checkpointing)
    if gpu:
        free, total = torch.cuda.mem_get_info()
        context = total - free - torch.cuda.memory_reserved()
        peak = torch.cuda.max_memory_reserved() + context
        yield Row(f"{name} of tensors", memory_peak() / GIB, "GiB")
    else:
        peak = memory_peak()
    planned = memory_need(outline, job).total
    difference = f"planned {planned / GIB:.2f}, {100 * (planned / peak - 1):+.0f} %"
    yield Row(name, peak / GIB, "GiB", difference)
