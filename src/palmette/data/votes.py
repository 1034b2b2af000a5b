"""Votes of people on pairs of answers, and what can be learned from them.

A row is one vote, in FastChat's columns or those of crowd-sourcing files:

- `model_a` and `model_b`, or `left` and `right`: the two models.
- `winner`: `model_a`, `model_b`, `left`, `right`, or the name of one of the two, `tie`, or `tie (bothbad)`, `bothbad`
  or `both_bad`.
- `conversation_a` and `conversation_b` (lists of messages that end with the assistant's), or `answer_a` and `answer_b`
  with a `prompt` or `question`. With `turn`, conversations are cut to so many replies.
- `judge`, `voter` or `worker`: who voted. Without it every vote counts as that of somebody else.
- `anony` false: the names were shown before the vote, so it is left out.

All votes on the same two answers to one prompt are taken together. The last vote of a person counts. The outcome with
more votes than each other one holds, and without such an outcome nothing is learned. A winner and a loser are a pair.

For KTO, each answer gets one verdict: good if it won more often than it lost, bad if it lost more often. "Both are bad"
is a loss of both. Ties count for nothing.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palmette.data.kinds import LOOKED_AT, kind_of
from palmette.data.text import short
from palmette.data.values import read_turn, without_nulls
from palmette.errors import DataError

Row = dict[str, Any]
Outcome = Literal["left", "right", "tie", "both bad"]
VOTE_COLUMNS = "Each row needs 'model_a', 'model_b' (or 'left', 'right') and 'winner'."
SIDES = (("model_a", "model_b"), ("left", "right"))
VOTER = ("judge", "voter", "worker")
_PROMPT = ("prompt", "question")
_ANSWERS = (
    "Votes are learned from together with their answers: 'conversation_a' and 'conversation_b', or 'prompt', "
    "'answer_a' and 'answer_b'. `palmette arena export` writes them."
)
_WINNERS: dict[str, Outcome] = {
    "model_a": "left",
    "left": "left",
    "model_b": "right",
    "right": "right",
    "tie": "tie",
    "tie (bothbad)": "both bad",
    "bothbad": "both bad",
    "both_bad": "both bad",
    "both bad": "both bad",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One of two answers.

    Attributes:
        prompt: the messages up to its last reply.
        reply: the last reply.
    """

    prompt: tuple[tuple[str, str], ...]
    reply: str


@dataclass(frozen=True, slots=True)
class Contest:
    """Two answers and what people say of them together.

    Attributes:
        row: the first row that is about them, as "row-N".
        answers: both, as they stand in that row.
        outcome: which is better. None if no outcome has more votes than each other one.
    """

    row: str
    answers: tuple[Answer, Answer]
    outcome: Outcome | None

    @property
    def shares_prompt(self) -> bool:
        """Whether both answers follow the same messages. In later turns they may follow different replies."""
        return self.answers[0].prompt == self.answers[1].prompt


@dataclass(frozen=True, slots=True)
class VoteCounts:
    """What the votes of a source say.

    Attributes:
        votes: votes that count.
        contests: different pairs of answers.
        won: those of which one answer is better.
        ties, both_bad: those that are.
        undecided: those of which no outcome has more votes than each other one.
        disputed: those on which not all votes are the same.
        apart: those that are won, but follow different replies. They make no pairs.
        named: votes that were left out because the models' names were shown first.
    """

    votes: int
    contests: int
    won: int
    ties: int
    both_bad: int
    undecided: int
    disputed: int
    apart: int
    named: int

    def words(self) -> str:
        """The counts as a sentence without its stop.

        >>> VoteCounts(9, 6, 3, 1, 1, 1, 2, 1, 4).words()
        '9 votes on 6 pairs of answers: 3 won, 1 tied, 1 both bad, 1 undecided. People disagree on 2. In 1 the answers \
follow different replies, so they make no pair. Left out: 4 votes with names shown first'
        """
        text = f"{_count(self.votes, 'vote')} on {_count(self.contests, 'pair')} of answers: "
        text += f"{self.won:,} won, {self.ties:,} tied, "
        text += f"{self.both_bad:,} both bad, {self.undecided:,} undecided. People disagree on {self.disputed:,}"
        if self.apart:
            text += f". In {self.apart:,} the answers follow different replies, so they make no pair"
        return f"{text}. Left out: {_count(self.named, 'vote')} with names shown first" if self.named else text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@dataclass(frozen=True, slots=True)
