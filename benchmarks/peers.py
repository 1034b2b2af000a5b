"""One side of `benchmarks/train.py`, in a process of its own: Palmette's trainer, or TRL's SFTTrainer in a setting given by name.

Both start from the same weights and the same fresh LoRA matrices, in the same dtype, and meet the same questions in the same
optimizer steps, as the same tokens with the same ones learned: both take them from `ExtractiveQa`, and hand back a hash of what they
train on. Learning rate, schedule, clipping and seed come from one recipe.

TRL 1.16.0, and what was chosen where it leaves a choice (names are those of its sources):

- Data: `input_ids` and `labels`, what `SFTTrainer._prepare_dataset` makes of prompts and completions with the loss on completions
  only; `max_length=None`, since it would cut off questions at 1,024 tokens.
- Order: "sequential" through examples that are laid out step by step, and by length within a step. Each micro-batch then holds
  examples of nearly one length (usually of one document). `group_by_length` can do no better within a step, and would put other
  examples into the steps than Palmette's.
- `padded:N`: micro-batches of N examples, with gradient accumulation up to the step.
- `free:N`: `padding_free=True`, N examples one after the other in one row. On a CPU this keeps them apart: the collator gives positions
  that begin anew and no attention mask, from which `transformers.masking_utils.find_packed_sequence_indices` makes a mask of
  blocks. But the scores of the whole square are computed, so the cost grows with the square of the row. `packing=True` runs the
  same way; it also puts examples of different steps into a row, and the number of examples in a step is then no longer fixed.
- Off: gradient checkpointing (on by default; it computes the forward pass twice) and autocast (`bf16=True` by default; the weights
  have the dtype already, casting them again only costs).
- The stock "sdpa" attention, which takes the fast causal path where no row is padded.
- Optimizer: the default `adamw_torch_fused`, on the LoRA matrices in their own dtype. Palmette keeps float32 masters of these; on
  TRL's side, updates that are small against a bfloat16 weight are lost.
- The output layer: on a CPU `add_fused_lm_head` scores all positions, learned or not (`compact = _use_triton(...)`), and multiplies
  in float32 on the way back. No setting changes that. `:learned-head` after a setting patches this one line, to show how much of the
  difference it makes.

    python benchmarks/peers.py JOB.json     # as benchmarks/train.py does
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback, TrainerState, set_seed

from palmette.config import DataSection, ModelSection, Recipe, TrainSection
from palmette.data.source import read_source
from palmette.model.attention import BACKENDS
from palmette.model.loading import add_lora, load_model, load_tokenizer
from palmette.tasks.extractive_qa import ExtractiveQa, training_trees
from palmette.train.plan import StepPlan
from palmette.train.sft import prepare, training_arguments
from palmette.train.step import TreeTrainer, nll_objective
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import Layout, Node, PrefixTree, lay_out

PALMETTE = "palmette"
ROW_TOKENS = 8192
# What TRL is given just as the recipe says it.
SHARED = (
    "learning_rate",
    "weight_decay",
    "lr_scheduler_type",
    "warmup_steps",
    "max_grad_norm",
    "seed",
    "num_train_epochs",
)
Row = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Job:
    """What a side is asked to do.

    Attributes:
        side: "palmette", or a setting of TRL such as "padded:8" (see the module).
        model: the model's name.
        data: SQuAD file of the documents to train on.
        held_out: SQuAD file of the documents that the loss is measured on afterwards.
        folder: where the trainer may write.
        documents: documents of one optimizer step.
        warmup: optimizer steps before the first turn.
        steps: optimizer steps of a turn.
    """

    side: str
    model: str
    data: str
    held_out: str
    folder: str
    documents: int
    warmup: int
    steps: int

    def recipe(self) -> Recipe:
        """The recipe that both sides follow; what is not said here has its default."""
        return Recipe(
            output=str(Path(self.folder) / "run"),
            model=ModelSection(name=self.model),
            data=DataSection(train=[self.data]),
            train=TrainSection(epochs=1, trees_per_step=self.documents, row_tokens=ROW_TOKENS),
        )


@dataclass(frozen=True)
class Side:
    """A trainer that is ready to start, what each of its steps holds (see `count_layouts`), and a hash of it all."""

    trainer: Any
    model: Any
    counts: list[dict[str, int]]
    rows_sha256: str


class Channel:
    """Lines to and from the process that started this one. What libraries print goes to the error stream."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, **values: Any) -> None:
        """Send one message."""
        print(json.dumps(values), file=self._out, flush=True)

    def wait(self) -> None:
        """Sleep until told to go on."""
        if not sys.stdin.readline():
            raise SystemExit("nobody is waiting for this any more")


