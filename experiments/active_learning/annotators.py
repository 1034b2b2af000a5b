"""Simulated people who know the right answers, and what a verdict costs them.

The model of cost, in seconds: whoever sees a question has to read it and to find the place, whatever comes of it
(`READING`). On top of that a right suggestion takes one key, a runner-up its number, a refusal one key after a look
through the document, and a span that is marked by hand takes longest. The numbers are assumptions, not measurements:
they follow the order of the page's own steps, and `run.py` reports verdicts and seconds side by side.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from palmette.data.records import Document, Question
from palmette.decode.prediction import Prediction
from palmette.review.events import Shown, Span, Verdict
from palmette.tasks.answer_match import exact_match, gold_answers

READING = 8.0
SECONDS = {"accept": 1.0, "runner-up": 2.0, "no_answer": 5.0, "marked": 8.0}


@dataclass(frozen=True)
class Annotator:
    """A person who knows the right answers.

    Attributes:
        seed: random seed of the mistakes.
        wrong: the share of verdicts that are wrong.
    """

    seed: int = 0
    wrong: float = 0.0

    def judge(self, document: Document, question: Question, prediction: Prediction) -> tuple[Shown, Verdict]:
        """What the person is shown, and the verdict.

        A wrong verdict accepts a suggestion that is wrong, or puts "no answer" or the first word of the document in
        the place of one that is right.
        """
        shown = shown_of(prediction)
        right = bool(exact_match(prediction.text, gold_answers(question)))
        if random.Random(f"{self.seed} {question.id}").random() >= self.wrong:
            return shown, _accept(shown) if right else _correct(question, prediction)
        if not right:
            return shown, _accept(shown)
        if shown.span is not None:
            return shown, Verdict("no_answer", None, READING + SECONDS["no_answer"])
        first = document.text.split()[0]
        start = document.text.index(first)
        return shown, Verdict("edit", Span(first, start, start + len(first)), READING + SECONDS["marked"])


def shown_of(prediction: Prediction) -> Shown:
    """What the page shows of a prediction."""
    span = None
    if prediction.text and prediction.start is not None:
        span = Span(prediction.text, prediction.start, prediction.start + len(prediction.text))
    return Shown(span, prediction.probability, prediction.no_answer_probability, prediction.candidates)


def _accept(shown: Shown) -> Verdict:
    return Verdict("accept", shown.span, READING + SECONDS["accept"])


def _correct(question: Question, prediction: Prediction) -> Verdict:
    """The right answer, where the suggestion is wrong: a runner-up by its number, else marked by hand."""
    if not question.answerable:
        return Verdict("no_answer", None, READING + SECONDS["no_answer"])
    gold = gold_answers(question)
    for one in prediction.candidates:
        if exact_match(one.text, gold):
            return Verdict("edit", Span(one.text, one.start, one.end), READING + SECONDS["runner-up"])
    answer = question.answers[0]
    span = Span(answer.text, answer.start, answer.start + len(answer.text))
    return Verdict("edit", span, READING + SECONDS["marked"])
