"""An encoder trained and evaluated, or only evaluated, in one folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palmette import processes, run
from palmette.baselines.encoder_training import EncoderSettings, resume_encoder, train_encoder
from palmette.baselines.evaluation import check_apart, evaluate_encoder
from palmette.data.source import read_source
from palmette.evaluate.record import HELD_OUT_SPLIT
from palmette.evaluate.squad import Evaluation
from palmette.files import expand
from palmette.pages.plots import plot_loss
from palmette.pages.training.pictures import LOSS_PLOT
from palmette.progress import Say


@dataclass(frozen=True)
class EncoderJob:
    """An evaluation, with or without training. Exactly one of `training`, `model` and `resume` is given.

    Attributes:
        data: the data to evaluate on.
        training: how to train a new encoder, in `out`.
        model: a run, or any model with a span head, that is evaluated as it is, into `out`.
        resume: a run that was stopped, which gets the results.
        out: a folder that must not exist.
        threshold: held-out data to fit the threshold on. The run's own threshold, or 0, if None.
        limit: use only the first N documents of each data set.
        reading: max_tokens, stride and max_answer_tokens, where they differ from those of the run.
        batch_size: windows in memory at the same time.
    """

    data: str
    training: EncoderSettings | None = None
    model: str | None = None
    resume: Path | None = None
    out: Path | None = None
    threshold: str | None = None
    limit: int | None = None
    reading: dict[str, int] | None = None
    batch_size: int = 16


def run_encoder_job(job: EncoderJob, say: Say) -> tuple[str, Evaluation]:
    """Train an encoder if the job says so, and evaluate it.

    Args:
        job: the job.
        say: called with a line at each step.

    Returns:
        The name of the encoder, and the evaluation.

    Raises:
        DataError: the data cannot be read, or the threshold's data are also trained or evaluated on.
        RunError: the folder exists or cannot be written, or the run cannot be continued.
        TrainingInterrupted: training was stopped, after a checkpoint was saved.
    """
    processes.check_alone("the baseline")
    source = read_source(job.data, default_split=HELD_OUT_SPLIT, limit_documents=job.limit)
    held_out = None
    if job.threshold is not None:
        held_out = read_source(job.threshold, default_split=HELD_OUT_SPLIT, limit_documents=job.limit)
        known = job.resume or (expand(job.model) if job.model else None)
        check_apart(source, held_out, job.training.train if job.training else None, known)
    reading, batch_size = job.reading or {}, job.batch_size
    if job.model is not None:
        assert job.out is not None
        with run.whole_folder(job.out) as staging:
            result = evaluate_encoder(job.model, source, held_out, staging, job.out, reading, batch_size, say)
        return Path(job.model).name, result
    folder = _train(job, say)
    return folder.name, evaluate_encoder(str(folder), source, held_out, folder, folder, {}, batch_size, say)


def _train(job: EncoderJob, say: Say) -> Path:
    """Train, or continue training, and draw the loss."""
    folder = job.resume or job.out
    assert folder is not None
    if job.training is None:
        resume_encoder(folder, say)
    else:
        train_encoder(job.training, folder, say)
    plot_loss(folder / run.METRICS_LOG, folder / LOSS_PLOT, title=f"Training loss, {folder.name}")
    return folder
