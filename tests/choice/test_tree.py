"""Trees of items: what is held once, and properties over random sequences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from palmette.choice.encoding import EncodedItem, Scored
from palmette.choice.tree import common_length, token_tree, trees_of
from palmette.tree.prefix_tree import PrefixTree, lay_out

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), min_size=1, max_size=6)


def sequences_of(tree: PrefixTree) -> dict[int, tuple[int, ...]]:
    """The tokens of each path, by the indices that its last node is named by."""
    found = {}
    stack = [(tree.root, ())]
    while stack:
        node, above = stack.pop()
        path = above + tuple(token for segment in node.segments for token in segment.tokens)
        found |= {int(index): path for index in node.name.split(",") if index}
        stack.extend((child, path) for child in node.children)
    return found


@given(SEQUENCES, st.integers(0, 6))
def test_a_tree_holds_its_sequences_and_every_prefix_once(sequences: list[tuple[int, ...]], trunk: int) -> None:
    tree = token_tree("t", sequences, trunk)
    assert sequences_of(tree) == dict(enumerate(sequences))
    prefixes = {one[:end] for one in sequences for end in range(1, len(one) + 1)}
    assert tree.num_tokens == len(prefixes)


@given(SEQUENCES)
def test_the_common_length_is_that_of_all_pairs(sequences: list[tuple[int, ...]]) -> None:
    length = common_length(sequences)
    assert len({one[:length] for one in sequences}) == 1
    assert len({one[: length + 1] for one in sequences}) > 1 or length == min(map(len, sequences))


def test_examples_are_held_once_for_each_subject() -> None:
    """Two subjects, two items each: the examples (1, 2) and (3, 4, 5) stand in the row once."""

    def item(name: str, shots: tuple[int, ...], question: int, subject: str) -> EncodedItem:
        choices = tuple(Scored((*shots, question, choice), len(shots) + 1) for choice in (8, 9))
        return EncodedItem(name, choices, subject=subject)

    items = [item("a", (1, 2), 6, "x"), item("b", (3, 4, 5), 6, "y"), item("c", (1, 2), 7, "x")]
    trees, sequences = trees_of([*items, item("d", (3, 4, 5), 7, "y")])
    assert [tree.num_tokens for tree in trees] == [5, 6, 5, 6]
    assert set(sequences) == {"0", "1", "2", "3"}
    assert len(lay_out(*trees)) == (2 + 3 + 3) + (3 + 3 + 3)
