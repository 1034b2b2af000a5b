"""Wrong answers that a model itself finds likely, for it to learn to refuse at a second look.

A fine-tuned model is asked every question of a data set. Of the likeliest spans of its decoder, those that share no
word with an accepted answer are wrong. A span that shares one may be right in other words, so it is left out. They are
written as `plausible_answers`, as SQuAD v2 has them for unanswerable questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from palmette.data.records import Answer, Document, Question
from palmette.decode.posterior import SpanPosterior
from palmette.decode.span_decoder import SpanDecoder
from palmette.tasks.answer_match import gold_answers, token_f1


def with_candidates(
    decoder: SpanDecoder, documents: Iterable[Document], *, most: int, watch: Callable[[int], None] = lambda _: None
) -> Iterator[Document]:
    """Documents whose questions have the model's likeliest wrong answers as plausible ones, in front of those they had.

    Args:
        decoder: asks the model.
        documents: the documents, with the answers of their questions.
        most: the most wrong answers of a question.
        watch: told of the number of questions that a document had, as soon as it is done.

    Raises:
        PalmetteError: see `SpanDecoder.posteriors`.
    """
    for document in documents:
        posteriors = dict(decoder.posteriors([document]))
        questions = tuple(_with_candidates(question, posteriors[question.id], most) for question in document.questions)
        watch(len(questions))
        yield replace(document, questions=questions)


def _with_candidates(question: Question, posterior: SpanPosterior, most: int) -> Question:
    wrong = [Answer(text, start) for text, start, _ in posterior.spans if is_wrong(text, question)][:most]
    known = [answer for answer in question.plausible if answer.text not in {other.text for other in wrong}]
    return replace(question, plausible=(*wrong, *known))


def is_wrong(text: str, question: Question) -> bool:
    """Whether a span shares no word with any accepted answer.

    >>> asked = Question("q", "When?", (Answer("in 1882", 4),))
    >>> is_wrong("1882", asked), is_wrong("in Vigo", asked), is_wrong("1883", asked), is_wrong("x", Question("r", "?"))
    (False, False, True, True)
    """
    return not question.answers or token_f1(text, gold_answers(question)) == 0.0
