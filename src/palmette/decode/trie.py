"""A trie over the tokens of the strings that a completion may hold."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from palmette.decode.spans import Window
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import ABSTAIN


class SpanTrie:
    """The allowed strings as branches of tokens. Node 0 is the root.

    >>> trie = SpanTrie()
    >>> for tokens, string in (((5,), "a"), ((5, 6), "ab"), ((7, 8), "c")):
    ...     trie.add(tokens, string, 0)
    >>> trie.children[0], trie.end, trie.token
    ({5: 1, 7: 3}, [-1, 0, 1, -1, 2], [-1, 5, 6, 7, 8])

    Attributes:
        token: the token that leads to each node. -1 for the root.
        parent: the node above each node. -1 for the root.
        children: {token: node} below each node.
        end: the index of the string that ends at each node. -1 if none does.
        strings: the strings, distinct as tokens.
        places: the first position of each string in the document.
        foreign: whether each string belongs to a neighbouring window alone. Such strings are scored so that their share
            of the probability of "?" is known.
        depth: the number of tokens of the longest branch.
    """

    def __init__(self) -> None:
        self.token, self.parent, self.end = [-1], [-1], [-1]
        self.children: list[dict[int, int]] = [{}]
        self.strings: list[str] = []
        self.places: list[int] = []
        self.foreign: list[bool] = []
        self.depth = 0

    def add(self, tokens: Sequence[int], string: str, place: int, *, foreign: bool = False) -> None:
        """Add a string. If another one has the same tokens, the first one stands for both."""
        self.end_at(self.grow(tokens)[-1], string, place, foreign=foreign)

    def grow(self, tokens: Sequence[int], above: Sequence[int] = ()) -> list[int]:
        """The nodes along a run of tokens, created where there are none.

        Args:
            tokens: the tokens.
            above: the nodes from below the root to the node that the run hangs below. The root if empty.
        """
        node, nodes = above[-1] if above else 0, []
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
        self.depth = max(self.depth, len(above) + len(nodes))
        return nodes

    def end_at(self, node: int, string: str, place: int, *, foreign: bool = False) -> None:
        """Let a string end at a node, if none does."""
        if self.end[node] < 0:
            self.end[node] = len(self.strings)
            self.strings.append(string)
            self.places.append(place)
            self.foreign.append(foreign)

    @functools.cached_property
    def has_twins(self) -> bool:
        """Whether a text stands in the trie twice, with and without a blank before it.

        It is computed once, so the trie must be complete.
        """
        return len(set(self.strings)) < len(self.strings)

    @functools.cached_property
    def leads_to(self) -> tuple[list[bool], list[bool]]:
        """For each node, whether a string of this window ends there or below, and whether a foreign one does.

        It is computed once, so the trie must be complete.
        """
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
        nodes = []
        while node > 0:
            nodes.append(node)
            node = self.parent[node]
        return nodes[::-1]

    def path_to(self, string: int) -> list[int]:
        """The nodes of a string."""
        return self.path(self.end.index(string))

    def __len__(self) -> int:
        return len(self.token)


def span_trie(task: ExtractiveQa, text: str, window: Window, max_words: int) -> SpanTrie:
    """The trie of "?", which is string 0, and of the spans that a window shows.

    Each string has the tokens that it has by itself in a completion. With a bare prompt a blank before it belongs to
    it, so a string may stand in the trie twice. A string that stands both in the window's own part and in a neighbour's
    is the window's own.

    Args:
        task: what builds the completions.
        text: the whole document.
        window: the window.
        max_words: the longest span, in words.
    """
    trie = SpanTrie()
    trie.add(task.abstention, ABSTAIN, -1)
    runs = _Runs(trie, task, text)
    runs.add(list(window.runs(max_words)), foreign=False)
    runs.add(list(window.foreign_runs(max_words)), foreign=True)
    return trie


def option_trie(task: ExtractiveQa, options: Sequence[str]) -> SpanTrie:
    """The trie of "?", which is string 0, and of options that need not stand in the document.

    With a bare prompt each stands in it twice, with and without a blank before it.

    Args:
        task: what builds the completions.
        options: the options, in order.
    """
    trie = SpanTrie()
    trie.add(task.abstention, ABSTAIN, -1)
    for lead in task.leads:
        for option in options:
            trie.add(task.template.encoder.content(lead + task.prompt.escape(option)), option, -1)
    return trie


class _Runs:
    """Adds spans that begin at the same place to a trie.

    The longest of them is encoded, and the others are cut out of its tokens. A span that ends inside a token is put
    together from the tokens up to the last clean cut and those of the rest. The rests repeat, so each is encoded once.
    """

    def __init__(self, trie: SpanTrie, task: ExtractiveQa, text: str) -> None:
        self._trie, self._task, self._text = trie, task, text
        self._encoder = task.template.encoder
        self._rests: dict[str, tuple[int, ...]] = {}

    def add(self, runs: Sequence[tuple[int, list[int]]], *, foreign: bool) -> None:
        """Add all spans of some runs, each run a start with its ends."""
        written = [self._written(start, start, ends[-1]) for start, ends in runs]
        # Most text needs no escaping, and then a prefix is as long in the completion as in the document.
        lengths = [
            [end - start + len(string) - (ends[-1] - start) for end in ends]
            if len(string) - (ends[-1] - start) == len(self._task.lead(self._text, start))
            else [len(self._written(start, start, end)) for end in ends]
            for (start, ends), string in zip(runs, written, strict=True)
        ]
        cut = list(self._encoder.prefixes(written, lengths))
        self._encode_rests(runs, [counts for _, counts in cut])
        for (start, ends), (tokens, counts) in zip(runs, cut, strict=True):
            nodes = self._trie.grow(tokens)
            for end, clean, count in _cuts(start, ends, counts):
                span = self._text[start:end]
                if span == ABSTAIN:
                    continue
                node = nodes[count - 1] if count else 0
                if clean < end:
                    node = self._trie.grow(self._rests[self._written(start, clean, end)], nodes[:count])[-1]
                self._trie.end_at(node, span, start, foreign=foreign)

    def _encode_rests(self, runs: Sequence[tuple[int, list[int]]], counts: Sequence[Sequence[int]]) -> None:
        rests = {
            self._written(start, clean, end)
            for (start, ends), run in zip(runs, counts, strict=True)
            for end, clean, _ in _cuts(start, ends, run)
            if clean < end
        }
        new = sorted(rests - self._rests.keys())
        self._rests.update(zip(new, self._encoder.contents(new), strict=True))

    def _written(self, start: int, begin: int, end: int) -> str:
        """The part from `begin` to `end` of a span that starts at `start`, as a completion holds it."""
        lead = self._task.lead(self._text, start) if begin == start else ""
        return lead + self._task.prompt.escape(self._text[begin:end])


def _cuts(start: int, ends: Sequence[int], counts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """For each end, the last clean cut up to it and the number of tokens before that cut. A clean end is its own."""
    clean, num_tokens = start, 0
    for end, count in zip(ends, counts, strict=True):
        if count:
            clean, num_tokens = end, count
        yield end, clean, num_tokens
