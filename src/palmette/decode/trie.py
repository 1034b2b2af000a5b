"""A trie over the tokens of the strings that a completion may hold."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from palmette.decode.spans import Window
from palmette.tasks.qa_prompt import ABSTAIN, json_escape
from palmette.tree.segments import TextEncoder


class SpanTrie:
    """The allowed strings as branches of tokens; node 0 is the root.

    >>> trie = SpanTrie()
    >>> for tokens, string in (((5,), "a"), ((5, 6), "ab"), ((7, 8), "c")):
    ...     trie.add(tokens, string, 0)
    >>> trie.children[0], trie.end, trie.token
    ({5: 1, 7: 3}, [-1, 0, 1, -1, 2], [-1, 5, 6, 7, 8])

    Attributes:
        token: the token that leads to each node; -1 for the root.
        parent: the node above each; -1 for the root.
        children: {token: node} below each node.
        end: index of the string that ends at each node; -1 where none does.
        strings: the strings, distinct as tokens.
        places: where each stands first.
        foreign: which strings belong to a neighbouring window alone. They are scored so that what they take from "?" is known.
        depth: tokens of the longest branch.
    """

    def __init__(self) -> None:
        self.token, self.parent, self.end = [-1], [-1], [-1]
        self.children: list[dict[int, int]] = [{}]
        self.strings: list[str] = []
        self.places: list[int] = []
        self.foreign: list[bool] = []
        self.depth = 0

    def add(self, tokens: Sequence[int], string: str, place: int, *, foreign: bool = False) -> None:
        """Add a string; where another has the same tokens, the first one stands for both."""
        self.end_at(self.grow(tokens)[-1], string, place, foreign=foreign)

    def grow(self, tokens: Sequence[int]) -> list[int]:
        """The nodes along a run of tokens from the root, made where there are none."""
        node, nodes = 0, []
        for token in tokens:
            below = self.children[node]
            following = below.get(token)
            if following is None:
                following = below[token] = len(self.token)
                self.token.append(token)
                self.parent.append(node)
                self.children.append({})
                self.end.append(-1)
            node = following
            nodes.append(node)
        self.depth = max(self.depth, len(nodes))
        return nodes

    def end_at(self, node: int, string: str, place: int, *, foreign: bool = False) -> None:
        """Let a string end at a node, if none does."""
        if self.end[node] < 0:
            self.end[node] = len(self.strings)
            self.strings.append(string)
            self.places.append(place)
            self.foreign.append(foreign)

    @functools.cached_property
    def leads_to(self) -> tuple[list[bool], list[bool]]:
        """For each node, whether a string of this window ends there or below, and whether a foreign one does. Call it on a whole trie."""
        own, other = [False] * len(self), [False] * len(self)
        for node in range(len(self) - 1, -1, -1):  # children stand after their parents
            string = self.end[node]
            if string > 0:
                own[node] |= not self.foreign[string]
                other[node] |= self.foreign[string]
            if node:
                own[self.parent[node]] |= own[node]
                other[self.parent[node]] |= other[node]
        return own, other

    def path(self, node: int) -> list[int]:
        """The nodes from below the root down to `node`."""
        found = []
        while node > 0:
            found.append(node)
            node = self.parent[node]
        return found[::-1]

    def path_to(self, string: int) -> list[int]:
        """The nodes of a string."""
        return self.path(self.end.index(string))

    def __len__(self) -> int:
        return len(self.token)


def span_trie(encoder: TextEncoder, text: str, window: Window, max_words: int) -> SpanTrie:
    """The trie of "?", string 0, and of the spans that a window shows, each with the tokens that it has by itself in a completion.

    A string that stands both in the window's own part and in a neighbour's is the window's own.

    Args:
        encoder: the tokenizer.
        text: the whole document.
        window: the window.
        max_words: the longest span.
    """
    trie = SpanTrie()
    trie.add(encoder.content(ABSTAIN), ABSTAIN, -1)
    _add_runs(trie, encoder, text, list(window.runs(max_words)), foreign=False)
    _add_runs(trie, encoder, text, list(window.foreign_runs(max_words)), foreign=True)
    return trie


def _add_runs(
    trie: SpanTrie, encoder: TextEncoder, text: str, runs: Sequence[tuple[int, list[int]]], *, foreign: bool
) -> None:
    escaped = [json_escape(text[start : ends[-1]]) for start, ends in runs]
    # Most text needs no escaping, and then a prefix is as long in the completion as in the document.
    lengths = [
        [end - start for end in ends]
        if len(string) == ends[-1] - start
        else [len(json_escape(text[start:end])) for end in ends]
        for (start, ends), string in zip(runs, escaped, strict=True)
    ]
    for (start, ends), (tokens, counts) in zip(runs, encoder.prefixes(escaped, lengths), strict=True):
        nodes = trie.grow(tokens)
        others = []
        for end, count in zip(ends, counts, strict=True):
            span = text[start:end]
            if count and span != ABSTAIN:
                trie.end_at(nodes[count - 1], span, start, foreign=foreign)
            elif span != ABSTAIN:
                others.append(span)
        for span, own in zip(others, encoder.contents([json_escape(span) for span in others]), strict=True):
            trie.add(own, span, start, foreign=foreign)
