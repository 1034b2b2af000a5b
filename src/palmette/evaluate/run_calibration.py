"""Calibrate a finished run: check the data, fit the calibration, and write it beside the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from palmette.data.joined import join_by_title
from palmette.data.source import read_source
from palmette.decode.reachability import report_unreachable
from palmette.errors import DataError, RunError
from palmette.evaluate.calibration import calibrate, check_data
from palmette.evaluate.comparisons import was_learned
from palmette.evaluate.record import HELD_OUT_SPLIT
from palmette.inference.answerer import load_answerer
from palmette.inference.calibration import COST_WRONG, Calibration, check_cost
from palmette.inference.reader import READER
from palmette.model.attention import AttentionChoice
from palmette.progress import Say
from palmette.run import trained_folder


def calibrate_run(
    run: Path,
    data: str,
    *,
    attention: AttentionChoice | None = None,
    max_words: int | None = None,
    inside_words: bool = False,
    cost_wrong: float | None = None,
    target_error: float | None = None,
    confidence: float = 0.95,
    joined: int = 0,
    say: Say = lambda _: None,
) -> Calibration:
    """Fit the calibration of a run, and write it beside the run's weights.

    Args:
        run: the folder of a finished run.
        data: questions with known answers that the run has not seen.
        attention: the attention backend. The run's own if None.
        max_words: the longest answer, in words. 30 if None.
        inside_words: whether answers may end inside a word.
        cost_wrong: what a wrong answer costs, if refusing a question that has an answer costs 1. 2 if None.
        target_error: the largest share of wrong answers to guarantee. No guarantee if None. With a target, the cost
            has no influence, so none may be given.
        confidence: confidence level of the guarantee.
        joined: also join the documents of each title into a long one, and ask up to so many of its questions that have
            an answer, and as many that have none. 0 leaves that out.
        say: called with a line if some answers cannot be given by the span decoder.

    Raises:
        RunError: the folder is not a finished run.
        DataError: the run was trained on the data, nothing can be fitted to them, the guarantee cannot be given, the
            cost is below 1 or stands beside a target, or long documents are asked for beside a target or cannot be
            joined.
    """
    _check_options(run, cost_wrong, target_error, joined)
    cost = COST_WRONG if cost_wrong is None else cost_wrong
    check_cost(cost)
    folder = trained_folder(run)
    source = read_source(data, default_split=HELD_OUT_SPLIT)
    if was_learned(run, source.sha256):
        raise DataError(
            f"{run} was trained on {source.source}: what it knows by heart calibrates nothing",
            "Calibrate on documents that it has not seen.",
        )
    check_data(source.documents, data, target_error=target_error, confidence=confidence)
    if joined:
        long = join_by_title(source.documents, data, questions=joined)
        source = replace(source, documents=(*source.documents, *long))
    answerer = load_answerer(str(run), attention=attention, calibrated=False)
    effort = answerer.effort(max_words, inside_words)
    report_unreachable(source.documents, say, effort)
    calibration = calibrate(answerer, source, effort, cost_wrong=cost, target_error=target_error, confidence=confidence)
    calibration.write(folder)
    return calibration


def _check_options(run: Path, cost_wrong: float | None, target_error: float | None, joined: int) -> None:
    """Refuse options that contradict each other, and the reader."""
    if cost_wrong is not None and target_error is not None:
        raise DataError(
            f"a cost of {cost_wrong:g} and a target error of {target_error:g} were given, and each decides by itself",
            "Give --cost-wrong or --target-error, not both.",
        )
    if joined and target_error is not None:
        raise DataError(
            "a guarantee cannot rest on joined documents: each of their texts counts twice",
            "Leave out --joined, or give long documents as data.",
        )
    if str(run) == READER:
        raise RunError(
            "the reader comes with its calibration, which is not changed in place",
            "Begin a run from it (start: reader), and calibrate that.",
        )
