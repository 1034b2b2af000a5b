"""Prefix trees: strategies that draw them, and one worked example."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from palmette.tree.prefix_tree import Layout, Node, PrefixTree
from palmette.tree.segments import Segment
from tests.support.models import VOCABULARY

segments = st.builds(
    Segment,
    tokens=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4).map(tuple),
    attend=st.booleans(),
    learn=st.sampled_from([0.0, 1.0, 0.25]),
)
leaves = st.builds(Node, segments=st.lists(segments, min_size=1, max_size=3).map(tuple))


def _level(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    return st.builds(
        Node,
        segments=st.lists(segments, max_size=2).map(tuple),
        children=st.lists(st.one_of(leaves, children), min_size=1, max_size=3).map(tuple),
    )


inner = _level(_level(_level(leaves)))


def _named(node: Node, counter: Any) -> Node:
    return Node(node.segments, tuple(_named(child, counter) for child in node.children), f"n{next(counter)}")


@st.composite
def trees(draw: st.DrawFn) -> PrefixTree:
    """Trees of depth up to 4 whose root opens with an unlearned token, and which learn something."""
    body = draw(inner)
    root = Node((Segment((draw(st.integers(0, VOCABULARY - 1)),)), *body.segments), body.children)
    learned_leaf = Node((Segment((3, 4), learn=1.0),))
    return PrefixTree(_named(Node(root.segments, (*root.children, learned_leaf)), itertools.count()), "tree")


def example(offset: int) -> PrefixTree:
    """A tree of depth 3 with a placeholder, and two branches that begin with a learned token."""

    def some(*tokens: int, **masks: Any) -> Segment:
        return Segment(tuple((token + offset) % VOCABULARY for token in tokens), **masks)

    name = f"t{offset}"
    low = Node((some(20, 21), some(22, 23, learn=1.0)), name=f"{name}-a")
    hidden = Node((some(30, attend=False), some(31, 32, learn=0.5)), name=f"{name}-b")
    middle = Node((some(10, 11), some(12, learn=1.0)), (low, hidden), name=f"{name}-m")
    first = Node((some(40, 41, learn=1.0),), name=f"{name}-c")
    return PrefixTree(Node((some(1, 2, 3), some(4, 5, attend=False), some(6)), (middle, first), name=name), name)


# What random trees may lack: four nodes below one another, a placeholder, and a branch that begins with a learned
# token.
DEEP = PrefixTree(
    Node(
        (Segment((1,)),),
        (
            Node(
                (Segment((2,), attend=False),),
                (Node((Segment((3,)),), (Node((Segment((4, 5), learn=1.0),), name="low"),), name="middle"),),
                name="high",
            ),
            Node((Segment((6,), learn=0.25),), name="side"),
        ),
        name="root",
    ),
    "deep",
)

# Few and alike, so that roots drawn from them often begin in the same way, or nearly.
FIRST = [Segment((1,)), Segment((1, 2)), Segment((1,), attend=False)]
POOL = [*FIRST, Segment(()), Segment((3, 4, 5)), Segment((3, 4, 5), learn=1.0), Segment((6,), attend=False)]


@st.composite
def forests(draw: st.DrawFn) -> list[PrefixTree]:
    """Two to five trees of depth up to two; the first of them learns something, the others may be a root alone."""
    trees: list[PrefixTree] = []
    for number in range(draw(st.integers(2, 5))):
        again = draw(st.booleans()) and trees
        if again:
            segments = draw(st.sampled_from(trees)).root.segments
        else:
            blank = [Segment(())] * draw(st.integers(0, 1))
            first = draw(st.sampled_from([*FIRST, Segment((10 + number,))]))  # or like no other
            segments = (*blank, first, *draw(st.lists(st.sampled_from(POOL), max_size=3)))
        below = draw(st.lists(leaves, max_size=3))
        if not trees:
            below.append(Node((Segment((7, 8), learn=0.5),)))
        named = tuple(Node(child.segments, name=f"{number}-{index}") for index, child in enumerate(below))
        trees.append(PrefixTree(Node(segments, named, f"{number}-root"), f"t{number}"))
    return trees


def _roots_alone(*roots: tuple[Segment, ...]) -> list[PrefixTree]:
    return [PrefixTree(Node(root, (), f"more-{index}"), f"more{index}") for index, root in enumerate(roots)]


# What makes a layout interesting, and the trees that bring it about where other trees are few and alike.
_MORE = {
    "shared": _roots_alone((Segment((1,)),), (Segment((1,)), Segment((40,)))),
    "shared below what is shared": _roots_alone(
        (Segment((1,)), Segment((40,)), Segment((41,))),
        (Segment((1,)), Segment((40,)), Segment((42,))),
        (Segment((1,)), Segment((43,))),
    ),
    "a root without tokens": _roots_alone((Segment((1,)),), (Segment((1,)), Segment((40,)))),
    "a leaf without tokens": _roots_alone((Segment((1,)),), (Segment((1,)),)),
    "trees that trade places": _roots_alone((Segment((50,)),), (Segment((51,)),), (Segment((50,)), Segment((40,)))),
}
KINDS = ("nothing shared", *_MORE)


@st.composite
def forests_of(draw: st.DrawFn, kind: str) -> list[PrefixTree]:
    """Random trees whose layout is of one of the `KINDS`, whatever is drawn."""
    drawn = draw(forests())
    if kind == "nothing shared":
        apart = [(Segment((30 + number,)), *tree.root.segments) for number, tree in enumerate(drawn)]
        return [
            PrefixTree(Node(segments, tree.root.children, tree.root.name), tree.name)
            for segments, tree in zip(apart, drawn, strict=True)
        ]
    return [*drawn, *_MORE[kind]]


def chain(row: Layout, node: int) -> list[int]:
    """Row indices of the tokens of a branch, from its root to the last token of `node`, by predictors."""
    while node >= 0 and node not in row.node:
        node = row.parents[node]
    index = max((i for i, owner in enumerate(row.node) if owner == node), default=-1)
    found = []
    while index >= 0:
        found.append(index)
        index = row.predictor[index]
    return found[::-1]
