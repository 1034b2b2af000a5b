"""A model's answers to questions with known answers, measured."""

from __future__ import annotations

from collections.abc import Sequence

from palmette.data.records import DataSet, Document
from palmette.data.source import check_documents
from palmette.evaluate.squad import Evaluation, evaluate_squad
from palmette.inference.answerer import Answerer, DecoderName


def evaluate(
    answerer: Answerer,
    data: DataSet | Sequence[Document],
    *,
    decoder: DecoderName = "span",
    max_words: int | None = None,
    inside_words: bool | None = None,
    batch_size: int = 16,
    loose: bool = False,
    reasoning_limit: int | None = None,
) -> Evaluation:
    """Answer every question of a data set, and measure the answers.

    Args:
        answerer: the model, as `load` gives it.
        data: questions with known answers, as `read_data` gives them, or documents of your own.
        decoder: "span" for the span decoder, or "greedy" or "beam" for plain generation.
        max_words: the longest answer of the span decoder, in words. As calibrated, or 30, if None.
        inside_words: whether answers of the span decoder may end inside a word. As calibrated, or not, if None.
        batch_size: how many prompts beam search takes at a time.
        loose: whether plain generation reads an answer out of broken JSON.
        reasoning_limit: let the model reason freely for up to so many tokens before it answers. As it was trained if
            None.

    Returns:
        The scored answers, with `metrics` such as "exact" and "f1" (percent), and `intervals` with 95 % intervals.

    Raises:
        DataError: the span decoder's calibration was fitted on one of the documents, or a document or question is
            broken.
        RunError: the model was calibrated for another `max_words`, `inside_words` or `reasoning_limit`.
    """
    source = data.source if isinstance(data, DataSet) else "data"
    documents = data.documents if isinstance(data, DataSet) else tuple(data)
    check_documents(documents, source)
    if decoder == "span" and answerer.calibration:
        answerer.calibration.check_unseen(documents, source)
    answers = answerer.decoder(
        decoder,
        effort=answerer.effort(max_words, inside_words),
        batch_size=batch_size,
        loose=loose,
        reasoning_limit=reasoning_limit,
    )
    return evaluate_squad(answers, documents)