class Contests:
    """The votes of a source, taken together.

    Attributes:
        contests: in the order in which they first occur.
        errors: rows that are no votes, or hold no answers.
        counts: what was counted.
    """

    contests: tuple[Contest, ...]
    errors: tuple[DataError, ...]
    counts: VoteCounts

    def pair_rows(self) -> Iterator[Row]:
        """A row of `prompt`, `chosen` and `rejected` for each contest that was won under one prompt."""
        for one in self.contests:
            if one.outcome in ("left", "right") and one.shares_prompt:
                won, lost = one.answers if one.outcome == "left" else one.answers[::-1]
                sides = {"chosen": _reply(won), "rejected": _reply(lost)}
                yield {"id": one.row, "prompt": _messages(won.prompt), **sides}

    def verdict_rows(self) -> Iterator[Row]:
        """A row of `prompt`, `completion` and `label` for each answer that won or lost more often."""
        lead: dict[Answer, int] = {}
        first: dict[Answer, str] = {}
        for one in self.contests:
            for side, answer in zip("ab", one.answers, strict=True):
                first.setdefault(answer, f"{one.row}/{side}")
                lead[answer] = lead.get(answer, 0) + _lead(one.outcome, side)
        for answer, number in lead.items():
            if number:
                made = {"prompt": _messages(answer.prompt), "completion": _reply(answer), "label": number > 0}
                yield {"id": first[answer], **made}


def _lead(outcome: Outcome | None, side: str) -> int:
    """1 for an answer that won, -1 for one that lost or is bad, else 0."""
    if outcome == "both bad":
        return -1
    if outcome not in ("left", "right"):
        return 0
    return 1 if (outcome == "left") == (side == "a") else -1


def _messages(turns: Iterable[tuple[str, str]]) -> list[Row]:
    return [{"role": role, "content": content} for role, content in turns]


def _reply(answer: Answer) -> list[Row]:
    return _messages([("assistant", answer.reply)])


def learned_rows(
    rows: Iterable[Row | DataError], source: str, make: Callable[[Contests], Iterable[Row]]
) -> tuple[Iterable[Row | DataError], VoteCounts | None]:
    """Rows to learn from: what votes become, or the rows as they are if they are no votes.

    Args:
        rows: rows, or the errors of lines that hold none. The first row that shows a kind says whether they are votes,
            if it is one of the first 20.
        source: how messages name the data.
        make: `Contests.pair_rows` or `Contests.verdict_rows`.

    Returns:
        The rows, errors first if they were votes, and what was counted of votes.
    """
    rows = iter(rows)
    head = list(itertools.islice(rows, LOOKED_AT))
    everything = itertools.chain(head, rows)
    kinds = (kind_of(row) for row in head if isinstance(row, dict))
    if next((kind for kind in kinds if kind is not None), None) != "votes":
        return everything, None
    found = read_contests(everything, source)
    return itertools.chain(found.errors, make(found)), found.counts


def read_contests(rows: Iterable[Row | DataError], source: str) -> Contests:
    """Take votes together.

    Two people and one pair of answers, shown on different sides:

    >>> said = {"model_a": "elm", "model_b": "fir", "prompt": "When?", "answer_a": "At 8.", "answer_b": "No."}
    >>> turned = {"model_a": "fir", "model_b": "elm", "prompt": "When?", "answer_a": "No.", "answer_b": "At 8."}
    >>> found = read_contests([{**said, "winner": "model_a"}, {**turned, "winner": "model_b"}], "votes.jsonl")
    >>> [row["chosen"] for row in found.pair_rows()], found.counts.votes
    ([[{'role': 'assistant', 'content': 'At 8.'}]], 2)

    Args:
        rows: votes, or the errors of lines that hold none.
        source: how messages name the data.
    """
    errors: list[DataError] = []
    said: dict[frozenset[Answer], dict[str, Outcome]] = {}
    first: dict[frozenset[Answer], tuple[str, tuple[Answer, Answer]]] = {}
    num_named = 0
    for number, given in enumerate(rows, start=1):
        try:
            if isinstance(given, DataError):
                raise given
            row, name = without_nulls(given), f"row-{number}"
            if names_were_shown(row):
                num_named += 1
                continue
            answers, outcome = _vote(row, f"{source}, {name}")
        except DataError as error:
            errors.append(error)
            continue
        key = frozenset(answers)
        shown = first.setdefault(key, (name, answers))[1]
        if answers != shown and outcome in ("left", "right"):
            outcome = "right" if outcome == "left" else "left"
        voter = next((f"voter {row[key]}" for key in VOTER if row.get(key, "") != ""), name)
        said.setdefault(key, {})[voter] = outcome
    contests = tuple(Contest(*first[key], _majority(votes)) for key, votes in said.items())
    return Contests(contests, tuple(errors), _counts(contests, list(said.values()), num_named))


