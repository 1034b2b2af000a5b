"""Measures the stages of a chain: their answers, their sampled completions, and reward models on comparisons.

Each figure is recorded with the hashes of its inputs (weights, data, reference, settings). If one of these changes, the
figure is measured again.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from palmette import run
from palmette.arena.source import open_votes
from palmette.data.records import DataSet
from palmette.errors import DataError, PalmetteError, RunError
from palmette.evaluate.comparisons import score_comparisons, was_learned
from palmette.evaluate.divergence.measure import DivergenceSettings, measure_divergence
from palmette.evaluate.retention.run import RESULT as RETENTION
from palmette.evaluate.reward_metrics import reward_metrics
from palmette.files import expand
from palmette.model.loading import weights_hash
from palmette.pages.training.pictures import draw_run
from palmette.pages.training.report import TRAINING
from palmette.progress import Say
from palmette.run import trained_folder
from palmette.studies.chain.recipe import STAGE_PREFIX, Chain, ChainStage
from palmette.studies.measuring import DIVERGENCE, failure, measure, measure_retention, refusal, retention_settings
from palmette.studies.sweep.recipe import RUN
from palmette.train.steps.callbacks import TrainingInterrupted

RANKING, MEASURING_ERROR = "ranking.json", "measuring-error.json"
_MEASURED = "measured.json"
Inputs = dict[str, Any]  # hashes of what a figure depends on, and its settings


def result_hash(stage: ChainStage) -> str | None:
    """The hash of a stage's result: of its weights, or of its file of preferences."""
    if stage.kind == "preferences":
        return sha256(stage.result.read_bytes()).hexdigest()
    return weights_hash(str(trained_folder(stage.result)))


def inputs(stage: ChainStage, known: Mapping[str, ChainStage]) -> dict[str, str | None]:
    """Hashes of the stages, files and runs that the settings of a stage name. A finished run depends on itself.

    Args:
        stage: the stage.
        known: the stages by name, including at least those that this one needs.
    """
    hashes = {name: result_hash(known[name]) for name in stage.needs}
    theirs = {str(known[name].result) for name in stage.needs}
    for text in sorted(set(_texts(stage.settings.model_dump(exclude={"output"})))):
        path = _place(text)
        if path is None or text in theirs:
            continue
        if path.is_file():
            hashes[text] = sha256(path.read_bytes()).hexdigest()
        elif run.is_run(path):
            hashes[text] = weights_hash(str(trained_folder(path)))
    return hashes


def _place(text: str) -> Path | None:
    """The file or folder that a text names. None if there is no such file or folder."""
    try:
        path = expand(text)
        return path if text and path.exists() else None
    except (OSError, PalmetteError, ValueError):  # for example, the words of a prompt may be too long for a file name
        return None


