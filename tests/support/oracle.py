"""The plain, unpacked oracle: one branch per row, shifted by one, stock attention.

It shares no code with the packing.
"""

from __future__ import annotations

from typing import Any

import torch

from palmette.tree.prefix_tree import Node, PrefixTree


def branches(node: Node, above: tuple[Node, ...] = ()) -> list[tuple[Node, ...]]:
    """Every path from the root to a leaf."""
    path = (*above, node)
    return [branch for child in node.children for branch in branches(child, path)] if node.children else [path]


def oracle(model: Any, tree: PrefixTree) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Branch log-probabilities of the learned tokens by leaf name, and the weighted sum over all learned tokens.

    A token of a shared node counts once in the weighted sum, in the first branch that holds it.
    """
    totals, weighted, counted = {}, torch.zeros((), dtype=model.dtype), set()
    for path in branches(tree.root):
        tokens, attend, learn, owner = [], [], [], []
        for node in path:
            for segment in node.segments:
                tokens += segment.tokens
                attend += [segment.attend] * len(segment.tokens)
                learn += [segment.learn] * len(segment.tokens)
                owner += [id(node)] * len(segment.tokens)
        mask = torch.ones(len(tokens), len(tokens), dtype=torch.bool).tril()
        mask &= torch.tensor(attend)[None, :] | torch.eye(len(tokens), dtype=torch.bool)
        logits = model(input_ids=torch.tensor([tokens]), attention_mask=mask[None, None], use_cache=False).logits[0]
        logprobs = torch.log_softmax(logits, dim=-1)
        total = torch.zeros((), dtype=model.dtype)
        for index in range(1, len(tokens)):
            if learn[index]:
                total = total + logprobs[index - 1, tokens[index]]
                if owner[index] not in counted:
                    weighted = weighted + learn[index] * logprobs[index - 1, tokens[index]]
        counted |= set(owner)
        totals[path[-1].name] = total
    return totals, weighted


def plain(model: Any, trees: list[PrefixTree]) -> dict[tuple[str, str], torch.Tensor]:
    """Log-probabilities of each branch's own tokens: one branch a row, shifted by one, stock attention."""
    found = {}
    for one in trees:
        for path in branches(one.root):
            prompt, completion = ([t for s in node.segments for t in s.tokens] for node in path)
            logits = model(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits[0]
            logprob = torch.log_softmax(logits, dim=-1)
            rows = torch.arange(len(prompt) - 1, len(prompt) + len(completion) - 1)
            found[one.name, path[-1].name] = logprob[rows, torch.tensor(completion)]
    return found


def flat(found: dict[tuple[str, str], torch.Tensor], names: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of these branches one after the other, and whose each is."""
    lengths = torch.tensor([len(found[name]) for name in names])
    return torch.cat([found[name] for name in names]), torch.repeat_interleave(torch.arange(len(names)), lengths)