def _counts(contests: tuple[Contest, ...], said: list[dict[str, Outcome]], num_named: int) -> VoteCounts:
    outcomes = Counter(one.outcome for one in contests)
    return VoteCounts(
        votes=sum(map(len, said)),
        contests=len(contests),
        won=outcomes["left"] + outcomes["right"],
        ties=outcomes["tie"],
        both_bad=outcomes["both bad"],
        undecided=outcomes[None],
        disputed=sum(len(set(votes.values())) > 1 for votes in said),
        apart=sum(one.outcome in ("left", "right") and not one.shares_prompt for one in contests),
        named=num_named,
    )


def _majority(votes: Mapping[str, Outcome]) -> Outcome | None:
    (first, most), *others = Counter(votes.values()).most_common(2)
    return None if others and others[0][1] == most else first


def _vote(row: Row, where: str) -> tuple[tuple[Answer, Answer], Outcome]:
    left, right = read_models(row, where)
    outcome = read_outcome(row["winner"], left, right, where)
    answers = read_answer(row, "a", where), read_answer(row, "b", where)
    if answers[0] == answers[1]:
        raise DataError(f"{where} compares two equal answers", "Such a vote says nothing. Remove the row.")
    return answers, outcome


def read_answer(row: Mapping[str, Any], side: str, where: str) -> Answer:
    """One of the two answers of a row of votes.

    Args:
        row: the row, without nulls.
        side: "a" or "b".
        where: the source and the row, for messages.

    Raises:
        DataError: it does not hold the answer, or the conversation has no reply at its end or no reply of its `turn`.
    """
    text, key = row.get(f"answer_{side}"), f"conversation_{side}"
    if key in row:
        turns = _turns(row[key], f"{where}: {key!r}", read_turn(row["turn"], where) if "turn" in row else None)
        return Answer(turns[:-1], turns[-1][1])
    prompt = next((row[name] for name in _PROMPT if name in row), None)
    if not isinstance(text, str) or not isinstance(prompt, str):
        missing = "prompt" if isinstance(text, str) else f"answer_{side}"
        raise DataError(f"{where} has neither {key!r} nor a text as {missing!r}", _ANSWERS)
    return Answer((("user", prompt),), text)


def _turns(messages: Any, where: str, limit: int | None) -> tuple[tuple[str, str], ...]:
    """The messages of a conversation up to a reply: number `limit`, or the last one if that is None."""
    if not isinstance(messages, list) or not all(
        isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
        for one in messages
    ):
        raise DataError(f"{where} is {short(json.dumps(messages))}, not a list of messages", _ANSWERS)
    turns = tuple((one["role"], one["content"]) for one in messages)
    replies = [index for index, (role, _) in enumerate(turns) if role == "assistant"]
    if len(replies) < (limit or 1) or (limit is None and turns[-1][0] != "assistant"):
        wanted = f"reply {limit}, which is the 'turn' of the vote" if limit else "a reply at its end"
        raise DataError(f"{where} lacks {wanted}", _ANSWERS)
    return turns[: replies[limit - 1] + 1] if limit else turns


def names_were_shown(row: Mapping[str, Any]) -> bool:
    """Whether the models' names were shown before a vote, so it is not blind."""
    return str(row.get("anony", True)).lower() in ("false", "0")


def read_models(row: Mapping[str, Any], where: str) -> tuple[str, str]:
    """The two models of a row of votes.

    Args:
        row: the row, without nulls.
        where: the source and the row, for messages.

    Raises:
        DataError: it lacks a model or the winner, a model has no name, or both are the same.
    """
    sides = next((pair for pair in SIDES if all(key in row for key in pair)), None)
    if sides is None or "winner" not in row:
        missing = "'winner'" if sides else "two models"
        raise DataError(f"{where} has no {missing}", VOTE_COLUMNS)
    left, right = (read_model(row[key], f"{where}: {key!r}") for key in sides)
    if left == right:
        raise DataError(f"{where} compares {left!r} with itself", "A vote is about two models. Remove the row.")
    return left, right


def read_model(value: Any, where: str) -> str:
    """The name of a model in a row of votes.

    Args:
        value: the value.
        where: the source, the row and the column, for messages.

    Raises:
        DataError: it is no name.
    """
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where} is {short(value)}, not the name of a model", VOTE_COLUMNS)
    return value.strip()


def read_outcome(value: Any, left: str, right: str, where: str) -> Outcome:
    """Who won, as a row of votes says it.

    Args:
        value: the value.
        left: the first model.
        right: the second one.
        where: the source and the row, for messages.

    Raises:
        DataError: it names no outcome.
    """
    text = str(value).strip()
    found = _WINNERS.get(text.lower())
    if found is None:
        by_name: dict[str, Outcome] = {left: "left", right: "right"}
        found = by_name.get(text)
    if found is None:
        raise DataError(
            f"{where}: 'winner' is {short(value)}",
            "It is model_a, model_b, left, right, the name of one of both models, tie, or both_bad.",
        )
    return found
