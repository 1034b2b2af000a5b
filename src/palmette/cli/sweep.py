"""`palmette sweep`: train and measure each cell of a sweep; what is finished is kept, what was stopped goes on."""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from palmette import run
from palmette.cli.commands import LOSS_PLOT
from palmette.cli.evaluate import HELD_OUT_SPLIT, MADE_BY, loss_of, made_by, subtitle
from palmette.cli.opening import DecoderName, open_model
from palmette.cli.retention import RESULT as RETENTION
from palmette.cli.retention import retention_of_run
from palmette.cli.show import invoked_as, stderr, stdout
from palmette.cli.sweep_table import ERROR, Outcome, read_outcome, rich_table, rows_of, table_of, write_results
from palmette.data.records import DataSet, Document
from palmette.data.source import read_source
from palmette.errors import PalmetteError, RunError
from palmette.evaluate.plots import plot_loss
from palmette.evaluate.squad import evaluate_squad
from palmette.model.loading import first_line
from palmette.train.sft import Interrupted, Say, resume_sft, train_sft
from palmette.train.sweep import RUN, SWEEP, Cell, Sweep, load_sweep

_ASKED = "cell.json"


def run_sweep(file: Path, *, retry_failed: bool) -> None:
    """`palmette sweep`."""
    sweep, cells = load_sweep(file)
    folder, news = Path(sweep.output).expanduser(), stderr()
    source = first_questions(read_source(sweep.evaluate.data, default_split=HELD_OUT_SPLIT), sweep.evaluate.limit)
    measured_on = {"data": source.source, "sha256": source.sha256, "questions": source.num_questions}
    prepare(folder, sweep, cells, measured_on)

    def results() -> list[Outcome]:
        outcomes = [read_outcome(cell, sweep.evaluate.decoders) for cell in cells]
        write_results(folder, sweep, outcomes, measured_on)
        return outcomes

    try:
        for number, cell in enumerate(cells, 1):
            say = _with_prefix(news.print, f"[{number}/{len(cells)}] {cell.folder.name}: ")
            if work_through(cell, sweep, source, say, retry_failed=retry_failed):
                results()
    except (Interrupted, KeyboardInterrupt) as stop:
        results()
        news.print(f"stopped; go on with: {invoked_as()} sweep {file}")
        raise typer.Exit(130) from stop
    _tell(folder, sweep, results())


def _with_prefix(say: Say, prefix: str) -> Say:
    return lambda line: say(prefix + line)


def first_questions(source: DataSet, limit: int | None) -> DataSet:
    """The first so many questions of a data set, with their documents."""
    if limit is None:
        return source
    kept: list[Document] = []
    for document in source.documents:
        questions = document.questions[:limit]
        limit -= len(questions)
        if questions:
            kept.append(replace(document, questions=questions))
    return replace(source, documents=tuple(kept))


def prepare(folder: Path, sweep: Sweep, cells: Sequence[Cell], measured_on: dict[str, Any]) -> None:
    """Write down what each cell is, or check that it is still the same; cells may be added.

    Raises:
        RunError: a cell was begun with other settings, or with other data to measure it on; or the folder holds something else.
    """
    if folder.exists() and not (folder / SWEEP).is_file() and any(folder.iterdir()):
        raise RunError(f"{folder} exists already, and holds no sweep", "Choose another output.")
    asked = {cell.folder: _asked(cell, measured_on) for cell in cells}
    for place, now in asked.items():
        if place.exists():
            _check_same(place, now)
    _make(folder)
    run.write_text(folder / SWEEP, sweep.to_yaml())
    for place, now in asked.items():
        if not place.exists():
            with run.whole_folder(place) as staging:
                run.write_json(staging / _ASKED, now)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {folder}: {error.strerror}", "Choose another output.") from error


