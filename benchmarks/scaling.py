"""What training on the whole of SQuAD v2 would take on 1, 8 and 64 GPUs: a simulation, not a measurement.

    python benchmarks/scaling.py SQUAD.json [...] [--peak 989e12] [--share 0.35] [--bandwidth 25e9]

Documents of the files are drawn with replacement until there are as many as in SQuAD v2's training set. Their trees go
through the plan of training (`processes.balanced`): each step's time is that of the process with the most tokens, plus
the time in which the gradients are summed. So the table shows what steps of uneven documents cost on many processes.
Time and memory of one GPU rest on arithmetic: operations of the linear layers and of attention, at a share of the
card's peak that is assumed, and `palmette plan`'s memory.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

from transformers import LlamaConfig

from palmette import processes
from palmette.data.source import read_source
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.outline import Outline, outline_of_config
from palmette.model.tokenizer import load_tokenizer
from palmette.studies.planning.memory import PlannedWork, memory_need
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.chat import ChatTemplate

PARAGRAPHS = 19_035  # of SQuAD v2's training set (Rajpurkar et al., 2018), with 130,319 questions
EPOCHS, TREES_PER_STEP, RANK, CONTEXT = 2, 128, 16, 4096
SHAPES = {  # layers, hidden size, MLP, heads, key heads: Llama 3.2 1B, 3.1 8B and 70B
    "1B": (16, 2048, 8192, 32, 8),
    "8B": (32, 4096, 14336, 32, 8),
    "70B": (80, 8192, 28672, 64, 8),
}
GPUS = (1, 8, 64)


@dataclass(frozen=True)
class Card:
    """A GPU.

    Attributes:
        peak: operations a second in bfloat16.
        share: the share of the peak that training reaches.
        bandwidth: bytes a second between processes.
    """

    peak: float
    share: float
    bandwidth: float


def outline(name: str) -> Outline:
    """A Llama of this size."""
    layers, hidden, mlp, heads, key_heads = SHAPES[name]
    return outline_of_config(
        LlamaConfig(
            vocab_size=128_256,
            num_hidden_layers=layers,
            hidden_size=hidden,
            intermediate_size=mlp,
            num_attention_heads=heads,
            num_key_value_heads=key_heads,
            tie_word_embeddings=name == "1B",
        )
    )


def operations(model: Outline, depth: float) -> float:
    """Operations for a token of a tree, with a frozen base under an adapter, and with gradient checkpointing.

    Two for each weight in the forward pass, in the one that is computed again, and for the gradient of the inputs.
    Attention needs four for each value of a query and each token that it sees, and eight in the backward pass.

    Args:
        model: the model.
        depth: tokens that a token sees on average.
    """
    linear = 6 * model.linear_parameters
    return linear + 16 * model.num_layers * model.num_heads * model.head_size * depth


def seconds(tokens: list[int], model: Outline, card: Card, depth: float, gpus: int) -> tuple[float, float]:
    """Seconds of an epoch, and the share of them in which a process computes on average.

    Args:
        tokens: tokens of each tree, in the order of the epoch.
        model: the model.
        card: the GPU.
        depth: as for `operations`.
        gpus: number of processes.
    """
    pace = card.peak * card.share / operations(model, depth)
    gradients = 4 * RANK * model.linear_width * 2 * (gpus - 1) / gpus / card.bandwidth  # a ring
    total = busy = 0.0
    for first in range(0, len(tokens), TREES_PER_STEP):
        step = tokens[first : first + TREES_PER_STEP]
        shares = [sum(step[index] for index in part) for part in processes.balanced(step, gpus)]
        total += max(shares) / pace + gradients
        busy += sum(step) / gpus / pace
    return total, busy / total


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="+", help="files in SQuAD's format")
    parser.add_argument("--peak", type=float, default=989e12, help="operations a second (an H100 or H200 in bfloat16)")
    parser.add_argument("--share", type=float, default=0.35, help="share of the peak, assumed")
    parser.add_argument("--bandwidth", type=float, default=25e9, help="bytes a second between processes, assumed")
    options = parser.parse_args()
    card = Card(options.peak, options.share, options.bandwidth)
    task = ExtractiveQa(ChatTemplate(load_tokenizer(DEFAULT_MODEL)))
    documents = [one for file in options.files for one in read_source(file).documents]
    trees = [task.training_tree(document) for document in documents]
    drawn = random.Random(0).choices(range(len(trees)), k=PARAGRAPHS)
    tokens = [trees[index].num_tokens for index in drawn]
    rows = sum(len(documents[index].questions) for index in drawn)
    # A question's row is the document and the question. Trees hold the document once.
    alone = [len(document.questions) * len(task.template.encoder.content(document.text)) for document in documents]
    names = ", ".join(Path(file).name for file in options.files)
    print(f"{len(documents)} documents of {names}, drawn {PARAGRAPHS} times: {rows:,} questions")
    print(f"{sum(tokens):,} tokens an epoch in trees")
    print(f"{sum(alone[index] for index in drawn):,} in rows of one question, for the documents alone")
    depth = sum(tokens) / len(tokens) / 2
    print(f"{'model':>5} {'GPUs':>5} {'minutes':>8} {'computing':>10} {'GB, LoRA':>9} {'GB, QLoRA':>10}")
    for name in SHAPES:
        model = outline(name)
        memory = [
            memory_need(model, PlannedWork(method, "gpu", CONTEXT, checkpointing=True, rank=RANK)).total / 1e9
            for method in ("lora", "qlora")
        ]
        for gpus in GPUS:
            epoch, busy = seconds(tokens, model, card, depth, gpus)
            print(f"{name:>5} {gpus:>5} {EPOCHS * epoch / 60:8.1f} {busy:10.0%} {memory[0]:9.1f} {memory[1]:10.1f}")


if __name__ == "__main__":
    main()
