"""Best-first search of a span trie for the most probable string, with a proof.

Invariant: every allowed string has either been scored to its end, or starts with a node of the frontier, whose probability bounds it
from above (what follows can only make it less likely).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

from palmette.decode.trie import SpanTrie

# Guesses that only order the search: a span goes on after a token with this probability, shared evenly among what may follow.
_GOES_ON = math.log(0.85)


class Search:
    """The search for one question in one window.

    Args:
        trie: the allowed strings.
        abstain: index of the string that stands for no answer.

    Attributes:
        frontier: {node: log-probability of reaching it} for nodes whose next token has not been looked at.
        ended: {index of string: log-probability}, its end included (nats).
        num_passes: forward passes that looked at this search.
    """

    def __init__(self, trie: SpanTrie, abstain: int) -> None:
        self.trie, self.abstain = trie, abstain
        self.frontier: dict[int, float] = {0: 0.0}
        self.ended: dict[int, float] = {}
        self.num_passes = 0

    def absorb(self, node: int, logprobs: Mapping[int, float], end: float) -> None:
        """Take in what the model says after a frontier node.

        Args:
            node: a node of the frontier.
            logprobs: log-probability of each token that may follow.
            end: log-probability of ending there.
        """
        reached = self.frontier.pop(node)
        if self.trie.end[node] >= 0:
            self.ended[self.trie.end[node]] = reached + end
        for token, child in self.trie.children[node].items():
            self.frontier[child] = reached + logprobs[token]

    @property
    def best_span(self) -> float:
        """Log-probability of the best scored span, abstention left out."""
        return max((value for string, value in self.ended.items() if string != self.abstain), default=-math.inf)

    @property
    def bound(self) -> float:
        """Log-probability that no unscored string can exceed."""
        return max(self.frontier.values(), default=-math.inf)

    @property
    def best_proved(self) -> bool:
        """Whether the best of all strings, abstention among them, is known."""
        return max(self.best_span, self.ended[self.abstain]) >= self.bound

    @property
    def span_proved(self) -> bool:
        """Whether the best span is known."""
        return self.best_span >= self.bound

    def plan(self, max_tokens: int, *, floor: float) -> list[int]:
        """The nodes to look at in the next pass, parents first: where most probability is expected.

        Args:
            max_tokens: the most nodes.
            floor: nodes that are not expected to be likelier than this are left out (log-probability).
        """
        heap = [(-value, node) for node, value in self.frontier.items() if value > floor]
        heapq.heapify(heap)
        planned: list[int] = []
        while heap and len(planned) < max_tokens:
            negative, node = heapq.heappop(heap)
            planned.append(node)
            below = self.trie.children[node]
            if below:
                expected = -negative + _GOES_ON - math.log(len(below))
                if expected > floor:
                    for child in below.values():
                        heapq.heappush(heap, (-expected, child))
        return planned
