"""`palmette sweep`: train and measure each cell of a sweep; what is finished is kept, what was stopped goes on."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import typer

from palmette import run
from palmette.cli.commands import LOSS_PLOT
from palmette.cli.evaluate import HELD_OUT_SPLIT, MADE_BY, loss_of, made_by, subtitle
from palmette.cli.lock import locked
from palmette.cli.opening import DecoderName, open_model
from palmette.cli.retention import RESULT as RETENTION
from palmette.cli.retention import retention_of_run
from palmette.cli.show import invoked_as, stderr, stdout
from palmette.cli.sweep_table import (
    ERROR,
    Outcome,
    failures_of,
    read_outcome,
    refusal,
    rich_table,
    rows_of,
    tables_of,
    write_results,
)
from palmette.config import Recipe
from palmette.data.records import DataSet, Document
from palmette.data.source import read_source
from palmette.errors import DataError, ModelError, PalmetteError, RunError
from palmette.evaluate.plots import plot_loss
from palmette.evaluate.retention import Settings
from palmette.evaluate.squad import evaluate_squad
from palmette.model.loading import first_line
from palmette.train.sft import Interrupted, Say, resume_sft, train_sft
from palmette.train.sweep import RUN, SWEEP, Cell, Sweep, load_sweep

_ASKED = "cell.json"
_PAUSE = 2.0  # seconds between looks at what other processes are at work on


def run_sweep(file: Path, *, retry_failed: bool) -> None:
    """`palmette sweep`."""
    sweep, cells = load_sweep(file)
    folder, news = Path(sweep.output).expanduser(), stderr()
    source = first_questions(read_source(sweep.evaluate.data, default_split=HELD_OUT_SPLIT), sweep.evaluate.limit)
    measured_on = {"data": source.source, "sha256": source.sha256, "questions": source.num_questions}
    prepare(folder, sweep, cells, measured_on)

    def results() -> list[Outcome]:
        with locked(folder, wait=True):  # else another process could read before us and write after us
            outcomes = [read_outcome(cell) for cell in cells]
            write_results(folder, sweep, outcomes, measured_on)
        return outcomes

    try:
        _work_through_all(cells, sweep, source, news.print, results, retry_failed=retry_failed)
    except (Interrupted, KeyboardInterrupt) as stop:
        results()
        news.print(f"stopped; go on with: {invoked_as()} sweep {file}")
        raise typer.Exit(130) from stop
    _tell(folder, sweep, results())


def _work_through_all(
    cells: Sequence[Cell],
    sweep: Sweep,
    source: DataSet,
    news: Say,
    results: Callable[[], object],
    *,
    retry_failed: bool,
) -> None:
    """Every cell in turn; one that another process is at work on is left out, and looked at again in the end until it is free."""
    failed = {cell.folder for cell in cells if _failures(cell)} if retry_failed else set()
    left, told = list(enumerate(cells, 1)), False
    while left:
        busy = []
        for number, cell in left:
            say = _with_prefix(news, f"[{number}/{len(cells)}] {cell.folder.name}: ")
            with locked(cell.folder, wait=False) as mine:
                if mine:
                    if work_through(cell, sweep, source, say, retry_failed=cell.folder in failed):
                        results()
                    continue
            busy.append((number, cell))
            if not told:
                say("another process is at work on it; looked at again in the end")
        if busy == left:
            time.sleep(_PAUSE)
        left, told = busy, True


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
    _make(folder)
    with locked(folder, wait=True):
        asked = {cell.folder: _asked(cell, measured_on) for cell in cells}
        for place, now in asked.items():
            if place.exists():
                _check_same(place, now)
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
    asked: dict[str, Any] = json.loads(json.dumps({"evaluate": measured_on, **_flat(cell.recipe)}))
    return asked


def _flat(recipe: Recipe) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section, values in recipe.model_dump(exclude={"output"}).items():
        flat |= (
            {f"{section}.{key}": value for key, value in values.items()}
            if isinstance(values, dict)
            else {section: values}
        )
    return flat


def _check_same(place: Path, now: dict[str, Any]) -> None:
    before, default = json.loads((place / _ASKED).read_text(encoding="utf-8")), _flat(Recipe(output=""))
    for key in sorted({*before, *now}):
        # A setting that did not exist yet when the cell was begun was as it is by default.
        was = before[key] if key in before else default.get(key)
        if was != now.get(key):
            raise RunError(
                f"{place} was begun with {key} = {was!r}, and now it is {now.get(key)!r}",
                "Put it back, choose another output, or remove that folder.",
            )


def _failures(cell: Cell) -> list[Path]:
    """What is written down of a cell that failed, or of decoders that refused its model."""
    names = [ERROR, *map(refusal, cell.decoders)]
    return [cell.folder / name for name in names if (cell.folder / name).is_file()]


def work_through(cell: Cell, sweep: Sweep, source: DataSet, say: Say, *, retry_failed: bool) -> bool:
    """Do what is left to do of a cell; a failure is written down.

    Returns:
        Whether there was anything to do.

    Raises:
        Interrupted, KeyboardInterrupt: Ctrl-C.
    """
    if retry_failed:
        for file in _failures(cell):
            file.unlink()
    failure = cell.folder / ERROR
    if failure.is_file():
        say("failed before; kept so (--retry-failed tries again)")
        return False
    left = [
        name
        for name in cell.decoders
        if not (cell.folder / name).is_dir() and not (cell.folder / refusal(name)).is_file()
    ]
    retention = _retention_left(cell, sweep)
    if not left and retention is None:
        say("finished before")
        return False
    try:
        _train(cell, say)
        for decoder in left:
            _measure(cell, decoder, sweep, source, say)
        if retention:
            found = retention_of_run(cell.folder / RUN, retention)
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


def _retention_left(cell: Cell, sweep: Sweep) -> Settings | None:
    """How to measure retention, unless nobody asks for it or it was measured in this way before."""
    section, kept = sweep.evaluate, cell.folder / RETENTION
    settings = Settings(
        max_new_tokens=section.retention_tokens,
        num_passages=section.retention_passages,
        num_prompts=section.retention_prompts,
    )
    if not section.retention:
        return None
    if kept.is_file():
        before = json.loads(kept.read_text(encoding="utf-8"))["made_by"]["settings"]
        if {**asdict(Settings()), **before} == asdict(settings):
            return None
    return settings


def _train(cell: Cell, say: Say) -> None:
    folder = cell.folder / RUN
    if not folder.exists():
        train_sft(cell.recipe, say)
    elif not any((folder / name).is_dir() for name in (run.ADAPTER, run.FULL_MODEL)):
        resume_sft(folder, say)
    if not (folder / LOSS_PLOT).is_file():
        plot_loss(folder / run.METRICS_LOG, folder / LOSS_PLOT, title=f"Training loss, {cell.folder.name}")


def _measure(cell: Cell, decoder: str, sweep: Sweep, source: DataSet, say: Say) -> None:
    """Answer the questions, from the files of the run, so that a cell that was stopped is measured as any other.

    A decoder that cannot do with how the model was trained is written down with what it says; other decoders may.
    """
    model = str(cell.folder / RUN)
    opened = open_model(model, calibrated=False)
    plain, _, tokens = decoder.partition("-free-")
    limit = int(tokens) if tokens else None
    kind = cast("DecoderName", plain)  # as the sweep's section has checked
    try:
        with run.whole_folder(cell.folder / decoder) as staging:
            answers = opened.decoder(kind, batch_size=sweep.evaluate.batch_size, reasoning_limit=limit)
            result = evaluate_squad(answers, source.documents, what=f"answering, {decoder}")
            result.write(staging, cell.folder.name, subtitle(model, source.source, decoder), loss_of(Path(model)))
            run.write_json(staging / MADE_BY, made_by(opened, source, model, kind, opened.effort(), limit))
    except (DataError, ModelError) as error:
        run.write_json(cell.folder / refusal(decoder), {"error": str(error)})
        say(f"{decoder}: refused: {error}")
        return
    say(f"{decoder}: EM {result.metrics['exact']:.1f}, F1 {result.metrics['f1']:.1f}")


def _tell(folder: Path, sweep: Sweep, outcomes: Sequence[Outcome]) -> None:
    for headings, lines in tables_of(sweep, rows_of(outcomes, sweep.reference), intervals=False):
        stdout().print(rich_table(headings, lines), "")
    failed = [outcome for outcome in outcomes if outcome.error]
    news = stderr()
    for outcome in outcomes:
        for text in failures_of(outcome):
            news.print(text)
    news.print(f"{len(outcomes) - len(failed)} of {len(outcomes)} runs finished; the table is in {folder / 'sweep.md'}")
    if failed:
        raise typer.Exit(1)
