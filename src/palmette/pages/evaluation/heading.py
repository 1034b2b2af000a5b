"""What an evaluation report says of its model, and the training loss that it shows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from palmette import run


def subtitle(model: str, data: str, decoder: str) -> str:
    """Model, data, decoder and day, for a report."""
    kind = "span decoder" if decoder == "span" else decoder
    return f"{model}, {kind}, on {data}, {datetime.now(UTC).date().isoformat()}"


def loss_of(folder: Path) -> list[tuple[int, float]]:
    """The training loss of a run folder, in nats per learned token; nothing for anything else, nor of stages that have another loss."""
    log = folder / run.METRICS_LOG
    if not log.is_file() or run.stage_of(folder) != "sft":
        return []
    return [(line["step"], line["loss"]) for line in run.read_log(log)]
