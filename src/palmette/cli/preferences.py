"""`palmette synth preferences`: a model's own answers, ranked by rewards; or answers that people judged."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from palmette.errors import DataError, RunError

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.data.records import DataSet
    from palmette.synth.preference_settings import PreferenceSettings
    from palmette.synth.preferences import PreferenceMaker, Preferences
    from palmette.tasks.qa_prompt import QaPrompt

WORK, REPORT = ".work", ".report.json"
_REWARD, _NO_REWARD = "f1=1,valid_json=0.2", "none"
OutOption = Annotated[
    Path, typer.Option(help="The .jsonl to write, which must not exist; a job that was stopped goes on.")
]
ModelOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Whose answers: a run folder, a model folder, a GGUF file, or a hub id. With --verdicts, only a run's prompt is used."
    ),
]
RewardOption = Annotated[
    str,
    typer.Option(
        help="Weights of abstention, exact, f1, valid_json, such as exact=1,valid_json=0.2; none: the reward model alone."
    ),
]
RewardModelOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="A finished run of `palmette train reward`, whose score of each answer is added."),
]
VerdictsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="A .jsonl of answers with a label, true (good) or false: good ones are preferred to bad ones. Nothing is sampled."
    ),
]
TemperatureOption = Annotated[
    Optional[list[float]],  # noqa: UP045
    typer.Option(min=0.0, help="A temperature to draw at; may be given again. [default: 0.7, 1.0, 1.3]"),
]
TopPOption = Annotated[float, typer.Option(min=0.001, max=1.0, help="Draw from the likeliest tokens that reach it.")]
FormOption = Annotated[
    Literal["pairs", "ranked"], typer.Option(help="The best and the worst answer, or one at each reward, 9 at most.")
]
MarginOption = Annotated[
    float,
    typer.Option(
        min=0.0, help="Answers whose rewards differ by less are not compared; what that leaves out is counted."
    ),
]
AttentionOption = Annotated[
    Optional[Literal["auto", "flex", "sdpa", "eager"]],  # noqa: UP045
    typer.Option(help="Attention backend; the run's own, or auto, if left out."),
]


def synth_preferences(
    data: Annotated[str, typer.Argument(help="builtin:train, a SQuAD v2 .json, a .jsonl, or a hub data set.")],
    out: OutOption,
    model: ModelOption = None,
    reward: RewardOption = _REWARD,
    reward_model: RewardModelOption = None,
    reward_model_weight: Annotated[float, typer.Option(min=0.0, help="How much that score counts.")] = 1.0,
    verdicts: VerdictsOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = 1.0,
    samples: Annotated[int, typer.Option(min=1, help="Answers of each question at each temperature.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longer answers are cut, and not compared.")] = 48,
    form: FormOption = "pairs",
    min_margin: MarginOption = 0.0,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Use the first N documents only.")] = None,  # noqa: UP045
    tokens_per_batch: Annotated[int, typer.Option(min=64, help="Tokens held at once.")] = 8192,
    attention: AttentionOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
) -> None:
    """Draw several answers to each question from one model and rank them by rewards, or take answers that people judged; write preferences."""
    from palmette.config import read_section
    from palmette.synth.preference_settings import PreferenceSettings
    from palmette.tasks.rewards import parse_weights

    settings = {
        "data": data,
        "model": model,
        "reward": {} if reward.strip() == _NO_REWARD else parse_weights(reward),
        "reward_model": reward_model,
        "reward_model_weight": reward_model_weight,
        "verdicts": verdicts,
        **({"temperatures": temperature} if temperature else {}),
        "top_p": top_p,
        "samples": samples,
        "max_new_tokens": max_new_tokens,
        "form": form,
        "min_margin": min_margin,
        "limit": limit,
        "tokens_per_batch": tokens_per_batch,
        "attention": attention,
        "seed": seed,
    }
    write_preferences(read_section(PreferenceSettings, settings, "synth preferences"), out)


def write_preferences(settings: PreferenceSettings, out: Path) -> None:
    """Make preferences as settings say, and write them with a report beside them; a job that was stopped goes on.

    Args:
        settings: the settings.
        out: the .jsonl to write. Until it is there, a work file beside it keeps what is done.

    Raises:
        RunError: it exists, is being written by another process, was begun with other settings, or cannot be written.
        DataError: bad data or verdicts, or no preference comes of them.
        PalmetteError: an unfit model or reward model, or a prompt that does not fit.
    """
    from palmette import run
    from palmette.cli.show import stderr

    out = out.expanduser()
    if out.suffix != ".jsonl":
        raise DataError(f"{out} does not end in .jsonl", "Name a file that can be read back.")
    run.check_absent(out)
    with _held(out) as work:
        done, about, source = (_sampled if settings.verdicts is None else _judged)(settings, work)
        report = out.with_name(out.name + REPORT)
        _report(done, about, report)
        _tell(done, source)
        if not done.rows and settings.verdicts is None:
            way_out = f"See {report}; draw more, at a higher temperature."
            raise DataError("no question has answers of different rewards", way_out)
        if not done.rows:
            raise DataError("no question has both a good and a bad answer", f"See {report}; judge more answers.")
        run.write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in done.rows))
        work.unlink()
    stderr().print(f"{len(done.rows)} records in {out}; how they were made, in {report}")


@contextlib.contextmanager
def _held(out: Path) -> Iterator[Path]:
    """The work file of an output, for this process alone.

    It goes away only when the output is there, or while nothing stands in it, so whoever comes to hold it later looks whether it still is.
    """
    from palmette import run
    from palmette.cli.lock import locked

    work = out.with_name(out.name + WORK)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work.touch()
    except OSError as error:
        raise RunError(f"cannot write {work}: {error.strerror}", "Choose another output.") from error
    with locked(work, wait=False) as mine:
        if not mine or not work.exists():
            raise RunError(f"another process is writing {out}", "Wait for it, or give another name for the output.")
        try:
            run.check_absent(out)  # the other process may have finished it in the meantime
            yield work
        finally:
            if work.exists() and not work.stat().st_size:
                work.unlink()


def _sampled(settings: PreferenceSettings, work: Path) -> tuple[Preferences, dict[str, Any], DataSet]:
    """Preferences among a model's own answers, how they were made, and to which questions."""
    from palmette.data.source import read_source
    from palmette.synth.preferences import make_preferences

    source = read_source(settings.data, limit_documents=settings.limit)
    maker, about = _maker(settings)
    about |= {"data": _counted(source)}
    done = make_preferences(maker, source.documents, work, about)
    return done, {**about, **maker.settings()}, source


