"""Evaluating a model on extractive questions by plain generation, and the three files that this leaves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.data.records import Document
from palmette.decode.abstention import abstention_probabilities
from palmette.decode.greedy import generate_replies
from palmette.evaluate.squad_metrics import ScoredAnswer, score_answers, summarize
from palmette.progress import progress
from palmette.run import write_json
from palmette.tasks.extractive_qa import ExtractiveQa, read_reply

PREDICTIONS, NA_PROB, METRICS = "predictions.json", "na_prob.json", "metrics.json"


@dataclass(frozen=True)
class Evaluation:
    """A model's answers to a data set.

    Attributes:
        scored: every answer with its scores, in the order of the data.
        na_prob: the probability of abstaining, by question id.
        seconds: wall time of generation, and of scoring abstention.
    """

    scored: tuple[ScoredAnswer, ...]
    na_prob: dict[str, float]
    seconds: float

    @property
    def metrics(self) -> dict[str, float | int | None]:
        """The metrics of the data set, with the time taken."""
        rate = len(self.scored) / self.seconds if self.seconds else None
        return {**summarize(self.scored), "seconds": self.seconds, "questions_per_second": rate}

    def write(self, folder: Path) -> None:
        """Write predictions and no-answer probabilities in the official SQuAD v2 format, and the metrics."""
        write_json(folder / PREDICTIONS, {answer.question.id: answer.prediction for answer in self.scored})
        write_json(folder / NA_PROB, self.na_prob)
        write_json(folder / METRICS, self.metrics)


def evaluate_squad(
    model: Any,
    tokenizer: Any,
    task: ExtractiveQa,
    documents: Sequence[Document],
    *,
    what: str = "answering",
    batch_size: int = 16,
    max_new_tokens: int = 48,
) -> Evaluation:
    """Answer every question by greedy generation, and score the answers.

    A reply that is not the JSON asked for counts as the answer it reads, raw.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer.
        task: what the prompts are made with.
        documents: documents with their questions.
        what: a word for the progress bar.
        batch_size: prompts generated side by side.
        max_new_tokens: where an endless reply is cut.
    """
    started = time.monotonic()
    asked = [(document, question) for document in documents for question in document.questions]
    predictions, valid = {}, {}
    na_prob: dict[str, float] = {}
    with progress(len(asked), what, "questions") as bar:
        replies = generate_replies(model, tokenizer, task, asked, batch_size=batch_size, max_new_tokens=max_new_tokens)
        for index, raw in replies:
            reply = read_reply(raw)
            predictions[asked[index][1].id], valid[asked[index][1].id] = reply.text, reply.valid
            bar.update()
    with progress(len(asked), f"{what}: probability of no answer", "questions") as bar:
        for probabilities in abstention_probabilities(model, task, documents):
            na_prob.update(probabilities)
            bar.update(len(probabilities))
    na_prob = {question.id: na_prob[question.id] for _, question in asked}
    scored = score_answers(documents, predictions, valid)
    return Evaluation(tuple(scored), na_prob, time.monotonic() - started)
