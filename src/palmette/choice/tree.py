"""Items as prefix trees over tokens: sequences are joined by the tokens that they begin with in common."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from palmette.choice.encoding import EncodedItem, Scored, Tokens
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment


def common_length(sequences: Sequence[Tokens]) -> int:
    """How many tokens all sequences begin with in common.

    >>> common_length([(5, 6, 7), (5, 6), (5, 6, 8, 9)])
    2
    """
    first, last = min(sequences), max(sequences)  # in dictionary order, the two that have the least in common
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))


def token_tree(name: str, sequences: Sequence[Tokens], trunk: int = 0) -> PrefixTree:
    """A tree that holds every token that sequences begin with in common once.

    A node is named by the indices of the sequences that end in it.

    >>> tree = token_tree("a", [(5, 6, 7), (5, 6, 8, 9), (5, 6, 8)], trunk=1)
    >>> [part.tokens for part in tree.root.segments], tree.num_tokens
    ([(5,), (6,)], 5)
    >>> [(node.name, [part.tokens for part in node.segments]) for node in tree.root.children]
    [('0', [(7,)]), ('2', [(8,)])]
    >>> tree.root.children[1].children[0].name
    '1'

    Args:
        name: the name of the tree.
        sequences: the sequences.
        trunk: so many tokens from the start are a segment of their own, which other trees may share.
    """
    root = _node(list(enumerate(sequences)), 0)
    tokens = root.segments[0].tokens if root.segments else ()
    segments = tuple(Segment(part) for part in (tokens[:trunk], tokens[trunk:]) if part)
    return PrefixTree(Node(segments, root.children, root.name), name)


def _node(group: list[tuple[int, Tokens]], start: int) -> Node:
    """The node of sequences that have their first `start` tokens in common."""
    end = start + common_length([tokens[start:] for _, tokens in group])
    ended = [index for index, tokens in group if len(tokens) == end]
    below: dict[int, list[tuple[int, Tokens]]] = {}
    for index, tokens in group:
        if len(tokens) > end:
            below.setdefault(tokens[end], []).append((index, tokens))
    tokens = group[0][1][start:end]
    children = tuple(_node(part, end) for part in below.values())
    return Node((Segment(tokens),) if tokens else (), children, ",".join(map(str, ended)))


def trees_of(items: Sequence[EncodedItem]) -> tuple[list[PrefixTree], dict[str, tuple[Scored, ...]]]:
    """The trees of items. Those of a subject share the tokens that all of them begin with.

    Returns:
        The trees, and the sequences of each tree by its name.
    """
    of_subject: dict[str, list[Tokens]] = {}
    for item in items:
        of_subject.setdefault(item.subject, []).extend(choice.tokens for choice in item.choices)
    trunks = {subject: common_length(tokens) for subject, tokens in of_subject.items()}
    trees: list[PrefixTree] = []
    sequences: dict[str, tuple[Scored, ...]] = {}
    for number, item in enumerate(items):
        trunk = trunks[item.subject]
        for name, scored, shared in ((f"{number}", item.choices, trunk), (f"{number} alone", item.alone, 0)):
            if scored:
                sequences[name] = scored
                trees.append(token_tree(name, [one.tokens for one in scored], shared))
    return trees, sequences
