"""Evaluation of a model by name, or of files of predictions, on a data set, and the folder that it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.decode.prediction import Decoder
from palmette.decode.reachability import count_unreachable, report_unreachable
from palmette.evaluate.answers import evaluate
from palmette.evaluate.official import read_official
from palmette.evaluate.record import HELD_OUT_SPLIT, MADE_BY, made_by
from palmette.evaluate.squad import Evaluation, evaluate_squad, score
from palmette.files import expand
from palmette.inference.answerer import DecoderName, load_answerer
from palmette.model.attention import AttentionChoice
from palmette.pages.evaluation.folder import facts_of, loss_of, write_evaluation
from palmette.progress import Say
from palmette.studies.measuring import first_questions


@dataclass(frozen=True)
class AnswerSettings:
    """Settings of an evaluation.

    Attributes:
        attention: the attention backend. The run's own, or "auto", if None.
        decoder: the span decoder, or plain generation.
        calibrated: whether to use the run's calibration, if it has one. Only the span decoder has a use for it.
        cost_wrong: what a wrong answer costs. As calibrated if None. See `load_answerer`.
        max_words: the longest answer, in words. As calibrated, or 30, if None.
        inside_words: whether answers may end inside a word. As calibrated, or not, if None.
        batch_size: prompts that beam search takes at the same time.
        loose: whether plain generation reads an answer out of broken JSON.
        limit_documents: use only the first N documents.
        limit_questions: use only the first N questions, of those documents.
        reasoning_limit: let the model reason freely for up to this many tokens before it answers. If None, it answers
            as it was trained.
    """

    attention: AttentionChoice | None = None
    decoder: DecoderName = "span"
    calibrated: bool = True
    cost_wrong: float | None = None
    max_words: int | None = None
    inside_words: bool | None = None
    batch_size: int = 16
    loose: bool = False
    limit_documents: int | None = None
    limit_questions: int | None = None
    reasoning_limit: int | None = None


def evaluate_model(
    model: str, data: str, out: Path, settings: AnswerSettings, say: Say
) -> tuple[Evaluation, str | None]:
    """Answer a data set with a model, and write the folder of the evaluation.

    Args:
        model: a run folder, a model folder, a GGUF file, or a hub id.
        data: questions with known answers.
        out: the folder, which must not exist.
        settings: how the model is asked.
        say: called with a line if some answers cannot be given by the span decoder.

    Returns:
        The evaluation, and the data that the model was calibrated on, if its calibration was used.

    Raises:
        RunError: the folder exists, or the run is not finished or was calibrated for something else.
        ModelError: the model cannot be loaded.
        DataError: the data cannot be read, or the model was calibrated on them.
    """
    run.check_absent(out)
    documents = read_source(data, default_split=HELD_OUT_SPLIT, limit_documents=settings.limit_documents)
    source = first_questions(documents, settings.limit_questions)
    calibrated = settings.calibrated and settings.decoder == "span"
    answerer = load_answerer(model, attention=settings.attention, calibrated=calibrated, cost_wrong=settings.cost_wrong)
    effort = answerer.effort(settings.max_words, settings.inside_words)
    counted = settings.decoder == "span"
    out_of_reach = (
        report_unreachable(source.documents, say, effort) if counted else count_unreachable(source.documents, effort)
    )
    with run.whole_folder(out) as staging:
        result = evaluate(
            answerer,
            source,
            decoder=settings.decoder,
            max_words=settings.max_words,
            inside_words=settings.inside_words,
            batch_size=settings.batch_size,
            loose=settings.loose,
            reasoning_limit=settings.reasoning_limit,
        )
        windows = {answer.document.id: answer.prediction.num_windows for answer in result.scored}
        if answerer.calibration and (line := answerer.calibration.warn_of_windows(windows.values())):
            say(line)
        title = f"{Path(model).name} on {Path(data).name}"
        loss = loss_of(expand(model))
        write_evaluation(result, staging, title, facts_of(model, data, settings.decoder), loss)
        about = made_by(answerer, source, model, settings.decoder, effort, settings.reasoning_limit)
        run.write_json(staging / MADE_BY, {**about, "unreachable": out_of_reach.describe()})
    return result, answerer.calibration.source if answerer.calibration else None


def evaluate_decoder(
    decoder: Decoder, source: DataSet, out: Path, *, name: str, asked_by: str, about: Callable[[], Mapping[str, Any]]
) -> Evaluation:
    """Answer a data set with any decoder, and write the folder of the evaluation.

    Args:
        decoder: what answers.
        source: the questions, with known answers.
        out: the folder, which must not exist.
        name: the model's name, for the report.
        asked_by: how it is asked, for the report.
        about: what the evaluation depends on, for its record. Called when all questions are answered.

    Raises:
        RunError: the folder exists or cannot be written.
    """
    with run.whole_folder(out) as staging:
        result = evaluate_squad(decoder, source.documents)
        title = f"{name} on {Path(source.source).name}"
        write_evaluation(result, staging, title, facts_of(name, source.source, asked_by))
        run.write_json(staging / MADE_BY, {**run.environment(), **about(), "data": source.describe()})
    return result


def evaluate_predictions(predictions: Path, na_prob: Path | None, data: str, out: Path) -> Evaluation:
    """Score prediction files of the official SQuAD v2 format, and write the folder of the evaluation.

    Args:
        predictions: {question id: text}, empty for no answer, as JSON.
        na_prob: {question id: probability of no answer}, as JSON, if there is such a file.
        data: the questions.
        out: the folder, which must not exist.

    Raises:
        RunError: the folder exists.
        DataError: a file cannot be read or does not answer these questions.
    """
    run.check_absent(out)
    source = read_source(data, default_split=HELD_OUT_SPLIT)
    result = score(source.documents, read_official(source.documents, predictions, na_prob))
    with run.whole_folder(out) as staging:
        title = f"{predictions.name} on {Path(data).name}"
        write_evaluation(result, staging, title, facts_of(str(predictions), data, "predictions read"))
    return result
