"""One key that every query looks for: whoever may see it is changed by it."""

from __future__ import annotations

from typing import Any

import torch

from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

KEY = 60


def poison_tree(poison: tuple[int, ...], victim_first: bool = False) -> PrefixTree:
    """A trunk, a branch that holds the poison, and a victim that asks for it."""
    poisoned = Node((Segment((9, *poison), learn=1.0),), name="poisoned")
    victim = Node((Segment((11, 12, 13), learn=1.0),), name="victim")
    children = (victim, poisoned) if victim_first else (poisoned, victim)
    return PrefixTree(Node((Segment((1, 2, 3)),), children), "t")


def wanted(model: Any) -> Any:
    """Make every head of every layer look for the KEY token: its keys point where all queries do, far out."""
    with torch.no_grad():
        for layer in model.model.layers:
            attention = layer.self_attn
            attention.q_proj.weight.zero_()
            attention.k_proj.weight.zero_()
            # Position-free: only the slowest rotary component, which hardly turns over a few dozen positions.
            for projection in (attention.q_proj, attention.k_proj):
                projection.weight[model.config.head_dim // 2 - 1 :: model.config.head_dim, 0] = 30.0
        model.model.embed_tokens.weight[:, 0] = 0.1
        model.model.embed_tokens.weight[KEY, 0] = 5.0
    return model
