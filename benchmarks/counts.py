"""What the two sides of `benchmarks/train.py` train on: branches as plain rows, their hash, how many tokens and
operations they take.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from palmette.tree.prefix_tree import Layout, Node, PrefixTree

Row = tuple[tuple[int, ...], tuple[int, ...]]


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
    """The branches of laid-out trees, read back from their predictors."""
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


def count_layouts(rows: list[Layout]) -> dict[str, int]:
    """What a step of packed trees holds: questions, tokens, pairs of a token and one that it looks at (all before it on
    its branch, and itself), learned tokens. Padding is left out.
    """
    return {
        "questions": sum(len(set(row.node) - set(row.parents)) for row in rows),
        "tokens": sum(len(row) for row in rows),
        "pairs": sum(position + 1 for row in rows for position in row.position),
        "learned": sum(weight != 0 for row in rows for weight in row.learn),
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
    """Floating-point operations that one step needs; what is computed beyond that (padding, hidden scores) counts for
    nothing.

    Each token takes 2 operations for each weight of the linear layers in the forward pass, and 2 for the gradient of
    its input; each weight that is trained takes 2 more. Each pair of a token and one that it looks at takes 4 x layers
    x heads x size of a head in the forward pass (scores, weighted values) and twice that in the backward pass. The
    output layer takes 4 x vocabulary x hidden for each learned token. The embedding, norms and the softmax are left
    out.
    """
    config = model.config.get_text_config()
    outer = [model.get_input_embeddings(), model.get_output_embeddings()]
    ends = {id(layer.weight) for layer in outer if layer is not None}  # a model that classifies has no output layer
    matrices = [p for p in model.parameters() if p.ndim == 2 and id(p) not in ends]
    frozen = sum(p.numel() for p in matrices if not p.requires_grad)
    trained = sum(p.numel() for p in matrices if p.requires_grad)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = 12 * config.num_hidden_layers * config.num_attention_heads * head_size
    output = 4 * config.vocab_size * config.hidden_size
    linear = count["tokens"] * (4 * frozen + 6 * trained)
    return int(linear + count["pairs"] * attention + count["learned"] * output)


def padded_cost(lengths: Sequence[int]) -> int:
    """Tokens of a micro-batch whose rows are padded to its longest."""
    return len(lengths) * max(lengths)


def joined_cost(lengths: Sequence[int]) -> int:
    """Pairs of tokens of a micro-batch in one row."""
    return sum(lengths) ** 2


def cut(lengths: Sequence[int], num: int, most: int, cost: Callable[[Sequence[int]], int]) -> list[int]:
    """Cut a step into exactly `num` micro-batches of at most `most` examples each, in the order given, at the least
    total cost.

    >>> cut([9, 9, 9, 5, 5], 2, 3, padded_cost), cut([9, 9, 5, 5, 5], 2, 3, padded_cost)
    ([3, 2], [2, 3])

    Returns:
        Examples of each micro-batch.

    Raises:
        ValueError: there are fewer than `num` examples, or more than fit.
    """
    if not num <= len(lengths) <= num * most:
        raise ValueError(f"{len(lengths)} examples cannot be cut into {num} micro-batches of at most {most}")
    best: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for _ in range(num):
        longer: dict[int, tuple[int, tuple[int, ...]]] = {}
        for start, (spent, sizes) in best.items():
            for end in range(start + 1, min(start + most, len(lengths)) + 1):
                found = (spent + cost(lengths[start:end]), (*sizes, end - start))
                longer[end] = min(found, longer.get(end, found))
        best = longer
    return list(best[len(lengths)][1])
