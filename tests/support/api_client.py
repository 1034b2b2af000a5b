"""A program of somebody else that uses the Python API. `make check` types it, and a test runs it."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import palmette


def answers(model: str) -> list[str]:
    """Ask two questions, and read everything off the answers."""
    reader = palmette.load(model, attention="sdpa", calibrated=False)
    assert_type(reader, palmette.Answerer)
    found = reader.answer("The ferry leaves at 7:40.", ["When does it leave?", "From where?"], max_words=5)
    assert_type(found, tuple[palmette.Prediction, ...])
    for answer in found:
        assert_type(answer.probability, float | None)
        assert_type(answer.candidates, tuple[palmette.Candidate, ...])
    decoder = reader.span_decoder(palmette.Effort(max_words=3), palmette.Decision(max_no_answer=0.5))
    question = palmette.Question("q", "When does it leave?", (palmette.Answer("7:40", 20),))
    document = palmette.Document("d", "The ferry leaves at 7:40.", (question,))
    return [answer.text for answer in found] + [answer.text for _, answer in decoder.predict([document])]


def figures(model: str, data: str) -> dict[str, float | int | None]:
    """Measure a model."""
    result = palmette.evaluate(palmette.load(model), palmette.read_data(data, limit=1))
    assert_type(result, palmette.Evaluation)
    assert_type(result.intervals, dict[str, tuple[float, float]])
    return result.metrics


def trained(recipe: Path) -> Path:
    """Train a model, or continue to, and open what comes out."""
    try:
        run = palmette.train(palmette.read_recipe(recipe))
    except palmette.PalmetteError as error:
        assert_type(error.way_out, str)
        run = palmette.resume("runs/stopped")
    assert_type(run.folder, Path)
    assert_type(palmette.load_reward(run.folder).scores([("When?", "At 7:40.")]), list[float])
    assert_type(palmette.__version__, str)
    return run.folder