def _maker(settings: PreferenceSettings) -> tuple[PreferenceMaker, dict[str, Any]]:
    """How preferences are made, and what names the models."""
    from palmette.cli.opening import open_model
    from palmette.decode.reasoning import end_tokens
    from palmette.decode.rollouts import Sampling
    from palmette.decode.sampler import Sampler
    from palmette.model.loading import weights_hash
    from palmette.synth.preferences import PreferenceMaker
    from palmette.tasks.rewards import QaReward

    assert settings.model is not None
    opened = open_model(settings.model, settings.attention, calibrated=False)
    loaded, task = opened.loaded, opened.task
    ends = end_tokens(loaded.model, task)
    reward = QaReward(task.prompt, settings.reward) if settings.reward else None
    judge, judged_by = _judge(settings, task.prompt)
    samplings = tuple(
        Sampling(value, settings.top_p, settings.max_new_tokens, seed=settings.seed * 1_000_003 + index)
        for index, value in enumerate(settings.temperatures)
    )
    maker = PreferenceMaker(
        Sampler(loaded.model, loaded.tokenizer, end_tokens=ends, tokens_per_batch=settings.tokens_per_batch),
        task,
        reward,
        samplings,
        settings.samples,
        settings.form,
        settings.min_margin,
        judge,
        settings.reward_model_weight,
    )
    about = {
        "model": settings.model,
        "weights_sha256": weights_hash(loaded.folder),
        "adapter_sha256": opened.weights,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        **judged_by,
    }
    return maker, about


def _judge(settings: PreferenceSettings, prompt: QaPrompt) -> tuple[Any, dict[str, Any]]:
    """What the reward model says of answers, and what names it; nothing where there is none."""
    if settings.reward_model is None:
        return None, {}
    from palmette.train.policy import judged_by
    from palmette.train.reward import load_reward

    opened = load_reward(Path(settings.reward_model).expanduser(), settings.attention)
    named = judged_by(settings.reward_model)["reward_model"]
    about = {"reward_model": {**named, "weight": settings.reward_model_weight}}
    return partial(opened.score_answers, prompt), about


def _judged(settings: PreferenceSettings, work: Path) -> tuple[Preferences, dict[str, Any], DataSet]:
    """Preferences among answers that people judged, how they were made, and to which questions."""
    from palmette.data.source import read_source
    from palmette.synth.preferences import begin_work
    from palmette.synth.verdicts import judged_preferences, read_judged

    assert settings.verdicts is not None
    whole = read_source(settings.data)  # a verdict may be on a question beyond the limit
    source = replace(whole, documents=whole.documents[: settings.limit])
    prompt = _prompt(settings.model)
    verdicts = read_judged(settings.verdicts, whole.documents, prompt)
    about = {
        "model": settings.model,
        "data": _counted(source),
        "verdicts": {"source": verdicts.source, "sha256": verdicts.sha256, "verdicts": verdicts.number},
        "form": settings.form,
        "prompt_sha256": prompt.sha256,
    }
    begin_work(work, about)  # which another job may have begun
    return judged_preferences(verdicts.answers, source.documents, prompt), about, source


def _prompt(model: str | None) -> QaPrompt:
    """A run's prompt; the default one where there is no run.

    Raises:
        RunError: what is named is no run.
        DataError: it has two turns.
    """
    from palmette import run
    from palmette.config import Recipe, load_run_recipe
    from palmette.train.sft import recipe_prompt

    recipe = Recipe(output="")
    if model is not None:
        folder = Path(model).expanduser()
        run.check_run(folder)
        recipe = load_run_recipe(folder / run.RECIPE)
    prompt = recipe_prompt(recipe)
    if prompt.two_turns:
        raise DataError("a prompt of two turns has no answer in one reply", "Take a run whose prompt has one turn.")
    return prompt


def _counted(source: DataSet) -> dict[str, Any]:
    return {"source": source.source, "sha256": source.sha256, "questions": source.num_questions}


def _report(done: Preferences, about: dict[str, Any], path: Path) -> None:
    """How preferences were made, and what came of it."""
    from palmette import run
    from palmette.synth.preferences import REASONS

    found = {
        "kept": len(done.rows),
        "left_out": done.counts,
        "reasons": {reason: REASONS[reason] for reason in done.counts},
        "mean_reward": done.mean_reward,
    }
    run.write_json(path, {**run.environment(), **about, **found})


def _tell(done: Preferences, source: DataSet) -> None:
    from palmette.cli.show import stdout
    from palmette.synth.preferences import REASONS

    console = stdout()
    reward = "" if done.mean_reward is None else f"; the mean reward of all answers is {done.mean_reward:.3f}"
    number = source.num_questions - sum(done.counts.values())
    console.print(f"preferences for {number} of {source.num_questions} questions{reward}")
    for reason, count in done.counts.items():
        console.print(f"  left out: {count} {reason} ({REASONS[reason]})")
