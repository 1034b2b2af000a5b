"""A trie over the tokens of the strings that a reply may hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from palmette.tree.segments import TextEncoder


class SpanTrie:
    """The allowed strings as branches of tokens; node 0 is the root.

    >>> trie = SpanTrie([[5], [5, 6], [7, 8]])
    >>> trie.children[0], trie.end, trie.token
    ({5: 1, 7: 3}, [-1, 0, 1, -1, 2], [-1, 5, 6, 7, 8])

    Args:
        strings: token ids of each string; none is empty. Where two have the same tokens, the first one stands for both.

    Attributes:
        token: the token that leads to each node; -1 for the root.
        parent: the node above each; -1 for the root.
        children: {token: node} below each node.
        end: index of the string that ends at each node; -1 where none does.
    """

    def __init__(self, strings: Iterable[Sequence[int]]) -> None:
        self.token, self.parent = [-1], [-1]
        self.children: list[dict[int, int]] = [{}]
        self.end = [-1]
        for index, string in enumerate(strings):
            node = self._node_of(string)
            if self.end[node] < 0:
                self.end[node] = index

    def _node_of(self, string: Sequence[int]) -> int:
        node = 0
        for token in string:
            below = self.children[node]
            following = below.get(token)
            if following is None:
                following = below[token] = len(self.token)
                self.token.append(token)
                self.parent.append(node)
                self.children.append({})
                self.end.append(-1)
            node = following
        return node

    def path(self, node: int) -> list[int]:
        """The nodes from below the root down to `node`."""
        found = []
        while node > 0:
            found.append(node)
            node = self.parent[node]
        return found[::-1]

    def __len__(self) -> int:
        return len(self.token)


def trie_of(encoder: TextEncoder, strings: Sequence[str]) -> SpanTrie:
    """The trie of content strings, each tokenised on its own, as it was when it was learned."""
    return SpanTrie(encoder.contents(strings))
