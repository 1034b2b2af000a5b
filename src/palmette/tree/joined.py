"""Plain sequences of segments joined into prefix trees, which hold the segments that they begin with once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from palmette.tree.prefix_tree import Node, PrefixTree, SegmentKey
from palmette.tree.segments import Segment

# A plain sequence: its name and its segments.
Sequel = tuple[str, Sequence[Segment]]


@dataclass(slots=True)
class _Step:
    """A node of one segment, with the nodes that follow it and the names of the sequences that end here."""

    segment: Segment
    below: dict[SegmentKey, _Step] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)


def join(sequels: Sequence[Sequel], max_tokens: int | None = None) -> list[PrefixTree]:
    """Join sequences into trees.

    The loss of a tree is the sum of the losses of its sequences. A segment that several of them learn carries the sum
    of their weights. Segments are shared whole or not at all, and only if their attend masks are the same. A node is
    named by the sequences that end there, and a tree by the first sequence in it.

    "b" learns [6] too, and continues with [7, 8]. "c" begins with something else:

    >>> turn = lambda *tokens: Segment(tokens, learn=1.0)
    >>> a, b = [Segment((5,)), turn(6)], [Segment((5,)), turn(6), turn(7, 8)]
    >>> trees = join([("a", a), ("b", b), ("c", [Segment((9,)), turn(6)])])
    >>> [(tree.name, tree.num_tokens, tree.learn_weight) for tree in trees]
    [('a', 4, 4.0), ('c', 2, 1.0)]
    >>> [(node.name, [(part.tokens, part.learn) for part in node.segments]) for node in trees[0].nodes()]
    [('a', [((5,), 0.0), ((6,), 2.0)]), ('b', [((7, 8), 1.0)])]

    Args:
        sequels: the name and the segments of each sequence. Segments without tokens are left out.
        max_tokens: the most tokens of a tree. Where a sequence no longer fits, another tree begins. A single sequence
            may exceed it.

    Returns:
        Trees in the order of their first sequences. The sequences of a tree begin with the same segment.
    """
    roots: list[tuple[str, _Step]] = []
    sizes: list[int] = []
    latest: dict[SegmentKey, int] = {}
    for name, segments in sequels:
        filled = [segment for segment in segments if segment.tokens]
        first = _key(filled[0])
        index = latest.get(first)
        if index is None or (max_tokens is not None and sizes[index] + _missing(roots[index][1], filled) > max_tokens):
            index = latest[first] = len(roots)
            roots.append((name, _Step(replace(filled[0], learn=0.0))))
            sizes.append(len(filled[0].tokens))
        sizes[index] += _missing(roots[index][1], filled)
        _add(roots[index][1], name, filled)
    return [PrefixTree(_to_node(root), name) for name, root in roots]


def _key(segment: Segment) -> SegmentKey:
    return segment.tokens, segment.attend


def _missing(root: _Step, segments: Sequence[Segment]) -> int:
    """How many tokens of a sequence the tree does not hold yet."""
    node: _Step | None = root
    missing = 0
    for segment in segments[1:]:
        node = node.below.get(_key(segment)) if node else None
        missing += 0 if node else len(segment.tokens)
    return missing


def _add(root: _Step, name: str, segments: Sequence[Segment]) -> None:
    node = root
    node.segment = replace(node.segment, learn=node.segment.learn + segments[0].learn)
    for segment in segments[1:]:
        below = node.below.get(_key(segment))
        if below is None:
            below = node.below[_key(segment)] = _Step(segment)
        else:
            below.segment = replace(below.segment, learn=below.segment.learn + segment.learn)
        node = below
    node.names.append(name)


def _to_node(root: _Step) -> Node:
    """The tree below a node. Runs of nodes at which nothing forks or ends are joined into one node."""
    order, stack = [], [root]
    while stack:
        order.append(stack.pop())
        stack.extend(order[-1].below.values())
    done: dict[int, Node] = {}
    for node in reversed(order):  # children first, without recursion, since conversations may be long
        children = tuple(done.pop(id(below)) for below in node.below.values())
        if len(children) == 1 and not node.names:
            (only,) = children
            done[id(node)] = replace(only, segments=(node.segment, *only.segments))
        else:
            done[id(node)] = Node((node.segment,), children, ", ".join(node.names))
    return done[id(root)]
