"""Rollouts that a policy learns from: replies sampled with the weights of the moment, rewarded, and hung below their prompts as prefix trees.

A tree has a document as its trunk, its questions below that, and the sampled replies of each question as leaves. So the policy, the policy
that sampled, and the reference read a document and a question once for all their replies. Every token of a reply is learned, the one that ended
it among them; a reply that was cut at the length limit has no end, and learns none. Nothing of a prompt is learned.

Replies are drawn at temperature 1 from all tokens, so that they come from the very policy that learns.

Letters: N samples (a group of them answers one question), P their tokens, one sample's after the other's, without padding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import torch

from palmette.data.records import Document, Question
from palmette.decode.rollouts import Finish, Rollout, RolloutSource, Sampling
from palmette.errors import PackingError
from palmette.objectives.advantages import flat_groups
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.prefix_tree import Node, PrefixTree
from palmette.tree.segments import Segment

REPLY = "reply"  # tag of what was sampled
JUDGED = "model"  # what the reward of a reward model is called

# What a reward model says of replies, each with what was asked about which document.
Judge = Callable[[Sequence[tuple[Document, Question, str]]], Sequence[float]]


class Reward(Protocol):
    """What replies are worth: parts by name, and their weighted sum (`tasks.rewards.QaReward`)."""

    def parts(self, raw: str, question: Question) -> dict[str, float]:
        """Each reward of a reply, not weighted, by name."""

    def total(self, parts: Mapping[str, float]) -> float:
        """Their weighted sum."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A document with the questions about it that are asked together.

    Attributes:
        name: of its tree; no two are alike.
        document: the document; of its questions only those in `questions` are asked.
        questions: what is asked.
        first_key: number of the first question in the whole data; with the seed it determines the draws, and so on for the others.
        root: tokens that all documents share.
        trunk: tokens of the document, and of what stands between it and any question.
        ends: tokens of each question, up to where the reply begins.
    """

    name: str
    document: Document
    questions: tuple[Question, ...]
    first_key: int
    root: tuple[int, ...]
    trunk: tuple[int, ...]
    ends: tuple[tuple[int, ...], ...]

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Tokens of each question with all that stands before it."""
        return [self.root + self.trunk + end for end in self.ends]

    def tree(self, replies: Sequence[Sequence[tuple[str, tuple[int, ...]]]]) -> PrefixTree:
        """The prefix tree of replies.

        One question, [4] after [1] and [2, 3], with the replies [5, 9] and [6]:

        >>> from palmette.tree.prefix_tree import lay_out
        >>> asked = Asked("d", Document("d", "", ()), (Question("q", ""),), 0, (1,), (2, 3), ((4,),))
        >>> row = lay_out(asked.tree([[("0", (5, 9)), ("1", (6,))]]))
        >>> row.token, row.predictor
        ([1, 2, 3, 4, 5, 9, 6], [-1, 0, 1, 2, 3, 4, 3])
        >>> row.learn, row.nodes[-1]
        ([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0], ('d', '1'))

        Args:
            replies: for each question its replies, as (name of the leaf, tokens).
        """
        below = tuple(
            Node(
                (Segment(end, tag="question"),),
                tuple(Node((Segment(tokens, learn=1.0, tag=REPLY),), name=name) for name, tokens in group),
                question.id,
            )
            for question, end, group in zip(self.questions, self.ends, replies, strict=True)
        )
        return PrefixTree(Node((Segment(self.root), Segment(self.trunk, tag="document")), below), self.name)


