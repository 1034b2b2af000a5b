"""Reads the folder of a training run, finished or not: its log, recipe, manifest and samples."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

from palmette import run
from palmette.errors import RunError, reason_of
from palmette.files import parse_yaml

SAMPLES, FIRST_LOG = "samples.jsonl", "metrics-embeddings.jsonl"
PLACES = ("step", "epoch")  # these say where in the run a line of the log belongs, and are not figures

Points = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Sample:
    """A completion that was sampled while a policy learned.

    Attributes:
        step: the optimizer step before which it was sampled, from 1.
        question: the question's id.
        asked: the question.
        gold: the accepted answers. There are none if the document does not answer the question.
        completion: what the model wrote.
        ended: whether the completion ended by itself. If not, it was cut at the length limit.
        rewards: the parts of the reward by name, before they are weighted.
        reward: the weighted sum of the parts.
    """

    step: int
    question: str
    asked: str
    gold: tuple[str, ...]
    completion: str
    ended: bool
    rewards: Mapping[str, float]
    reward: float


@dataclass(frozen=True)
class TrainingRun:
    """A training run.

    Attributes:
        name: the name of its folder, or that of its cell or stage in a sweep or a chain.
        stage: its stage, as in `palmette train STAGE`.
        manifest: versions, model and data.
        recipe: the values of its recipe.
        lines: the lines of metrics.jsonl, by rising step. There is at least one.
        first_lines: the lines of metrics-embeddings.jsonl, if pause tokens were trained alone before the rest.
        samples: the samples of samples.jsonl, by rising step.
        finished: whether its adapter or model has been saved.
        written: when the log was last written (UTC).
    """

    name: str
    stage: str
    manifest: Mapping[str, Any]
    recipe: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    first_lines: Sequence[Mapping[str, Any]]
    samples: Sequence[Sample]
    finished: bool
    written: datetime

    @property
    def keys(self) -> list[str]:
        """The names of the figures in its log, in the order in which they first occur."""
        return [key for key in dict.fromkeys(key for line in self.lines for key in line) if key not in PLACES]

    def points(self, key: str) -> Points:
        """A figure over the optimizer steps. Steps where it is not a finite number are left out."""
        found = [(line["step"], line.get(key)) for line in self.lines]
        return [(step, float(value)) for step, value in found if is_number(value) and math.isfinite(value)]

    def num_broken(self, key: str) -> int:
        """The number of steps in which a figure is infinite or not a number (NaN)."""
        values = (line.get(key) for line in self.lines)
        return sum(is_number(value) and not math.isfinite(value) for value in values)

    def setting(self, section: str, name: str) -> Any:
        """A setting of the recipe. None if the recipe does not have it."""
        found = self.recipe.get(section)
        return found.get(name) if isinstance(found, Mapping) else None

    @property
    def num_steps(self) -> int:
        """Optimizer steps taken."""
        return int(self.lines[-1]["step"])

    @property
    def num_epochs(self) -> float:
        """Passes over the data so far."""
        found = self.lines[-1].get("epoch")
        return float(found) if is_number(found) else 0.0

    @property
    def num_planned(self) -> int | None:
        """About how many steps the run will take, estimated from the epochs of its recipe. None if that is unknown."""
        epochs = self.setting("train", "epochs")
        if not is_number(epochs) or not self.num_epochs:
            return None
        return max(self.num_steps, round(self.num_steps * epochs / self.num_epochs))


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of a log is a number, finite or not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_training_run(folder: Path) -> TrainingRun:
    """Read a run folder.

    Raises:
        RunError: the folder is not a run folder, the run has taken no step yet, or a file cannot be read.
    """
    run.check_run(folder)
    log = folder / run.METRICS_LOG
    lines = _lines(log) if log.is_file() else []
    if not lines:
        raise RunError(f"{folder} has taken no step yet: there is nothing to show", "Wait for its first step.")
    try:
        manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
        recipe = parse_yaml((folder / run.RECIPE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(
            f"{folder}: recipe or manifest cannot be read: {reason_of(error)}", "Restore the file."
        ) from error
    first = folder / FIRST_LOG
    return TrainingRun(
        name=_name(folder.resolve()),
        stage=manifest.get("stage", "sft"),
        manifest=manifest,
        recipe=recipe,
        lines=lines,
        first_lines=_lines(first) if first.is_file() else [],
        samples=_samples(folder / SAMPLES),
        finished=run.is_finished(folder),
        written=datetime.fromtimestamp(log.stat().st_mtime, UTC),
    )


def _name(folder: Path) -> str:
    """A run's name.

    In a sweep or a chain all run folders have the same name, so the run gets the name of its cell or stage.
    """
    return folder.parent.name if folder.name == "run" else folder.name


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = run.read_log(path)
    except ValueError as error:
        raise RunError(f"{path} cannot be read: {reason_of(error)}", "Restore the file.") from error
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise RunError(f"{path}: line {number} has no step", "Restore the file.")
    return sorted(lines, key=lambda line: line["step"])


def _samples(path: Path) -> list[Sample]:
    """Read the samples of a run.

    Completions may contain Unicode line separators, which do not end a line here. If the last line is cut off, it is
    left out.
    """
    if not path.is_file():
        return []
    samples: list[Sample] = []
    # The last line may be cut in the middle of a character.
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            if line:
                samples.append(_sample(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines):
                break
            raise RunError(f"{path}: line {number} is no sample: {reason_of(error)}", "Restore the file.") from error
    return sorted(samples, key=lambda sample: sample.step)


def _sample(line: dict[str, Any]) -> Sample:
    return Sample(
        int(line["step"]),
        str(line["question"]),
        str(line["asked"]),
        tuple(str(answer) for answer in line["gold"]),
        str(line["completion"]),
        line["finish"] != "length",
        {str(name): float(value) for name, value in line["rewards"].items()},
        float(line["reward"]),
    )