class Turns(TrainerCallback):  # type: ignore[misc]
    """Trains for one turn at a time: after the warm-up and after each turn, says how it went and waits."""

    def __init__(self, job: Job, channel: Channel) -> None:
        self._job, self._channel = job, channel
        self._setup: float | None = None
        self._started = self._inside = 0.0
        self.steps: list[dict[str, int]] = []

    def watch(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The same method, its time added to that of forward and backward."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            started = now()
            result = method(*args, **kwargs)
            self._inside += now() - started
            return result

        return watched

    def on_step_begin(self, _args: Any, _state: TrainerState, _control: Any, **_kwargs: Any) -> None:
        """Note how long it took from the start of the process to the first step."""
        if self._setup is None:
            self._setup = time.time() - psutil.Process().create_time()

    def on_step_end(self, _args: Any, state: TrainerState, _control: Any, **_kwargs: Any) -> None:
        """Report and wait where a turn ends."""
        done = state.global_step - self._job.warmup
        if done < 0 or done % self._job.steps:
            return
        if done == 0:
            self._channel.send(setup=self._setup)
        else:
            seconds, memory = now() - self._started, memory_now()
            steps = self.steps[state.global_step - self._job.steps : state.global_step]
            held = {name: sum(step[name] for step in steps) for name in steps[0]}
            self._channel.send(seconds=seconds, forward_backward=self._inside, memory=memory, **held)
        self._channel.wait()
        self._inside, self._started = 0.0, now()


def now() -> float:
    """Seconds, after whatever an accelerator still has to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def memory_now() -> int:
    """Bytes of resident memory; on an accelerator, bytes allocated there."""
    return int(torch.cuda.memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss)


def memory_peak() -> int:
    """The most that `memory_now` has been in this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    # Not getrusage: on Linux its maximum passes from a process to those that it starts.
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("the peak of resident memory is read from VmHWM in /proc/self/status, which is not here")


def palmette_side(job: Job, turns: Turns) -> Side:
    """Palmette's trainer, as `palmette train sft` sets it up."""
    recipe = job.recipe()
    ready = prepare(recipe, lambda line: print(line, file=sys.stderr), None)
    arguments = training_arguments(recipe, Path(job.folder))
    arguments.save_strategy = "no"
    model = ready.loaded.model
    trainer = TreeTrainer(model, arguments, ready.plan, callbacks=[turns])
    steps = [[lay_out(tree) for tree in step] for step in steps_of(ready.plan)]
    counts = [count_layouts(step) for step in steps]
    return Side(trainer, model, counts, rows_sha256(row for step in steps for one in step for row in layout_rows(one)))


def trl_side(job: Job, turns: Turns) -> Side:
    """TRL's trainer in the setting that the job names."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    kind, size, *extra = job.side.split(":")
    recipe = job.recipe()
    loaded = load_model(job.model)
    trees = training_trees(ExtractiveQa(ChatTemplate(loaded.tokenizer)), read_source(job.data).documents)
    train = recipe.train
    plan = StepPlan(
        trees,
        trees_per_step=train.trees_per_step,
        row_tokens=train.row_tokens,
        tokens_per_batch=train.tokens_per_batch,
        seed=train.seed,
    )
    set_seed(train.seed)
    model = add_lora(loaded.model, **recipe.lora.model_dump())
    model.get_base_model().set_attn_implementation("sdpa")
    steps = [
        sorted((row for tree in step for row in tree_rows(tree)), key=lambda row: (-len(row[0]), row))
        for step in steps_of(plan)
    ]
    rows = [row for step in steps for row in step]
    shared = training_arguments(recipe, Path(job.folder))
    config = SFTConfig(
        output_dir=job.folder,
        **{name: getattr(shared, name) for name in SHARED},
        per_device_train_batch_size=int(size),
        gradient_accumulation_steps=accumulation([len(step) for step in steps], int(size)),
        train_sampling_strategy="sequential",
        padding_free=kind == "free",
        max_length=None,
        bf16=False,
        gradient_checkpointing=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if extra == ["learned-head"]:
        import trl.trainer.utils

        trl.trainer.utils._use_triton = lambda _device: True
    data = Dataset.from_dict({"input_ids": [list(row[0]) for row in rows], "labels": [list(row[1]) for row in rows]})
    trainer = SFTTrainer(model, config, train_dataset=data, processing_class=loaded.tokenizer, callbacks=[turns])
    return Side(trainer, model, [count_rows(step) for step in steps], rows_sha256(rows))


def accumulation(sizes: list[int], micro_batch: int) -> int:
    """Micro-batches of a step; all steps must have so many whole ones."""
    if len(set(sizes)) != 1 or sizes[0] % micro_batch:
        raise SystemExit(f"steps of {sorted(set(sizes))} questions cannot be cut into micro-batches of {micro_batch}")
    return sizes[0] // micro_batch


def steps_of(plan: StepPlan) -> list[list[PrefixTree]]:
    """The trees of each optimizer step of the first epoch."""
    return [[plan.trees[i] for i in plan.step_trees(0, step)] for step in range(plan.steps_per_epoch)]


def tree_rows(tree: PrefixTree) -> list[Row]:
    """Each branch as a row of its own: its tokens, and its labels (-100 where nothing is learned)."""

    def below(node: Node, above: Row) -> Iterator[Row]:
        tokens, labels = above
        for segment in node.segments:
            if not segment.attend or segment.learn not in (0.0, 1.0):
                raise SystemExit("a plain row can only hold tokens that are attended to, with learn weights 0 and 1")
            tokens += segment.tokens
            labels += segment.tokens if segment.learn else (-100,) * len(segment.tokens)
        if not node.children:
            yield tokens, labels
        for child in node.children:
            yield from below(child, (tokens, labels))

    return list(below(tree.root, ((), ())))


def layout_rows(row: Layout) -> Iterator[Row]:
    """The branches of a laid-out tree, read back from its predictors."""
    last = {node: index for index, node in enumerate(row.node)}
    for leaf in sorted(set(last) - set(row.parents)):
        chain, index = [], last[leaf]
        while index >= 0:
            chain.append(index)
            index = row.predictor[index]
        chain.reverse()
        yield tuple(row.token[i] for i in chain), tuple(row.token[i] if row.learn[i] else -100 for i in chain)


def rows_sha256(rows: Iterable[Row]) -> str:
    """Hash of tokens and labels, whatever their order."""
    digests = sorted(hashlib.sha256(repr(row).encode()).hexdigest() for row in rows)
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def count_layouts(trees: list[Layout]) -> dict[str, int]:
    """What a step of trees holds: questions, tokens, pairs of a token and one that it looks at (all before it on its branch, and
    itself), learned tokens. Padding is left out.
    """
    return {
        "questions": sum(len(set(tree.node) - set(tree.parents)) for tree in trees),
        "tokens": sum(len(tree) for tree in trees),
        "pairs": sum(position + 1 for tree in trees for position in tree.position),
        "learned": sum(weight != 0 for tree in trees for weight in tree.learn),
    }


def count_rows(rows: list[Row]) -> dict[str, int]:
    """What a step of plain rows holds, as `count_layouts` has it."""
    return {
        "questions": len(rows),
        "tokens": sum(len(tokens) for tokens, _ in rows),
        "pairs": sum(len(tokens) * (len(tokens) + 1) // 2 for tokens, _ in rows),
        "learned": sum(label != -100 for _, labels in rows for label in labels),
    }


def work(model: Any, count: dict[str, int]) -> int:
    """Floating-point operations that one step needs; what is computed beyond that (padding, hidden scores) counts for nothing.

    Each token takes 2 operations for each weight of the linear layers in the forward pass, and 2 for the gradient of its input;
    each weight that is trained takes 2 more. Each pair of a token and one that it looks at takes 4 x layers x heads x size
    of a head in the forward pass (scores, weighted values) and twice that in the backward pass. The output layer takes 4 x
    vocabulary x hidden for each learned token. The embedding, norms and the softmax are left out.
    """
    config = model.config.get_text_config()
    ends = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in ends]
    frozen = sum(p.numel() for p in matrices if not p.requires_grad)
    trained = sum(p.numel() for p in matrices if p.requires_grad)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 12 * config.num_hidden_layers * config.num_attention_heads * head_size
    output = 4 * config.vocab_size * config.hidden_size
    linear = count["tokens"] * (4 * frozen + 6 * trained)
    return int(linear + count["pairs"] * attention + count["learned"] * output)


@torch.no_grad()
def held_out_losses(model: Any, source: str, tokenizer_of: str) -> tuple[float, float]:
    """Loss on the held-out questions without the adapter and with it (nats per learned token), by the same code on both sides."""
    model.get_base_model().set_attn_implementation(BACKENDS["sdpa"])
    model.eval()
    task = ExtractiveQa(ChatTemplate(load_tokenizer(tokenizer_of)))
    trees = training_trees(task, read_source(source).documents)
    plan = StepPlan(trees, trees_per_step=len(trees), row_tokens=ROW_TOKENS, tokens_per_batch=4096, seed=0)
    batches = [batch.to(model.device) for batch in plan.step_batches(0, 0)]
    denominator = sum(batch.learn_weight for batch in batches)

    def loss() -> float:
        return sum(float(nll_objective(model, batch, denominator)) for batch in batches)

    with model.disable_adapter():
        untouched = loss()
    return untouched, loss()


def main() -> None:
    """Run one side, turn by turn."""
    channel = Channel()
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    turns = Turns(job, channel)
    side = (palmette_side if job.side == PALMETTE else trl_side)(job, turns)
    turns.steps = [{"flops": work(side.model, count), **count} for count in side.counts]
    side.trainer.training_step = turns.watch(side.trainer.training_step)
    side.trainer.train()
    peak = memory_peak()
    untouched, loss = held_out_losses(side.model, job.held_out, job.model)
    dtype = str(side.model.dtype).removeprefix("torch.")
    channel.send(peak=peak, untouched=untouched, loss=loss, rows_sha256=side.rows_sha256, dtype=dtype)


if __name__ == "__main__":
    main()
