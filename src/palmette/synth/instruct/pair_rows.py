"""What was found in texts as rows: a conversation for each question, or texts with their questions below them.

The second form is what Instruction Pre-Training (Cheng et al., 2024) learns by predicting the next token: a text, its
questions and answers, and after them the next text with its own, in one of several layouts. A text without questions
stays as it is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from palmette.data.records import Document
from palmette.synth.instruct.pairs import chains_of, kept_pairs
from palmette.synth.instruct.settings import PairSettings
from palmette.synth.work import Line

_LAYOUTS = (
    "Question: {question}\nAnswer: {answer}",
    "Q: {question}\nA: {answer}",
    "{question}\n{answer}",
    "{question} {answer}",
    "Task: {question}\n\nSolution: {answer}",
    "- {question}\n  {answer}",
)


def rows_of(passages: Sequence[Document], lines: Sequence[Line], settings: PairSettings) -> Iterator[Mapping[str, Any]]:
    """The rows of what was kept.

    Args:
        passages: the passages.
        lines: their lines, in the same order.
        settings: the form.
    """
    return _texts(passages, lines, settings) if settings.form == "text" else _conversations(passages, lines)


def _conversations(passages: Sequence[Document], lines: Sequence[Line]) -> Iterator[Mapping[str, Any]]:
    for passage, line in zip(passages, lines, strict=True):
        for pair in line["pairs"]:
            if not pair["reason"]:
                asked = {"role": "user", "content": f"{passage.text}\n\n{pair['question']}"}
                said = {"role": "assistant", "content": pair.get("reply", pair["answer"])}
                place = {"document": passage.title, **pair["place"]}
                refined = {"answer": pair["answer"]} if "reply" in pair else {}
                yield {"id": pair["id"], "messages": [asked, said], "place": place, **refined}


def _texts(passages: Sequence[Document], lines: Sequence[Line], settings: PairSettings) -> Iterator[Mapping[str, Any]]:
    by_id = {line["id"]: line for line in lines}
    for chain in chains_of(passages, settings.shots):
        layout = random.Random(f"{settings.seed} {chain[0].text}").choice(_LAYOUTS)
        parts = []
        for passage in chain:
            line = by_id[passage.id]
            replies = [pair.get("reply", pair["answer"]) for pair in line["pairs"] if not pair["reason"]]
            questions = [question for question, _ in kept_pairs(line)]
            parts.append(passage.text)
            parts += [layout.format(question=one, answer=other) for one, other in zip(questions, replies, strict=True)]
        yield {"id": chain[0].id, "text": "\n\n".join(parts)}
