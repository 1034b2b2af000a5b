"""A file of questions answered by a model by name: what is opened, and what the answers depend on."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from palmette import run
from palmette.data.stream import count_lines, open_lines, read_rows
from palmette.decode.posterior import Decision
from palmette.inference.answerer import Answerer, load_answerer
from palmette.inference.job import ROWS_PER_CHUNK, Record, Tally, _check_output, predict_rows
from palmette.model.attention import AttentionChoice
from palmette.model.loading import dtype_name, weights_hash


def predict_file(
    model: str,
    source: str,
    out: Path,
    *,
    attention: AttentionChoice | None = None,
    max_words: int | None = None,
    calibrated: bool = True,
    decision: Decision | None = None,
    max_rows: int = ROWS_PER_CHUNK,
) -> Tally:
    """Answer a file of questions line by line. A job that was stopped continues where it was.

    Args:
        model: a run folder, a model folder, a GGUF file, or a hub id.
        source: a JSON Lines file, or "-" for standard input. A job that continues reads it from its beginning, so a pipe has to
            bring the same rows again.
        out: the JSON Lines file to write, or to continue.
        attention: the attention backend. The run's own, or "auto", if None.
        max_words: the longest answer, in words. As calibrated, or 30, if None.
        calibrated: whether to use the run's calibration, if it has one.
        decision: how probabilities become answers. As calibrated if None.
        max_rows: how many rows fill a chunk, which is what a kill may cost.

    Raises:
        PalmetteError: the input or the model cannot be opened, or the output belongs to another job.
    """
    _check_output(out)
    with open_lines(source) as lines:
        answerer = load_answerer(model, attention=attention, calibrated=calibrated)
        effort, chosen = answerer.effort(max_words), decision or answerer.decision
        return predict_rows(
            answerer.span_decoder(effort, decision),
            read_rows(lines),
            out,
            {**_model_settings(model, answerer), **asdict(effort), **asdict(chosen)},
            about={"input": source, **run.environment()},
            num_lines=lambda: count_lines(source),
            max_rows=max_rows,
        )


def _model_settings(model: str, answerer: Answerer) -> Record:
    """What names a model, its adapter and its prompt."""
    loaded, folder = answerer.loaded, Path(model).expanduser()
    config = folder / run.ADAPTER / "adapter_config.json"
    adapter = hashlib.sha256(f"{answerer.weights}\n".encode())
    if adapted := run.is_run(folder) and config.is_file():
        adapter.update(config.read_bytes())
    return {
        "model": model,
        "weights_sha256": weights_hash(loaded.folder),
        "adapter": str(config.parent) if adapted else None,
        "adapter_sha256": adapter.hexdigest() if adapted else None,
        "prompt_sha256": answerer.task.prompt.sha256,
        "dtype": dtype_name(loaded.model.dtype),
        "attention": loaded.model.config._attn_implementation,
    }