def _texts(values: Any) -> Iterator[str]:
    """All texts in settings, however deeply they are nested."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from _texts(value)
    elif isinstance(values, list):
        for value in values:
            yield from _texts(value)


@dataclass(frozen=True)
class _Figure:
    """Something to measure.

    Attributes:
        name: the file or folder that holds the result, beside the run.
        made_of: hashes of what the result depends on.
        do: measures it and writes the result.
    """

    name: str
    made_of: Inputs
    do: Callable[[Say], None]


class StageFigures:
    """Measures the stages of a chain under one seed.

    Args:
        chain: the chain.
        stages: the finished stages, by name.
        source: the questions that policies are asked.
    """

    def __init__(self, chain: Chain, stages: Mapping[str, ChainStage], source: DataSet) -> None:
        self._chain, self._stages, self._source = chain, stages, source

    def measure(self, stage: ChainStage, say: Say) -> bool:
        """Measure what has not been measured yet. A failure is recorded, and the remaining figures are still measured.

        Returns:
            Whether there was anything to do.

        Raises:
            TrainingInterrupted, KeyboardInterrupt: Ctrl-C.
        """
        record, errors, worked = stage.place / _MEASURED, [], False
        measured: Inputs = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
        for figure in self._figures(stage):
            if measured.get(figure.name) == figure.made_of and _is_there(stage.place, figure.name):
                continue
            worked = True
            _remove(stage.place, figure.name)
            try:
                figure.do(say)
                measured[figure.name] = figure.made_of
                run.write_json(record, measured)
            except TrainingInterrupted:
                raise
            except Exception as caught:  # the other figures are still useful
                errors.append(f"{figure.name}: {failure(caught)}")
                say(f"cannot be measured: {errors[-1]}")
            finally:
                gc.collect()
        if errors:
            run.write_json(stage.place / MEASURING_ERROR, {"errors": errors})
        else:
            (stage.place / MEASURING_ERROR).unlink(missing_ok=True)
        return worked

    def _figures(self, stage: ChainStage) -> Iterator[_Figure]:
        section, place = self._chain.evaluate, stage.place
        if stage.kind == "preferences":
            return
        weights = result_hash(stage)
        if stage.kind != "run":
            yield _Figure(
                f"{RUN}/{TRAINING}", {"weights": weights}, lambda say: draw_run(stage.result, say, stage.name)
            )
        if stage.makes_reward_model:
            if section.comparisons:
                data = self._comparisons(section.comparisons)
                made_of = {"weights": weights, "data": _data_hash(data) if data else None}
                yield _Figure(RANKING, made_of, partial(_rank, stage, data))
            return
        answered: Inputs = {"weights": weights, "data": self._source.sha256, "questions": self._source.num_questions}
        for decoder in stage.cell(section).decoders:
            do = partial(measure, place, str(stage.result), decoder, self._source, section.batch_size)
            yield _Figure(decoder, answered, do)
        reference = self._stages.get(str(self._chain.reference))
        if section.samples and reference is not None:
            drawn = DivergenceSettings(
                samples=section.samples,
                max_new_tokens=section.max_new_tokens,
                seed=stage.seed,
                tokens_per_batch=section.tokens_per_batch,
            )
            drawn_of: Inputs = {**answered, "reference": result_hash(reference), "settings": asdict(drawn)}
            yield _Figure(DIVERGENCE, drawn_of, partial(self._diverge, stage, reference, drawn))
        if section.retention:
            settings = retention_settings(section)
            do = partial(measure_retention, place, stage.result, settings)
            yield _Figure(RETENTION, {"weights": weights, "settings": asdict(settings)}, do)

    def _comparisons(self, named: str) -> str | None:
        """A source of comparisons. A stage that makes preferences is replaced by its file, or by None if it failed."""
        if not named.startswith(STAGE_PREFIX):
            return named
        name = named.removeprefix(STAGE_PREFIX)
        return str(self._stages[name].result) if name in self._stages else None

    def _diverge(self, stage: ChainStage, reference: ChainStage, settings: DivergenceSettings, say: Say) -> None:
        result = measure_divergence(str(stage.result), str(reference.result), self._source, settings).to_json()
        run.write_json(stage.place / DIVERGENCE, result)
        exact = 100 * result["sampled_exact"]
        say(f"KL from {reference.name} {result['completion_kl']:.3f} nats a completion, EM of samples {exact:.1f}")


def _rank(stage: ChainStage, data: str | None, say: Say) -> None:
    """Measure a reward model on comparisons.

    Raises:
        RunError: the stage that makes the comparisons failed.
        DataError: the reward model was trained on these comparisons.
    """
    if data is None:
        raise RunError("the stage that evaluate.comparisons names failed", "Fix that stage first.")
    _, source, rewards = score_comparisons(stage.result, data, opened=open_votes(data))
    if was_learned(stage.result, source.sha256):
        raise DataError(
            f"evaluate.comparisons: {data} is what the reward model was trained on", "Name comparisons of other data."
        )
    found = reward_metrics(rewards)
    run.write_json(stage.place / RANKING, {**found.to_json(), "data": source.describe()})
    say(f"accuracy {100 * found.accuracy:.1f} % of {found.comparisons} comparisons")


def _data_hash(data: str) -> str:
    """The hash of a file, or of an arena's votes. Another source, such as a built-in one, keeps its name."""
    votes = open_votes(data)
    if votes is not None:
        return votes[0]
    path = expand(data)
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else data


def _is_there(place: Path, name: str) -> bool:
    """Whether a figure was measured, or its decoder refused the model."""
    return (place / name).exists() or (place / refusal(name)).is_file()


def _remove(place: Path, name: str) -> None:
    """Remove a figure that is to be measured again."""
    if (place / name).is_dir():
        shutil.rmtree(place / name)
    for file in (place / name, place / refusal(name)):
        file.unlink(missing_ok=True)
