"""The verdicts on a pair of answers in both orders, as one.

A judge may prefer whatever stands first, so each pair is shown twice, with the answers exchanged. What follows from the
two verdicts is their mean, and how often they contradict each other is a figure of its own. By the rule of MT-Bench
(FastChat, llm_judge/gen_judgment.py and show_result.py) a contradiction is a tie, as is a pair with one tie, and a pair
with an unread verdict is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from palmette.judge.text import Choice

Swap = Literal["mean", "mt-bench"]

_SHARE = {"A": 1.0, "tie": 0.5, "B": 0.0}
_EXCHANGED: dict[Choice, Choice] = {"A": "B", "B": "A", "tie": "tie"}


@dataclass(frozen=True, slots=True)
class BothOrders:
    """The verdicts on one pair.

    Attributes:
        first: the verdict with the answers in their order. None if it was unread.
        second: the verdict with the answers exchanged, said of the answers in their order. None if it was unread.
    """

    first: Choice | None
    second: Choice | None

    @classmethod
    def as_shown(cls, first: Choice | None, second: Choice | None) -> BothOrders:
        """From the verdicts as the judge gave them, so that A is the first answer that it saw each time.

        >>> BothOrders.as_shown("A", "A")
        BothOrders(first='A', second='B')
        """
        return cls(first, None if second is None else _EXCHANGED[second])

    @property
    def preference(self) -> float | None:
        """The mean of the verdicts that were read: 1 for A, 0 for B. None if none was.

        >>> BothOrders("A", "A").preference, BothOrders("A", "tie").preference, BothOrders(None, "B").preference
        (1.0, 0.75, 0.0)
        """
        read = [_SHARE[one] for one in (self.first, self.second) if one is not None]
        return sum(read) / len(read) if read else None

    @property
    def inconsistent(self) -> bool:
        """Whether the two verdicts differ. Two are needed for that."""
        return self.first is not None and self.second is not None and self.first != self.second

    def choice(self, swap: Swap = "mean") -> Choice | None:
        """Both verdicts as one. None where there is none.

        >>> [BothOrders("A", "tie").choice(swap) for swap in ("mean", "mt-bench")]
        ['A', 'tie']

        Args:
            swap: "mean" takes the side of the mean of what was read. "mt-bench" has a tie wherever two verdicts differ,
                and no verdict where one was unread.
        """
        if swap == "mt-bench":
            if self.first is None or self.second is None:
                return None
            return self.first if self.first == self.second else "tie"
        return side_of(self.preference)


def side_of(share: float | None) -> Choice | None:
    """The verdict of a mean preference for A, 0 to 1. None for none.

    >>> side_of(0.75), side_of(0.5), side_of(0.2)
    ('A', 'tie', 'B')
    """
    return None if share is None else "A" if share > 0.5 else "B" if share < 0.5 else "tie"


def adjusted_win_rate(verdicts: Iterable[Choice | None]) -> float | None:
    """MT-Bench's adjusted win rate of A, 0 to 1: wins and half of the ties. None without any verdict.

    >>> adjusted_win_rate(["A", "tie", "B", "A", None])
    0.625
    """
    read = [_SHARE[one] for one in verdicts if one is not None]
    return sum(read) / len(read) if read else None
