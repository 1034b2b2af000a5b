"""The record of an evaluation: everything that its figures depend on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from palmette import run
from palmette.data.records import DataSet
from palmette.decode.effort import Effort
from palmette.inference.answerer import Answerer, DecoderName

HELD_OUT_SPLIT, MADE_BY = "validation", "evaluation.json"


def made_by(
    opened: Answerer, source: DataSet, model: str, decoder: DecoderName, effort: Effort, reasoning_limit: int | None
) -> dict[str, Any]:
    """What an evaluation's figures depend on."""
    span = {"effort": asdict(effort), "decision": asdict(opened.decision)} if decoder == "span" else {}
    return {
        **run.environment(),
        "model": model,
        "decoder": decoder,
        "reasoning_limit": reasoning_limit,
        **span,
        "calibrated_on": opened.calibration.source if opened.calibration else None,
        **opened.fitted_for(effort),
        "data": source.describe(),
    }
