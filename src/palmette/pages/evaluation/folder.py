"""The folder that an evaluation leaves: files for programs, and the report for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from palmette import run
from palmette.evaluate.squad import Evaluation
from palmette.pages.evaluation.before import Before
from palmette.pages.evaluation.report import Report, write_report
from palmette.train.stages import NATS_PER_TOKEN, STAGES

REPORT = "report.html"


def write_evaluation(
    evaluation: Evaluation,
    folder: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    loss: Sequence[tuple[int, float]] = (),
    before: Before | None = None,
) -> None:
    """Write the files of `Evaluation.write`, and the report.

    Args:
        evaluation: the answers and their scores.
        folder: where everything goes. It exists.
        title: the report's heading.
        facts: model, decoder, data and day, from `facts_of`.
        loss: the training loss for the report, as (optimizer step, nats per learned token).
        before: answers of another model that the report compares with.

    Raises:
        RunError: a file cannot be written.
    """
    evaluation.write(folder)
    report = Report(title, facts, evaluation.scored, evaluation.metrics, evaluation.intervals, loss, before)
    write_report(folder / REPORT, report)


def facts_of(model: str, data: str, decoder: str) -> list[tuple[str, str]]:
    """Model, decoder, data and day, for a report."""
    kind = "span decoder" if decoder == "span" else decoder
    return [("Model", model), ("Asked by", kind), ("Questions", data), ("Day", datetime.now(UTC).date().isoformat())]


def loss_of(folder: Path) -> list[tuple[int, float]]:
    """The training loss of a run folder, in nats per learned token.

    It is empty for anything that is no run folder, and for stages whose loss has another unit.
    """
    log = folder / run.METRICS_LOG
    stage = STAGES.get(run.stage_of(folder))
    if not log.is_file() or stage is None or stage.loss_unit != NATS_PER_TOKEN:
        return []
    return [(line["step"], line["loss"]) for line in run.read_log(log)]
