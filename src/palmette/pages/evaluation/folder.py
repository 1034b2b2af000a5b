"""The folder that an evaluation leaves: files for programs, and the report for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from palmette import run
from palmette.evaluate.squad import Evaluation
from palmette.pages.evaluation.report import Report, write_report
from palmette.train.stages import NATS_PER_TOKEN, STAGES

REPORT = "report.html"


def write_evaluation(
    evaluation: Evaluation, folder: Path, title: str, subtitle: str, loss: Sequence[tuple[int, float]] = ()
) -> None:
    """Write the files of `Evaluation.write`, and the report.

    Args:
        evaluation: the answers and their scores.
        folder: where everything goes. It exists.
        title: the report's heading.
        subtitle: model, data and date in words.
        loss: the training loss for the report, as (optimizer step, nats per learned token).

    Raises:
        RunError: a file cannot be written.
    """
    evaluation.write(folder)
    report = Report(title, subtitle, evaluation.scored, evaluation.metrics, evaluation.intervals, loss)
    write_report(folder / REPORT, report)


def subtitle(model: str, data: str, decoder: str) -> str:
    """Model, data, decoder and day, for a report."""
    kind = "span decoder" if decoder == "span" else decoder
    return f"{model}, {kind}, on {data}, {datetime.now(UTC).date().isoformat()}"


def loss_of(folder: Path) -> list[tuple[int, float]]:
    """The training loss of a run folder, in nats per learned token.

    It is empty for anything that is no run folder, and for stages whose loss has another unit.
    """
    log = folder / run.METRICS_LOG
    stage = STAGES.get(run.stage_of(folder))
    if not log.is_file() or stage is None or stage.loss_unit != NATS_PER_TOKEN:
        return []
    return [(line["step"], line["loss"]) for line in run.read_log(log)]
