"""`palmette train rlhf`: a chain of stages from its recipe to its table; what is finished is kept, what was stopped goes on."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import typer

from palmette import run
from palmette.cli.chain_recipe import CHAIN, STAGE_PREFIX, Chain, Kind, Stage, load_chain
from palmette.cli.chain_table import RANKING, tell, write_results
from palmette.cli.divergence import DivergenceSettings, measure_divergence
from palmette.cli.evaluate import HELD_OUT_SPLIT
from palmette.cli.lock import Unit, locked, share_work
from palmette.cli.measure import (
    DIVERGENCE,
    ERROR,
    failure,
    first_questions,
    measure,
    measure_elsewhere,
    score_comparisons,
    unmeasured,
    unmeasured_elsewhere,
)
from palmette.cli.preferences import write_preferences
from palmette.cli.report import draw_run
from palmette.cli.show import invoked_as, stderr
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.errors import RunError
from palmette.evaluate.reward_metrics import reward_metrics
from palmette.model.loading import weights_hash
from palmette.synth.preference_settings import PreferenceSettings
from palmette.train.beginning import trained_folder
from palmette.train.dpo import resume_dpo, train_dpo
from palmette.train.grpo import resume_grpo, train_grpo
from palmette.train.kto import resume_kto, train_kto
from palmette.train.ppo import resume_ppo, train_ppo
from palmette.train.reward import resume_reward, train_reward
from palmette.train.sft import resume_sft, train_sft
from palmette.train.stage import Interrupted, Say

_ASKED, _BUILT_ON = "stage.json", "built_on.json"
_TRAINERS: dict[Kind, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sft": (train_sft, resume_sft),
    "reward": (train_reward, resume_reward),
    "dpo": (train_dpo, resume_dpo),
    "kto": (train_kto, resume_kto),
    "grpo": (train_grpo, resume_grpo),
    "ppo": (train_ppo, resume_ppo),
}


def run_chain(file: Path) -> None:
    """`palmette train rlhf`."""
    chain, stages = load_chain(file)
    folder, news = Path(chain.output).expanduser(), stderr()
    source = first_questions(read_source(chain.evaluate.data, default_split=HELD_OUT_SPLIT), chain.evaluate.limit)
    measured_on = {"data": source.source, "sha256": source.sha256, "questions": source.num_questions}
    _prepare(folder, chain, stages, measured_on)

    def results() -> None:
        with locked(folder, wait=True):  # else another process could read before us and write after us
            write_results(folder, chain, stages, measured_on)

    units = [_Seed(chain, [stage for stage in stages if stage.seed == seed], source).unit() for seed in chain.seeds]
    try:
        share_work(units, news.print, results)
    except (Interrupted, KeyboardInterrupt) as stop:
        results()
        news.print(f"stopped; go on with: {invoked_as()} train rlhf {file}")
        raise typer.Exit(130) from stop
    results()
    tell(folder, chain, stages)


def _prepare(folder: Path, chain: Chain, stages: Sequence[Stage], measured_on: dict[str, Any]) -> None:
    """Write down what each stage is, or check that it is still the same; stages may be added.

    Raises:
        RunError: a stage was begun with other settings, or with other data to measure it on; or the folder holds something else; or a
            run that is to be built on is not finished.
    """
    if folder.exists() and not (folder / CHAIN).is_file() and any(folder.iterdir()):
        raise RunError(f"{folder} exists already, and holds no chain", "Choose another output.")
    for stage in stages:
        if stage.kind == "run":
            trained_folder(stage.result)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot create {folder}: {error.strerror}", "Choose another output.") from error
    with locked(folder, wait=True):
        asked = {
            stage.place: json.loads(json.dumps({"settings": chain.stages[stage.name], "evaluate": measured_on}))
            for stage in stages
        }
        for place, now in asked.items():
            if (place / _ASKED).is_file():
                _check_same(place, json.loads((place / _ASKED).read_text(encoding="utf-8")), now)
        run.write_text(folder / CHAIN, chain.to_yaml())
        for place, now in asked.items():
            place.mkdir(parents=True, exist_ok=True)
            run.write_json(place / _ASKED, now)


def _check_same(place: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    flat = [_flat(values) for values in (before, now)]
    for key in sorted({*flat[0], *flat[1]}):
        was, became = (values.get(key) for values in flat)
        if was != became:
            raise RunError(
                f"{place} was begun with {key} = {was!r}, and now it is {became!r}",
                "Put it back, choose another output, or remove that folder.",
            )


def _flat(values: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    """Settings by dotted key."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        dotted = f"{key}.{name}" if key else name
        flat |= _flat(value, dotted) if isinstance(value, Mapping) else {dotted: value}
    return flat


