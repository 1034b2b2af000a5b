"""Best-first search of a span trie for the most probable string, with a proof.

Invariant: every allowed string has either been scored to its end, or starts with a node of the frontier. The
probability of that node bounds the string's from above, since the tokens that follow can only make it less likely.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping

from palmette.decode.posterior import Evidence, WindowScores, log_sum_exp
from palmette.decode.trie import SpanTrie

# A guess that only orders the search: a span continues after a token with this probability, which is shared evenly
# among the tokens that may follow.
_GOES_ON = math.log(0.85)


class Search:
    """The search for one question in one window.

    Args:
        trie: the allowed strings. String 0 stands for no answer.

    Attributes:
        frontier: {node: log-probability of reaching it} for nodes whose next token has not been scored (nats).
        ended: {index of string: log-probability} for scored strings, the token that ends them included (nats).
        refused: log odds of "no" against "yes" in the turn before this one, if there is such a turn (nats). All other
            log-probabilities are those after "yes".
        num_passes: the number of forward passes that scored nodes of this search.
    """

    def __init__(self, trie: SpanTrie) -> None:
        self.trie = trie
        self.frontier: dict[int, float] = {0: 0.0}
        self.ended: dict[int, float] = {}
        self.refused = -math.inf
        self.num_passes = 0

    def absorb(self, node: int, logprobs: Mapping[int, float], end: float) -> None:
        """Add the model's log-probabilities after a frontier node.

        Args:
            node: a node of the frontier.
            logprobs: the log-probability of each token that may follow (nats).
            end: the log-probability of ending there (nats).
        """
        reached = self.frontier.pop(node)
        if self.trie.end[node] >= 0:
            self.ended[self.trie.end[node]] = reached + end
        for token, child in self.trie.children[node].items():
            self.frontier[child] = reached + logprobs[token]

    @property
    def abstain(self) -> float:
        """Log-probability that this window's part of the document holds no answer.

        That is the event of "?", in either turn, or of a string that belongs to a neighbour.
        """
        foreign = self.trie.foreign
        elsewhere = (value for string, value in self.ended.items() if foreign[string])
        return log_sum_exp((self.refused, self.ended[0], *elsewhere))

    @property
    def best_span(self) -> float:
        """Log-probability of the best scored span."""
        return max(self._own_spans(), default=-math.inf)

    @property
    def bound(self) -> float:
        """Log-probability that no unscored string of this window can exceed."""
        return max(self._unscored(foreign=False), default=-math.inf)

    @property
    def slack(self) -> float:
        """By how much the log odds of this window's strings may be too high (nats).

        The unscored strings of its neighbours are missing from the denominator.
        """
        missing = log_sum_exp(self._unscored(foreign=True))
        if missing == -math.inf:
            return 0.0
        unknown = missing - self.abstain
        return math.log1p(math.exp(min(unknown, 700.0)))

    def _own_spans(self) -> Iterator[float]:
        foreign = self.trie.foreign
        return (value for string, value in self.ended.items() if string and not foreign[string])

    def _unscored(self, *, foreign: bool) -> Iterator[float]:
        """Log-probabilities of the frontier nodes that lead to strings of this window, or of its neighbours."""
        leads = self.trie.leads_to[foreign]
        return (value for node, value in self.frontier.items() if leads[node])

    @property
    def evidence(self) -> Evidence:
        """The evidence for a decision from this window alone."""
        abstain = self.abstain
        best = self.best_span - abstain
        scored = log_sum_exp(self._own_spans()) - abstain
        unscored = log_sum_exp(self._unscored(foreign=False)) - abstain
        return Evidence(best, best, self.bound - abstain, scored, unscored, self.slack)

    def scores(self) -> WindowScores:
        """The scores of this window, as odds against no answer."""
        evidence, trie, abstain = self.evidence, self.trie, self.abstain
        spans: dict[str, tuple[int, float]] = {}
        for string, value in self.ended.items():
            if string and not trie.foreign[string]:
                text, place, odds = trie.strings[string], trie.places[string], value - abstain
                if text in spans:  # with and without a blank before it
                    place, odds = min(place, spans[text][0]), log_sum_exp((odds, spans[text][1]))
                spans[text] = place, odds
        return WindowScores(spans, evidence.unscored, evidence.rivals, self.num_passes, evidence.slack, trie.has_twins)

    def plan(self, max_tokens: int, *, floor: float) -> list[int]:
        """The nodes to score in the next pass, parents first. They are those where most probability is expected.

        Args:
            max_tokens: the largest number of nodes.
            floor: nodes of the frontier that are not likelier than this are left out (log-probability, nats). What
                stands below the others is not, however unlikely it is expected to be. That is a guess, and a number
                with a token for each digit would take as many passes as it has digits.
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
                for child in below.values():
                    heapq.heappush(heap, (-expected, child))
        return planned