def _asked(cell: Cell, measured_on: dict[str, Any]) -> dict[str, Any]:
    """Every setting of a cell, flat, as JSON gives it back."""
    flat: dict[str, Any] = {"evaluate": measured_on}
    for section, values in cell.recipe.model_dump(exclude={"output"}).items():
        flat |= (
            {f"{section}.{key}": value for key, value in values.items()}
            if isinstance(values, dict)
            else {section: values}
        )
    asked: dict[str, Any] = json.loads(json.dumps(flat))
    return asked


def _check_same(place: Path, now: dict[str, Any]) -> None:
    before = json.loads((place / _ASKED).read_text(encoding="utf-8"))
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key):
            raise RunError(
                f"{place} was begun with {key} = {before.get(key)!r}, and now it is {now.get(key)!r}",
                "Put it back, choose another output, or remove that folder.",
            )


def work_through(cell: Cell, sweep: Sweep, source: DataSet, say: Say, *, retry_failed: bool) -> bool:
    """Do what is left to do of a cell; a failure is written down.

    Returns:
        Whether there was anything to do.

    Raises:
        Interrupted, KeyboardInterrupt: Ctrl-C.
    """
    failure = cell.folder / ERROR
    if failure.is_file():
        if not retry_failed:
            say("failed before; kept so (--retry-failed tries again)")
            return False
        failure.unlink()
    left = [name for name in sweep.evaluate.decoders if not (cell.folder / name).is_dir()]
    retention = sweep.evaluate.retention and not (cell.folder / RETENTION).is_file()
    if not left and not retention:
        say("finished before")
        return False
    try:
        _train(cell, say)
        for decoder in left:
            _measure(cell, decoder, sweep, source, say)
        if retention:
            found = retention_of_run(cell.folder / RUN)
            run.write_json(cell.folder / RETENTION, found)
            say(f"retention: perplexity x {found['perplexity_ratio']:.3f}, KL {found['kl']:.3f}")
    except Interrupted:
        raise
    except Exception as error:  # whatever went wrong in one cell, memory say, the others are worth having
        text = str(error) if isinstance(error, PalmetteError) else f"{type(error).__name__}: {first_line(error)}"
        run.write_json(failure, {"error": text})
        say(f"failed: {text}")
    finally:
        gc.collect()  # a trainer and its model hold each other
    return True


def _train(cell: Cell, say: Say) -> None:
    folder = cell.folder / RUN
    if not folder.exists():
        train_sft(cell.recipe, say)
    elif not any((folder / name).is_dir() for name in (run.ADAPTER, run.FULL_MODEL)):
        resume_sft(folder, say)
    if not (folder / LOSS_PLOT).is_file():
        plot_loss(folder / run.METRICS_LOG, folder / LOSS_PLOT, title=f"Training loss, {cell.folder.name}")


def _measure(cell: Cell, decoder: DecoderName, sweep: Sweep, source: DataSet, say: Say) -> None:
    """Answer the questions, from the files of the run, so that a cell that was stopped is measured as any other."""
    model = str(cell.folder / RUN)
    opened = open_model(model, calibrated=False)
    with run.whole_folder(cell.folder / decoder) as staging:
        answers = opened.decoder(decoder, batch_size=sweep.evaluate.batch_size)
        result = evaluate_squad(answers, source.documents, what=f"answering, {decoder}")
        result.write(staging, cell.folder.name, subtitle(model, source.source, decoder), loss_of(Path(model)))
        run.write_json(staging / MADE_BY, made_by(opened, source, model, decoder, opened.effort()))
    say(f"{decoder}: EM {result.metrics['exact']:.1f}, F1 {result.metrics['f1']:.1f}")


def _tell(folder: Path, sweep: Sweep, outcomes: Sequence[Outcome]) -> None:
    stdout().print(rich_table(*table_of(sweep, rows_of(outcomes))))
    failed = [outcome for outcome in outcomes if outcome.error]
    news = stderr()
    for outcome in failed:
        news.print(f"failed: {outcome.cell.folder.name}: {outcome.error}")
    news.print(f"{len(outcomes) - len(failed)} of {len(outcomes)} runs finished; the table is in {folder / 'sweep.md'}")
    if failed:
        raise typer.Exit(1)
