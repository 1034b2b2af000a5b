"""The prefix tree and its packed form, which is laid out depth first, parents before children."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile

from palmette.errors import PackingError
from palmette.tree.segments import Segment


@dataclass(frozen=True, slots=True)
class Node:
    """A run of segments shared by all branches below it.

    Attributes:
        segments: the segments of the node, in order.
        children: the nodes that continue it.
        name: the name of the branch that ends here, such as a question id.
    """

    segments: tuple[Segment, ...]
    children: tuple[Node, ...] = ()
    name: str = ""

    @property
    def num_tokens(self) -> int:
        """The number of tokens of this node alone."""
        return sum(len(segment.tokens) for segment in self.segments)


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """A tree of token segments. Its name is that of the record it was built from."""

    root: Node
    name: str = ""

    @property
    def num_tokens(self) -> int:
        """The number of tokens of the whole tree. Each node counts once."""
        return sum(node.num_tokens for node in self.nodes())

    @property
    def num_positions(self) -> int:
        """The number of tokens of the longest branch."""
        longest, stack = 0, [(self.root, 0)]
        while stack:
            node, above = stack.pop()
            longest = max(longest, above + node.num_tokens)
            stack.extend((child, above + node.num_tokens) for child in node.children)
        return longest

    @property
    def learn_weight(self) -> float:
        """The sum of the learn weights of all tokens."""
        return sum(len(s.tokens) * s.learn for node in self.nodes() for s in node.segments)

    def nodes(self) -> Iterator[Node]:
        """All nodes, depth first, parents before children."""
        stack = [self.root]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


# The key of a segment that trees may share: its tokens and its attend mask.
SegmentKey = tuple[tuple[int, ...], bool]


def leading_keys(segments: Iterable[Segment]) -> list[SegmentKey]:
    """Keys of the leading segments that a tree may share with others of its row.

    They end before the first learned segment, since the weight of each tree counts. Segments without tokens have no
    key.

    >>> unlearned = (Segment((5, 6)), Segment(()), Segment((7,), attend=False))
    >>> leading_keys((*unlearned, Segment((8,), learn=1.0), Segment((9,))))
    [((5, 6), True), ((7,), False)]
    """
    filled = (segment for segment in segments if segment.tokens)
    return [(segment.tokens, segment.attend) for segment in takewhile(lambda segment: not segment.learn, filled)]


@dataclass(slots=True)
class Layout:
    """One or more trees laid out along a row. Every list but `nodes` and `parents` has one entry per token.

    Attributes:
        token: token ids.
        position: depth of the token along its branch, from 0.
        subtree_end: one past the last row index of the subtree of the node that holds the token.
        predictor: row index of the previous token on the branch, or -1 where there is none.
        attend: attend mask.
        learn: learn mask, which holds weights.
        node: index into `nodes` of the node that holds the token.
        nodes: (tree name, node name) of each node, in row order. Both are "" for a node that several trees share.
        parents: index of each node's parent, -1 for a root.
    """

    token: list[int] = field(default_factory=list)
    position: list[int] = field(default_factory=list)
    subtree_end: list[int] = field(default_factory=list)
    predictor: list[int] = field(default_factory=list)
    attend: list[bool] = field(default_factory=list)
    learn: list[float] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    nodes: list[tuple[str, str]] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.token)


# Nodes that are laid out as one, each with the name of its tree: a single node, or the roots of trees that begin with
# the same segment.
_Bundle = list[tuple[str, Node]]


def lay_out(*trees: PrefixTree) -> Layout:
    """Lay trees out along one row, as siblings under nothing or under the leading segments that they share.

    Trees whose roots begin with the same unlearned segments stand next to each other, below a node that holds these
    segments once. Otherwise they keep their order. A root that is shared as a whole stays as a node without tokens.
    Segments are shared whole or not at all.

    Trunk [5, 6] with branches [7] and [8, 9]:

    >>> leaf = lambda *tokens: Node((Segment(tokens, learn=1.0),))
    >>> row = lay_out(PrefixTree(Node((Segment((5, 6)),), (leaf(7), leaf(8, 9)))))
    >>> row.token, row.position
    ([5, 6, 7, 8, 9], [0, 1, 2, 2, 3])
    >>> row.subtree_end, row.predictor
    ([5, 5, 3, 5, 5], [-1, 0, 1, 1, 3])
    >>> for i in range(5):
    ...     print("".join("x" if j <= i < row.subtree_end[j] else "." for j in range(5)))
    x....
    xx...
    xxx..
    xx.x.
    xx.xx

    Trees "a" and "b" share [5] and continue with [6] and [7]. "c" begins with [8]:

    >>> tree = lambda name, *segments: PrefixTree(Node(tuple(map(Segment, segments)), name="leaf"), name)
    >>> row = lay_out(tree("a", (5,), (6,)), tree("c", (8,)), tree("b", (5,), (7,)))
    >>> row.token, row.position
    ([5, 6, 7, 8], [0, 1, 1, 0])
    >>> row.subtree_end, row.predictor
    ([3, 2, 3, 4], [-1, 0, 0, -1])
    >>> row.nodes, row.parents
    ([('', ''), ('a', 'leaf'), ('b', 'leaf'), ('c', 'leaf')], [-1, 0, 0, -1])

    Raises:
        PackingError: a tree learns its very first token, which nothing predicts.
    """
    row = Layout()
    _lay_out_bundles(row, _bundles((tree.name, tree.root) for tree in trees))
    return row


def _lay_out_bundles(row: Layout, bundles: list[_Bundle]) -> None:
    # Entries are still to be opened, as (bundle, parent's index, last row index on the branch, next position), or
    # closed, as (first row index, number of tokens).
    stack: list[tuple[_Bundle, int, int, int] | tuple[int, int]] = []
    stack.extend((bundle, -1, -1, 0) for bundle in reversed(bundles))
    while stack:
        entry = stack.pop()
        if len(entry) == 2:
            start, count = entry
            row.subtree_end[start : start + count] = [len(row)] * count
            continue
        bundle, parent, last, position = entry
        names, segments, below = _open(bundle)
        index, start = len(row.nodes), len(row)
        row.nodes.append(names)
        row.parents.append(parent)
        for segment in segments:
            _check_predicted(names[0], segment, last)
            for token in segment.tokens:
                row.token.append(token)
                row.position.append(position)
                row.predictor.append(last)
                row.node.append(index)
                last, position = len(row) - 1, position + 1
            count = len(segment.tokens)
            row.attend.extend([segment.attend] * count)
            row.learn.extend([segment.learn] * count)
            row.subtree_end.extend([-1] * count)
        stack.append((start, len(row) - start))
        stack.extend((child, index, last, position) for child in reversed(below))


def _bundles(roots: Iterable[tuple[str, Node]]) -> list[_Bundle]:
    """Put roots that begin with the same segment together, in the order of their first ones."""
    bundles: dict[SegmentKey | int, _Bundle] = {}
    for index, (tree, root) in enumerate(roots):
        keys = leading_keys(root.segments)
        bundles.setdefault(keys[0] if keys else index, []).append((tree, root))
    return list(bundles.values())


def _open(bundle: _Bundle) -> tuple[tuple[str, str], tuple[Segment, ...], list[_Bundle]]:
    """The next node of a layout: its (tree name, node name), its segments, and the bundles below it."""
    if len(bundle) == 1:
        ((tree, node),) = bundle
        return (tree, node.name), node.segments, [[(tree, child)] for child in node.children]
    filled = [tuple(segment for segment in root.segments if segment.tokens) for _, root in bundle]
    levels = zip(*(leading_keys(segments) for segments in filled), strict=False)
    count = sum(1 for _ in takewhile(lambda keys: len(set(keys)) == 1, levels))
    rests = (
        (tree, replace(root, segments=segments[count:])) for (tree, root), segments in zip(bundle, filled, strict=True)
    )
    return ("", ""), filled[0][:count], _bundles(rests)


def _check_predicted(tree: str, segment: Segment, last: int) -> None:
    if segment.tokens and segment.learn and last < 0:
        raise PackingError(
            f"tree {tree!r} learns its first token, which nothing predicts",
            "Set learn = 0 on the first token of a root.",
        )
