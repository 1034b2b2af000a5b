"""`palmette predict`: a file of questions answered line by line."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from palmette import run
from palmette.cli.console import stderr
from palmette.data.stream import count_lines, open_lines, read_rows
from palmette.model.loading import dtype_name

if TYPE_CHECKING:  # these need torch
    from palmette.decode.posterior import Decision
    from palmette.inference.answerer import Answerer
    from palmette.model.attention import AttentionChoice
from palmette.inference.job import ROWS_PER_CHUNK, Record, _check_output, predict_rows


def run_predict(
    model: str,
    source: str,
    out: Path,
    attention: AttentionChoice | None = None,
    *,
    max_words: int | None = None,
    calibrated: bool = True,
    decision: Decision | None = None,
    max_rows: int = ROWS_PER_CHUNK,
) -> None:
    """`palmette predict`.

    Args:
        model: what `--model` names.
        source: a JSON Lines file, or "-" for standard input. Resuming reads it from its beginning, so a pipe has to bring the same
            rows once more.
        out: the JSON Lines file to write, or to go on with.
        attention: the attention backend; the run's own, or sdpa, if None.
        max_words: the longest answer, in words; as calibrated, or 30, if None.
        calibrated: whether to take the run's calibration, if it has one.
        decision: how probabilities become answers; as calibrated if None.
        max_rows: how many rows fill a chunk: what a kill may cost.

    Raises:
        PalmetteError: the input or the model cannot be opened, or the output belongs to another job.
    """
    out = out.expanduser()
    _check_output(out)
    with open_lines(source) as lines:
        from palmette.inference.answerer import load_answerer

        opened = load_answerer(model, attention, calibrated=calibrated)
        effort, chosen = opened.effort(max_words), decision or opened.decision
        tally = predict_rows(
            opened.span_decoder(effort, decision),
            read_rows(lines),
            out,
            {**_model_settings(model, opened), **asdict(effort), **asdict(chosen)},
            about={"input": source, **run.environment()},
            num_lines=lambda: count_lines(source),
            max_rows=max_rows,
        )
    stderr().print(tally.summary(out))
    if tally.interrupted:
        raise typer.Exit(130)


def _model_settings(model: str, opened: Answerer) -> Record:
    """What names a model, its adapter and its prompt."""
    from palmette.model.loading import weights_hash

    loaded, folder = opened.loaded, Path(model).expanduser()
    config = folder / run.ADAPTER / "adapter_config.json"
    adapter = hashlib.sha256(f"{opened.weights}\n".encode())
    if adapted := run.is_run(folder) and config.is_file():
        adapter.update(config.read_bytes())
    return {
        "model": model,
        "weights_sha256": weights_hash(loaded.folder),
        "adapter": str(config.parent) if adapted else None,
        "adapter_sha256": adapter.hexdigest() if adapted else None,
        "prompt_sha256": opened.task.prompt.sha256,
        "dtype": dtype_name(loaded.model.dtype),
        "attention": loaded.model.config._attn_implementation,
    }
