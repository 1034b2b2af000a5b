"""The prefix tree, and its packed form: depth first, parents before children."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from palmette.errors import PackingError
from palmette.tree.segments import Segment


@dataclass(frozen=True, slots=True)
class Node:
    """A run of segments shared by all branches below it.

    Attributes:
        segments: what the node holds, in order.
        children: the nodes that continue it.
        name: what the branch that ends here answers (a question id, say).
    """

    segments: tuple[Segment, ...]
    children: tuple[Node, ...] = ()
    name: str = ""

    @property
    def num_tokens(self) -> int:
        """Tokens of this node alone."""
        return sum(len(segment.tokens) for segment in self.segments)


@dataclass(frozen=True, slots=True)
class PrefixTree:
    """A tree of token segments; `name` is the record it was made from."""

    root: Node
    name: str = ""

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole tree, each node counted once."""
        return sum(node.num_tokens for node in self.nodes())

    @property
    def num_positions(self) -> int:
        """Tokens of the longest branch."""
        longest, stack = 0, [(self.root, 0)]
        while stack:
            node, above = stack.pop()
            longest = max(longest, above + node.num_tokens)
            stack.extend((child, above + node.num_tokens) for child in node.children)
        return longest

    @property
    def learn_weight(self) -> float:
        """Sum of the learn weights of all tokens."""
        return sum(len(s.tokens) * s.learn for node in self.nodes() for s in node.segments)

    def nodes(self) -> Iterator[Node]:
        """All nodes, depth first, parents before children."""
        stack = [self.root]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


@dataclass(slots=True)
class Layout:
    """One or more trees laid out along a row; every list but `nodes` and `parents` has one entry per token.

    Attributes:
        token: token ids.
        position: depth of the token along its branch, from 0.
        subtree_end: one past the last row index of the subtree of the node that holds the token.
        predictor: row index of the previous token on the branch; -1 where there is none.
        attend: attend mask.
        learn: learn mask, a weight.
        node: index into `nodes` of the node that holds the token.
        nodes: (tree name, node name) of each node, in row order.
        parents: index of each node's parent; -1 for a root.
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


def lay_out(*trees: PrefixTree) -> Layout:
    """Lay trees out along one row, as siblings under nothing.

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

    Raises:
        PackingError: a tree learns its very first token, which nothing predicts.
    """
    row = Layout()
    for tree in trees:
        _lay_out_tree(row, tree)
    return row


def _lay_out_tree(row: Layout, tree: PrefixTree) -> None:
    # What is left to do: open (node, parent's index, last row index on the branch, next position), or close (first row index, tokens).
    stack: list[tuple[Node, int, int, int] | tuple[int, int]] = [(tree.root, -1, -1, 0)]
    while stack:
        entry = stack.pop()
        if len(entry) == 2:
            start, count = entry
            row.subtree_end[start : start + count] = [len(row)] * count
            continue
        node, parent, last, position = entry
        index, start = len(row.nodes), len(row)
        row.nodes.append((tree.name, node.name))
        row.parents.append(parent)
        for segment in node.segments:
            _check_predicted(tree, segment, last)
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
        stack.extend((child, index, last, position) for child in reversed(node.children))


def _check_predicted(tree: PrefixTree, segment: Segment, last: int) -> None:
    if segment.tokens and segment.learn and last < 0:
        raise PackingError(
            f"tree {tree.name!r} learns its first token, which nothing predicts",
            "Set learn = 0 on the first token of a root.",
        )