@dataclass
class _Seed:
    """All stages of a chain under one seed.

    Attributes:
        chain: the chain.
        stages: its stages under this seed.
        source: the questions that policies are measured on.
        failed: the stages that are not there, by name, with what went wrong.
        worked: whether there was anything to do.
    """

    chain: Chain
    stages: Sequence[Stage]
    source: DataSet
    failed: dict[str, str] = field(default_factory=dict)
    worked: bool = False

    def unit(self) -> Unit:
        """The work, for one process."""
        return Unit(self.stages[0].place.parent, self.work)

    def work(self, say: Say) -> bool:
        """Make what is not made yet, then measure what is not measured yet.

        Returns:
            Whether there was anything to do.

        Raises:
            Interrupted, KeyboardInterrupt: Ctrl-C.
        """
        self.failed, self.worked = {}, False
        for do in (self._make, self._measure):
            for stage in self.stages:
                if stage.name not in self.failed:
                    self._try(do, stage, lambda line, name=stage.name: say(f"{name}: {line}"))  # type: ignore[misc]
        return self.worked

    def _try(self, do: Callable[[Stage, Say], None], stage: Stage, say: Say) -> None:
        """Do something for a stage; a failure is written down, and what builds on it is left out."""
        lost = [name for name in stage.needs if name in self.failed]
        error = f"it builds on {lost[0]}, which failed" if lost else None
        if error is None:
            try:
                do(stage, say)
            except Interrupted:
                raise
            except Exception as caught:  # whatever went wrong in one stage, those that do not need it are worth having
                error = failure(caught)
            finally:
                gc.collect()  # a trainer and its model hold each other
        if error is not None:
            self.failed[stage.name] = error
            self.worked = True
            run.write_json(stage.place / ERROR, {"error": error})
            say(f"failed: {error}")

    def _make(self, stage: Stage, say: Say) -> None:
        (stage.place / ERROR).unlink(missing_ok=True)
        self._check_built_on(stage)
        if stage.kind == "run":
            return
        if isinstance(stage.settings, PreferenceSettings):
            if not stage.result.is_file():
                self.worked = True
                write_preferences(stage.settings, stage.result)
            return
        begin, go_on = _TRAINERS[stage.kind]
        if not stage.result.exists():
            self.worked = True
            begin(stage.settings, say)
        elif not any((stage.result / name).is_dir() for name in (run.ADAPTER, run.FULL_MODEL)):
            self.worked = True
            go_on(stage.result, say)
        else:
            return
        draw_run(stage.result, stage.name)

    def _check_built_on(self, stage: Stage) -> None:
        """Write down what a stage builds on, or check that it is still the same."""
        known = {one.name: one for one in self.stages}
        now = {name: _hash(known[name]) for name in stage.needs}
        file = stage.place / _BUILT_ON
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else now
        for name, found in now.items():
            if before.get(name) != found:
                raise RunError(
                    f"{stage.place} was built on another {name} than there is now",
                    f"Remove {stage.place}, so that it is made anew; or put {name} back as it was.",
                )
        run.write_json(file, now)

    def _measure(self, stage: Stage, say: Say) -> None:
        section = self.chain.evaluate
        if stage.kind == "reward" and section.comparisons and not (stage.place / RANKING).is_file():
            self.worked = True
            found = reward_metrics(score_comparisons(stage.result, self._made(section.comparisons))[2])
            run.write_json(stage.place / RANKING, found.to_json())
            say(f"accuracy {100 * found.accuracy:.1f} % of {found.comparisons} comparisons")
        if not stage.makes_policy:
            return
        for decoder in unmeasured(stage.place, section.decoders):
            self.worked = True
            measure(stage.place, str(stage.result), decoder, self.source, section.batch_size, say)
        if section.samples and not (stage.place / DIVERGENCE).is_file():
            self.worked = True
            self._measure_divergence(stage, section.samples, say)
        if retention := unmeasured_elsewhere(stage.place, section):
            self.worked = True
            measure_elsewhere(stage.place, stage.result, retention, say)

    def _measure_divergence(self, stage: Stage, samples: int, say: Say) -> None:
        reference = next(one for one in self.stages if one.name == self.chain.reference)
        if reference.name in self.failed:
            return
        settings = DivergenceSettings(samples=samples, seed=stage.seed)
        found = measure_divergence(str(stage.result), str(reference.result), self.source, settings).to_json()
        run.write_json(stage.place / DIVERGENCE, found)
        exact = 100 * found["sampled_exact"]
        say(f"KL from {reference.name} {found['reply_kl']:.3f} nats a reply, EM of samples {exact:.1f}")

    def _made(self, source: str) -> str:
        """A source; a stage that makes preferences stands for its file."""
        if not source.startswith(STAGE_PREFIX):
            return source
        name = source.removeprefix(STAGE_PREFIX)
        if name in self.failed:
            raise RunError(f"evaluate.comparisons: {name} failed", "Mend that stage first.")
        return str(next(stage.result for stage in self.stages if stage.name == name))


def _hash(stage: Stage) -> str | None:
    """What names the content of a stage's result."""
    if stage.kind == "preferences":
        return sha256(stage.result.read_bytes()).hexdigest()
    return weights_hash(str(trained_folder(stage.result)))
