"""Models of real shapes with random weights, and trees of random tokens. Nothing is downloaded."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from palmette.model.attention import BACKENDS
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

# Llama 3.2 1B and Llama 3 8B.
SHAPES: dict[str, dict[str, Any]] = {
    "1B": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "8B": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
}
# What stands for them on a CPU.
_TINY = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
}


def device() -> str:
    """Where everything is computed."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def shape(size: str, *, tiny: bool, **changes: Any) -> LlamaConfig:
    """The configuration of a Llama.

    Args:
        size: "1B" or "8B".
        tiny: whether a tiny model stands for it.
        changes: values in place of those of the shape.
    """
    keys = {**SHAPES[size], **(_TINY if tiny else {}), **changes}
    return LlamaConfig(**keys, max_position_embeddings=131072, rope_theta=500000.0, eos_token_id=0, bos_token_id=0)


def random_model(config: LlamaConfig, dtype: torch.dtype, where: str) -> Any:
    """A model with random weights, made on the device itself."""
    torch.manual_seed(0)
    with torch.device(where):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=BACKENDS["sdpa"])
    return model.eval()


def random_trees(
    count: int, *, document: int, questions: int, question: int, learned: int, vocabulary: int
) -> list[PrefixTree]:
    """Documents with questions, of random tokens.

    Args:
        count: number of trees.
        document: tokens of a document.
        questions: questions of a document.
        question: tokens of a question with its answer.
        learned: tokens of these that are learned, the last ones.
        vocabulary: number of tokens to draw from.
    """
    draw = random.Random(0)

    def segment(length: int, learn: float = 0.0) -> Segment:
        return Segment(tuple(draw.randrange(1, vocabulary) for _ in range(length)), learn=learn)

    def tree(number: int) -> PrefixTree:
        branches = tuple(
            Node((segment(question - learned), segment(learned, 1.0)), name=f"{number}-{index}")
            for index in range(questions)
        )
        return PrefixTree(Node((segment(document),), branches), f"{number}")

    return [tree(number) for number in range(count)]


def one_by_one(trees: Sequence[PrefixTree]) -> list[PrefixTree]:
    """A tree for each branch of these trees."""
    return [
        PrefixTree(Node(tree.root.segments, (branch,)), branch.name) for tree in trees for branch in tree.root.children
    ]
