"""Plain sequences of segments joined into prefix trees: what they begin with alike is held once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from palmette.tree.prefix_tree import Node, PrefixTree, SegmentKey
from palmette.tree.segments import Segment

# A plain sequence: its name, and its segments.
Sequel = tuple[str, Sequence[Segment]]


@dataclass(slots=True)
class _Growing:
    """A node of one segment: those that follow it, and the sequences that end here."""

    segment: Segment
    below: dict[SegmentKey, _Growing] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


def join(sequels: Sequence[Sequel], max_tokens: int | None = None) -> list[PrefixTree]:
    """Join sequences into trees.

    The loss of a tree is that of its sequences, each by itself: a segment that several of them learn carries the sum of their weights.
    Segments are shared whole or not at all, and only if their attend masks are the same. A node is named by the sequences that end
    there, a tree by the first one in it.

    "b" learns [6] too, and goes on with [7, 8]; "c" begins with something else:

    >>> said = lambda *tokens: Segment(tokens, learn=1.0)
    >>> trees = join([("a", [Segment((5,)), said(6)]), ("b", [Segment((5,)), said(6), said(7, 8)]), ("c", [Segment((9,)), said(6)])])
    >>> [(tree.name, tree.num_tokens, tree.learn_weight) for tree in trees]
    [('a', 4, 4.0), ('c', 2, 1.0)]
    >>> [(node.name, [(segment.tokens, segment.learn) for segment in node.segments]) for node in trees[0].nodes()]
    [('a', [((5,), 0.0), ((6,), 2.0)]), ('b', [((7, 8), 1.0)])]

    Args:
        sequels: name and segments of each sequence; segments without tokens are left out.
        max_tokens: the most tokens of a tree; where a sequence no longer fits, another tree begins. One sequence may exceed it.

    Returns:
        Trees in the order of their first sequences, each of sequences that begin with the same segment.
    """
    roots: list[tuple[str, _Growing]] = []
    sizes: list[int] = []
    latest: dict[SegmentKey, int] = {}
    for name, segments in sequels:
        held = [segment for segment in segments if segment.tokens]
        first = _key(held[0])
        index = latest.get(first)
        if index is None or (max_tokens is not None and sizes[index] + _missing(roots[index][1], held) > max_tokens):
            index = latest[first] = len(roots)
            roots.append((name, _Growing(replace(held[0], learn=0.0))))
            sizes.append(len(held[0].tokens))
        sizes[index] += _missing(roots[index][1], held)
        _add(roots[index][1], name, held)
    return [PrefixTree(_grown(root), name) for name, root in roots]


def _key(segment: Segment) -> SegmentKey:
    return segment.tokens, segment.attend


def _missing(root: _Growing, segments: Sequence[Segment]) -> int:
    """How many tokens of a sequence the tree does not hold yet."""
    node: _Growing | None = root
    missing = 0
    for segment in segments[1:]:
        node = node.below.get(_key(segment)) if node else None
        missing += 0 if node else len(segment.tokens)
    return missing


def _add(root: _Growing, name: str, segments: Sequence[Segment]) -> None:
    node = root
    node.segment = replace(node.segment, learn=node.segment.learn + segments[0].learn)
    for segment in segments[1:]:
        below = node.below.get(_key(segment))
        if below is None:
            below = node.below[_key(segment)] = _Growing(segment)
        else:
            below.segment = replace(below.segment, learn=below.segment.learn + segment.learn)
        node = below
    node.names.append(name)


def _grown(root: _Growing) -> Node:
    """The tree below a node, with every run of nodes that neither fork nor end joined into one."""
    order, stack = [], [root]
    while stack:
        order.append(stack.pop())
        stack.extend(order[-1].below.values())
    done: dict[int, Node] = {}
    for node in reversed(order):  # children first; no recursion, since conversations may be long
        children = tuple(done.pop(id(below)) for below in node.below.values())
        if len(children) == 1 and not node.names:
            (only,) = children
            done[id(node)] = replace(only, segments=(node.segment, *only.segments))
        else:
            done[id(node)] = Node((node.segment,), children, ", ".join(node.names))
    return done[id(root)]