def ask_documents(
    documents: Sequence[Document],
    task: ExtractiveQa,
    *,
    num_samples: int,
    max_new_tokens: int,
    most_questions: int,
    row_tokens: int,
    on_too_long: Literal["error", "drop"] = "error",
) -> tuple[list[Asked], list[str]]:
    """Documents parted so that the tree of each part fits into a row, whatever is sampled; and what was left out, with reasons.

    Args:
        documents: documents; those without questions are passed over.
        task: what prompts are made with.
        num_samples: replies to each question.
        max_new_tokens: the most tokens of a reply.
        most_questions: the most questions of a part.
        row_tokens: the most tokens of a tree.
        on_too_long: what to do about a question whose tree alone has more: refuse it, or leave it out.

    Raises:
        DataError: the model would not say its answer in one reply of its own.
        PackingError: a question with its replies does not fit.
    """
    task.check_one_reply()
    found: list[Asked] = []
    dropped: list[str] = []
    key = 0
    for document in documents:
        fitting: list[tuple[int, Question, tuple[int, ...]]] = []
        for question in document.questions:
            opened = task.open_reply(document.text, question.text)
            shared = len(opened.root) + len(opened.document)
            alone = shared + len(opened.question) + num_samples * max_new_tokens
            key += 1
            if alone <= row_tokens:
                fitting.append((key - 1, question, opened.question))
                continue
            problem = f"question {question.id!r} with {num_samples} replies needs up to {alone} tokens"
            if on_too_long == "error":
                raise PackingError(
                    f"{problem}, more than train.row_tokens = {row_tokens}",
                    "Raise train.row_tokens, lower rollouts.samples or rollouts.max_new_tokens, or set data.on_too_long: drop.",
                )
            dropped.append(f"{problem}, limit {row_tokens}")
        room = row_tokens - shared if fitting else 0
        for part in _parts(fitting, num_samples * max_new_tokens, most_questions, room):
            keys, questions, ends = zip(*part, strict=True)
            name = f"{document.id}#{len(found)}"
            found.append(Asked(name, document, questions, keys[0], opened.root, opened.document, ends))
    return found, dropped


def _parts(
    fitting: Sequence[tuple[int, Question, tuple[int, ...]]], reply_tokens: int, most: int, room: int
) -> Iterator[list[tuple[int, Question, tuple[int, ...]]]]:
    """Runs of questions with consecutive numbers, no more than `most`, whose tokens fit into the room."""
    part: list[tuple[int, Question, tuple[int, ...]]] = []
    used = 0
    for one in fitting:
        need = len(one[2]) + reply_tokens
        if part and (len(part) == most or used + need > room or one[0] != part[-1][0] + 1):
            yield part
            part, used = [], 0
        part.append(one)
        used += need
    if part:
        yield part


@dataclass(frozen=True, slots=True)
class Sample:
    """A reply that was sampled, and what it is worth.

    Attributes:
        tokens: every token that was drawn, the end token among them.
        text: what was said.
        finish: what ended it: "end", or "length" where it was cut.
        rewards: by name, not weighted; "model" is that of a reward model.
        reward: the weighted sum.
    """

    tokens: tuple[int, ...]
    text: str
    finish: Finish
    rewards: dict[str, float]
    reward: float

    @property
    def ended(self) -> bool:
        """Whether it came to its end."""
        return self.finish != "length"


