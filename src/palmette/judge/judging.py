"""Asks a judge about pairs in both orders and about single answers, and keeps what it said.

Verdicts are kept in a file, one line each, under a hash of all that they depend on: the judge's weights or its URL and
name, its prompt, the messages, the answers and their order. So a job that was stopped goes on where it was, and nothing
is asked twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from palmette.errors import RunError
from palmette.judge.orders import BothOrders, side_of
from palmette.judge.text import Choice
from palmette.judge.wording import CHOICES, Case
from palmette.progress import progress
from palmette.run import append_line, read_log, write_text

Odds = Mapping[str, float]
_SHARE = {"A": 1.0, "tie": 0.5, "B": 0.0}


class Judge(Protocol):
    """What gives verdicts."""

    name: str

    @property
    def identity(self) -> dict[str, Any]:
        """What its verdicts depend on."""

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know of the verdicts so far, in sentences. Often there is nothing."""

    def odds(self, cases: Sequence[Case]) -> Iterator[tuple[int, Odds | None]]:
        """The index of each case with the probability of each verdict, as soon as it is known.

        {} is a verdict that could not be read, and None a request that got no answer and is asked again next time.
        """


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models' answers to one question.

    Attributes:
        question: its id.
        models: the two models.
        case: the messages and the answers, in the order of the models.
    """

    question: str
    models: tuple[str, str]
    case: Case


@dataclass(frozen=True, slots=True)
class PairJudged:
    """What a judge said of a pair.

    Attributes:
        pair: the pair.
        odds: in both orders, said of the answers as they were shown. None for a verdict that was unread.
    """

    pair: Pair
    odds: tuple[Odds | None, Odds | None]

    @property
    def orders(self) -> BothOrders:
        """The likeliest verdict in each order."""
        return BothOrders.as_shown(*(None if one is None else _likeliest(one) for one in self.odds))

    @property
    def share(self) -> float | None:
        """How far the first model is preferred, 0 to 1: the mean over the orders that were read, ties counting half."""
        shares = []
        for one, of_first in zip(self.odds, (1, -1), strict=True):
            if one is not None:
                share = sum(probability * _SHARE[word] for word, probability in one.items())
                shares.append(share if of_first == 1 else 1.0 - share)
        return sum(shares) / len(shares) if shares else None

    def row(self, judge: str) -> dict[str, Any]:
        """As a line of a file, with FastChat's columns."""
        case, (one, other) = self.pair.case, self.pair.models
        named = {"A": "model_a", "B": "model_b", "tie": "tie", None: "unread"}
        orders = self.orders
        return {
            "question_id": self.pair.question,
            "turn": len(case.turns),
            "model_a": one,
            "model_b": other,
            "judge": judge,
            "winner": named[side_of(self.share)],
            "g1_winner": named[orders.first],
            "g2_winner": named[orders.second],
            "share_a": self.share,
            "odds": list(self.odds),
            "answer_a": case.answers[0][-1],
            "answer_b": case.answers[1][-1],
        }


def _likeliest(odds: Odds) -> Choice:
    """The likeliest verdict. Between two answers that are equally likely to be better it is a tie."""
    one, other, tie = (odds.get(word, 0.0) for word in ("A", "B", "tie"))
    if one == other and one >= tie:
        return "tie"
    return max((word for word in CHOICES if word in odds), key=lambda word: odds[word])


def expected_grade(odds: Odds | None) -> float | None:
    """The mean of the grades by their probabilities. None for a verdict that was unread.

    >>> expected_grade({"7": 0.5, "8": 0.5}), expected_grade(None)
    (7.5, None)
    """
    return None if odds is None else sum(float(word) * probability for word, probability in odds.items())


def signature(judge: Judge) -> str:
    """A judge's name with the beginning of a hash of what its verdicts depend on."""
    return f"{judge.name}#{_hash(judge.identity)[:8]}"


def both_orders(pair: Pair) -> tuple[Case, Case]:
    """What a judge is shown for a pair."""
    return pair.case, pair.case.exchanged()


def judge_pairs(judge: Judge, pairs: Sequence[Pair], store: Path) -> list[PairJudged]:
    """Verdicts on pairs, each shown in both orders.

    Args:
        judge: the judge.
        pairs: the pairs.
        store: the file that keeps verdicts.

    Raises:
        RunError: the store is damaged or cannot be written, or some verdicts got no answer. The others are kept.
        PalmetteError: as the judge's `odds`.
    """
    cases = [case for pair in pairs for case in both_orders(pair)]
    found = judge_cases(judge, cases, store)
    return [PairJudged(pair, (found[2 * n], found[2 * n + 1])) for n, pair in enumerate(pairs)]


def judge_cases(judge: Judge, cases: Sequence[Case], store: Path) -> list[Odds | None]:
    """Verdicts on cases, from the store or from the judge.

    Args and errors are those of `judge_pairs`.
    """
    keys, known = _keys(judge, cases), _read(store)
    first = {key: index for index, key in reversed(list(enumerate(keys)))}
    missing = [index for key, index in sorted(first.items(), key=lambda item: item[1]) if key not in known]
    bar = progress(len(first), "judging", "verdicts", done=len(first) - len(missing)) if missing else None
    try:
        for place, odds in judge.odds([cases[index] for index in missing]):
            key = keys[missing[place]]
            if odds is not None:
                append_line(store, json.dumps({"key": key, "odds": odds}))
            known[key] = odds
            if bar is not None:
                bar.update(1)
    finally:
        if bar is not None:
            bar.close()
    if failed := sum(known[key] is None for key in first):
        raise RunError(
            " ".join([f"{failed} of {len(first)} verdicts got no answer.", *judge.notes]),
            "Give the same command again. What was said is kept.",
        )
    return [known[key] or None for key in keys]


def _keys(judge: Judge, cases: Sequence[Case]) -> list[str]:
    made_by = _hash(judge.identity)
    return [_hash([made_by, asdict(case)]) for case in cases]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read(store: Path) -> dict[str, Odds | None]:
    """The verdicts of a store. A last line that was cut off is taken away, since further ones are appended."""
    if not store.exists():
        return {}
    try:
        lines = read_log(store)
        known = {line["key"]: line["odds"] for line in lines}
    except (KeyError, TypeError) as error:
        raise RunError(f"{store} holds no verdicts", "Give another file.") from error
    whole = "".join(json.dumps(line) + "\n" for line in lines)
    if store.stat().st_size != len(whole.encode()):
        write_text(store, whole)
    return known
