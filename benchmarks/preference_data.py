"""What `benchmarks/preferences.py` trains on, made from documents with questions, by rule and without chance.

One prompt for each document: its text, and a question about it whose answer's sentence is to be copied. The completions
are sentences of the
document: first the one that the answer stands in, then others, those nearest to `ANSWER_TOKENS` long. In the built-in
corpus prompts have about 300 tokens and completions about 30. No two prompts share a document, so there is nothing to
share but the system message.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from palmette.data.chat import turns_of
from palmette.data.preference import Comparison
from palmette.data.records import Document
from palmette.objectives.advantages import group_advantages
from palmette.synth.quotes import around, sentences
from palmette.tasks.preference import PreferenceTrees
from palmette.tree.chat import ChatTemplate
from palmette.tree.prefix_tree import PrefixTree

ANSWER_TOKENS = 30
PROMPT = "{text}\n\nCopy the sentence of this text that answers the question: {question}"
# Log-probabilities of each branch's learned tokens, by tree and leaf.
Logprobs = dict[tuple[str, str], list[float]]


@dataclass(frozen=True)
class Group:
    """Completions of one prompt.

    Attributes:
        id: the document's.
        prompt: what the user says.
        completions: completions, all different; the first one is right.
        rewards: 1 for each that holds the answer, else 0.
        old: for each completion the log-probability of each of its tokens under the policy that "sampled" it (nats);
            None where nobody asks.
    """

    id: str
    prompt: str
    completions: tuple[str, ...]
    rewards: tuple[float, ...]
    old: tuple[tuple[float, ...], ...] | None = None

    def comparison(self) -> Comparison:
        """As a preference record; its leaves are named "0", "1", ... in the order of the completions."""
        return Comparison(self.id, turns_of(self.prompt, "user", self.id), self.completions)


def make_groups(documents: Iterable[Document], num: int, count: Callable[[str], int]) -> list[Group]:
    """A group of `num` completions of each document that has as many different sentences and an answer in one of them.

    Args:
        documents: documents with questions.
        num: completions of a group, 2 or more.
        count: tokens of a text.
    """
    found = []
    for document in documents:
        spans = sentences(document.text)
        said = list(dict.fromkeys(document.text[slice(*span)] for span in spans))
        lengths = {text: abs(count(text) - ANSWER_TOKENS) for text in said}
        asked = []
        for question in document.questions:
            if question.answers:
                gold = document.text[slice(*around(question.answers[0], spans))]
                if gold in lengths:  # an answer over two sentences is none of them
                    asked.append((lengths[gold], question.id, question, gold))
        if len(said) < num or not asked:
            continue
        _, _, question, gold = min(asked, key=lambda one: one[:2])
        others = sorted((text for text in said if text != gold), key=lambda text: (lengths[text], text))
        # Those that hold the answer too go last: a group whose rewards are all equal would teach nothing.
        others.sort(key=lambda text: question.answers[0].text in text)
        completions = (gold, *others[: num - 1])
        rewards = tuple(float(question.answers[0].text in text) for text in completions)
        if len(set(rewards)) > 1:
            prompt = PROMPT.format(text=document.text, question=question.text)
            found.append(Group(document.id, prompt, completions, rewards))
    return found


def make_trees(groups: Sequence[Group], template: ChatTemplate, *, learned: bool = True) -> list[PrefixTree]:
    """The prefix tree of each group: the prompt, and below it the completions, which are learned up to the end of
    the turn (or not at all).
    """
    trees = PreferenceTrees(template, learned=learned)
    return [trees.of_comparison(group.comparison()) for group in groups]


def advantages(groups: Sequence[Group]) -> dict[tuple[str, str], float]:
    """The advantage of each completion over the others of its group, in standard deviations (Shao et al., 2024), by
    tree and leaf.
    """
    names = [(group.id, str(index)) for group in groups for index in range(len(group.completions))]
    owner_N = torch.tensor([index for index, group in enumerate(groups) for _ in group.completions])
    reward_N = torch.tensor([reward for group in groups for reward in group.rewards])
    values = group_advantages(reward_N, owner_N, baseline="mean", scale="group").tolist()
    return dict(zip(names, values, strict=True))


def with_old(groups: Sequence[Group], logprobs: Logprobs) -> list[Group]:
    """The groups with the log-probabilities of their tokens."""
    return [
        replace(group, old=tuple(tuple(logprobs[group.id, str(index)]) for index in range(len(group.completions))))
        for group in groups
    ]


def old_logprobs(groups: Sequence[Group]) -> Logprobs:
    """What `with_old` put in."""
    return {(group.id, str(index)): list(values) for group in groups for index, values in enumerate(group.old or ())}


def write_groups(path: Path, groups: Sequence[Group]) -> None:
    """Write groups to a file; numbers survive exactly."""
    path.write_text(json.dumps([asdict(group) for group in groups]), encoding="utf-8")


def read_groups(path: str) -> list[Group]:
    """What `write_groups` wrote."""
    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    return [
        Group(
            row["id"],
            row["prompt"],
            tuple(row["completions"]),
            tuple(row["rewards"]),
            row["old"] and tuple(map(tuple, row["old"])),
        )
        for row in rows
    ]