@dataclass(frozen=True, eq=False)
class RolloutBatch:
    """What was sampled at one moment.

    Attributes:
        number: which one of the run it is, from 0.
        asked: what was asked.
        samples: all replies, by document, question, and index.
        num_samples: replies to each question.
        scored: numbers for each token of the samples, by name (log-probabilities, say) [P].
        notes: numbers for the batch as a whole, by name.
    """

    number: int
    asked: tuple[Asked, ...]
    samples: tuple[Sample, ...]
    num_samples: int
    scored: dict[str, torch.Tensor] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = self.num_samples * sum(len(one.questions) for one in self.asked)
        if len(self.samples) != expected:
            raise ValueError(f"there are {len(self.samples)} samples instead of {expected}")

    @functools.cached_property
    def first_N(self) -> torch.Tensor:
        """Where each sample begins among all tokens."""
        count_N = torch.tensor([len(sample.tokens) for sample in self.samples])
        return count_N.cumsum(0) - count_N

    @functools.cached_property
    def branch_P(self) -> torch.Tensor:
        """The sample that each token belongs to."""
        count_N = torch.tensor([len(sample.tokens) for sample in self.samples])
        return torch.repeat_interleave(torch.arange(len(self.samples)), count_N)

    @functools.cached_property
    def group_N(self) -> torch.Tensor:
        """The question that each sample answers, as a number from 0."""
        return torch.arange(len(self.samples)) // self.num_samples

    @functools.cached_property
    def reward_N(self) -> torch.Tensor:
        """What each sample is worth (float64)."""
        return torch.tensor([sample.reward for sample in self.samples], dtype=torch.float64)

    @functools.cached_property
    def ended_N(self) -> torch.Tensor:
        """Which samples came to their end (bool)."""
        return torch.tensor([sample.ended for sample in self.samples])

    def trees(self) -> list[PrefixTree]:
        """A prefix tree for each document asked about; a leaf is named after its sample's number."""
        found, number = [], 0
        for one in self.asked:
            groups = []
            for _ in one.questions:
                group = range(number, number + self.num_samples)
                groups.append([(str(index), self.samples[index].tokens) for index in group])
                number += self.num_samples
            found.append(one.tree(groups))
        return found

    def summary(self) -> dict[str, float]:
        """Means over the samples: rewards, tokens, share that came to an end; and the share of questions whose replies earned all the same."""
        number = len(self.samples)
        names = self.samples[0].rewards
        parts = {f"reward_{name}": sum(sample.rewards[name] for sample in self.samples) / number for name in names}
        return {
            "reward": float(self.reward_N.mean()),
            **parts,
            "reply_tokens": len(self.branch_P) / number,
            "ended": float(self.ended_N.double().mean()),
            "flat_groups": float(flat_groups(self.reward_N, self.group_N).double().mean()),
        }

    def shown(self, most: int) -> list[dict[str, Any]]:
        """The first sample of each of the first so many questions, with what was asked."""
        questions = [question for one in self.asked for question in one.questions][:most]
        return [
            {
                "question": question.id,
                "asked": question.text,
                "gold": [answer.text for answer in question.answers],
                "reply": sample.text,
                "finish": sample.finish,
                "rewards": sample.rewards,
                "reward": sample.reward,
            }
            for question, sample in zip(questions, self.samples[:: self.num_samples], strict=False)
        ]

    def to_json(self) -> dict[str, Any]:
        """All but the prompts, which the data give again. Numbers survive exactly."""
        scored = {
            name: {"dtype": str(value_P.dtype).removeprefix("torch."), "values": value_P.tolist()}
            for name, value_P in self.scored.items()
        }
        samples = [asdict(sample) for sample in self.samples]
        return {"number": self.number, "samples": samples, "scored": scored, "notes": self.notes}

    @classmethod
    def from_json(
        cls, values: Mapping[str, Any], asked: Sequence[Asked], num_samples: int, device: torch.device | str = "cpu"
    ) -> RolloutBatch:
        """What `to_json` made, below the prompts that it was made of."""
        samples = tuple(Sample(**{**sample, "tokens": tuple(sample["tokens"])}) for sample in values["samples"])
        scored = {
            name: torch.tensor(held["values"], dtype=getattr(torch, held["dtype"]), device=device)
            for name, held in values["scored"].items()
        }
        return cls(values["number"], tuple(asked), samples, num_samples, scored, dict(values["notes"]))


@dataclass(frozen=True)
class RolloutMaker:
    """Samples replies and rewards them.

    Attributes:
        source: what samples.
        reward: what replies are worth by rule; None: nothing.
        num_samples: replies to each question.
        max_new_tokens: the most tokens of a reply.
        seed: of the run; with the number of the batch, the question's and the sample's it determines each draw.
        judge: what a reward model says of replies; None: there is none.
        judge_weight: how much that counts.
    """

    source: RolloutSource
    reward: Reward | None
    num_samples: int
    max_new_tokens: int
    seed: int
    judge: Judge | None = None
    judge_weight: float = 1.0

    def make(self, asked: Sequence[Asked], number: int) -> RolloutBatch:
        """Sample with the weights as they are.

        Args:
            asked: documents with their questions.
            number: which batch of the run this is, from 0.

        Raises:
            PackingError, ModelError: see `RolloutSource.sample`.
        """
        prompts = [prompt for one in asked for prompt in one.prompts]
        questions = [(one.document, question) for one in asked for question in one.questions]
        keys = [one.first_key + index for one in asked for index in range(len(one.questions))]
        sampling = Sampling(max_new_tokens=self.max_new_tokens, seed=self.seed * 1_000_003 + number)
        groups = list(self.source.sample(prompts, self.num_samples, sampling, keys=keys))
        replies = [(*which, rollout) for which, group in zip(questions, groups, strict=True) for rollout in group]
        judged: Sequence[float | None] = [None] * len(replies)
        if self.judge is not None:
            judged = self.judge([(document, question, rollout.text) for document, question, rollout in replies])
        samples = [self._sample(*reply, score) for reply, score in zip(replies, judged, strict=True)]
        return RolloutBatch(number, tuple(asked), tuple(samples), self.num_samples)

    def _sample(self, _: Document, question: Question, rollout: Rollout, score: float | None) -> Sample:
        parts = self.reward.parts(rollout.text, question) if self.reward is not None else {}
        total = self.reward.total(parts) if self.reward is not None else 0.0
        if score is not None:
            parts, total = {**parts, JUDGED: score}, total + self.judge_weight * score
        return Sample(rollout.tokens, rollout.text, rollout.finish, parts, total)
