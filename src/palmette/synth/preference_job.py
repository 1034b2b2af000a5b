"""Preferences written to a file, in a job that continues where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from palmette import run
from palmette.config.recipes import Recipe
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.decode.reasoning import end_tokens
from palmette.errors import DataError
from palmette.files import expand
from palmette.inference.answerer import load_answerer
from palmette.inference.licence import base_licence
from palmette.inference.names import resolve_model, resolve_run
from palmette.inference.reward_model import judged_by, load_reward
from palmette.inference.task import recipe_prompt
from palmette.model.loading import dtype_name, weights_hash
from palmette.numbers import count as counted
from palmette.progress import Say
from palmette.rollouts.rewards import RewardMixture, Scorer
from palmette.rollouts.sampler import Sampler
from palmette.rollouts.sampling import Sampling
from palmette.seeds import derive_seed
from palmette.synth.leaks import ClearData, clear_data
from palmette.synth.licences import NO_LICENCES, Licences, say_unknown
from palmette.synth.preference_settings import PreferenceSettings
from palmette.synth.preferences import DEFAULTS, REASONS, PreferenceMaker, Preferences, make_preferences
from palmette.synth.rationale_file import dropped, report_of
from palmette.synth.showing import page_of, write_page_of
from palmette.synth.verdicts import judged_preferences, read_judged
from palmette.synth.work import begin_work, held_work
from palmette.tasks.qa_prompt import QaPrompt
from palmette.tasks.rewards import QaReward


def write_preferences(settings: PreferenceSettings, out: Path, say: Say, *, licences: Licences = NO_LICENCES) -> None:
    """Make preferences and write them, with a report beside them. A job that was stopped continues.

    Args:
        settings: the settings.
        say: called with lines about what was made.
        out: the .jsonl to write. Until it exists, a work file beside it holds the finished questions.
        licences: those that the user knows. By default the model's is the one that it states.

    Raises:
        RunError: the output exists, is being written by another process, was begun with other settings, or cannot be
            written.
        DataError: the data or the verdicts are wrong, or give no preference. Or a licence is given for other data.
        PalmetteError: the model or the reward model does not work for this, or a prompt is too long.
    """
    out = expand(out)
    if out.suffix != ".jsonl":
        raise DataError(f"{out} does not end in .jsonl", "Name a file that can be read back.")
    run.check_absent(out)
    stated = None if settings.model is None else base_licence(resolve_model(settings.model).base)
    made_of = licences.record([{"source": settings.data}], stated)  # a mistake shows before anything is sampled
    with held_work(out) as work:
        done, about, source = (_sampled if settings.verdicts is None else _judged)(settings, work)
        report = report_of(out)
        about |= {"licences": made_of}
        _report(done, {**about, "dropped_documents": source.dropped}, report)
        _summarize(done, source.data, say)
        _write_page(done, source, about, out)
        if not done.rows and settings.verdicts is None:
            way_out = f"See {report}. Draw more answers, at a higher temperature."
            raise DataError("no question has answers of different rewards", way_out)
        if not done.rows:
            raise DataError("no question has both a good and a bad answer", f"See {report}. Judge more answers.")
        run.write_json_lines(out, done.rows)
        work.unlink()
    say_unknown(made_of, say)
    say(f"{len(done.rows)} records in {out}. The report is {report}, and {page_of(out)} shows samples.")


def _write_page(done: Preferences, source: ClearData, about: dict[str, Any], out: Path) -> None:
    asked = {question.id: question.text for document in source.data.documents for question in document.questions}
    left_out = [{"question": asked[name], "reason": reason} for name, reason in done.left_out.items()]
    kept = [
        {
            "asked": row["prompt"][-1]["content"],
            **{key: row[key] for key in ("chosen", "rejected", "margin") if key in row},
            **{f"place {place}": text for place, text in enumerate(row.get("ranked", ()), start=1)},
        }
        for row in done.rows
    ]
    answers = {"writer": about} if "weights_sha256" in about else {}
    licences = {"licences": about["licences"]}
    write_page_of(
        out,
        {**answers, **licences, "sources": [source.data.describe()], "against": source.against},
        conclusion=f"{counted(len(done.rows), 'record')} of {counted(len(asked), 'question')}.",
        dropped={"documents": source.dropped, "questions": dropped(left_out, REASONS, ("question",))},
        kept=kept,
    )


def _sampled(settings: PreferenceSettings, work: Path) -> tuple[Preferences, dict[str, Any], ClearData]:
    """Preferences among a model's own answers, the record of their origin, and the data."""
    source = clear_data(read_source(settings.data, limit_documents=settings.limit_documents), settings.against)
    maker, about = _maker(settings)
    about |= {"data": source.data.describe(), "against": source.hashes}
    done = make_preferences(maker, source.data.documents, work, about)
    return done, {**about, **maker.settings()}, source


def _maker(settings: PreferenceSettings) -> tuple[PreferenceMaker, dict[str, Any]]:
    """The maker of preferences, and the record of the models."""
    assert settings.model is not None
    answerer = load_answerer(settings.model, attention=settings.attention, calibrated=False)
    loaded, task = answerer.loaded, answerer.task
    ends = end_tokens(loaded.model, task)
    rules = QaReward(task.prompt, settings.reward) if settings.reward else None
    scorer, made_by = _scorer(settings, task.prompt)
    samplings = tuple(
        Sampling(value, settings.top_p, settings.max_new_tokens, seed=derive_seed(settings.seed, index))
        for index, value in enumerate(settings.temperatures)
    )
    maker = PreferenceMaker(
        Sampler(loaded.model, loaded.tokenizer, end_tokens=ends, tokens_per_batch=settings.tokens_per_batch),
        task,
        RewardMixture(rules, scorer, settings.reward_model_weight),
        samplings,
        settings.samples,
        settings.form,
        settings.min_margin,
    )
    about = {
        "model": settings.model,
        "weights_sha256": weights_hash(loaded.folder),
        "adapter_sha256": answerer.weights,
        "dtype": dtype_name(loaded.model.dtype),
        **made_by,
    }
    return maker, about


def _scorer(settings: PreferenceSettings, prompt: QaPrompt) -> tuple[Scorer | None, dict[str, Any]]:
    """The reward model that scores answers, if there is one, and its record for the report."""
    if settings.reward_model is None:
        return None, {}
    scorer = load_reward(settings.reward_model, attention=settings.attention)
    named = judged_by(settings.reward_model)["reward_model"]
    about = {"reward_model": {**named, "weight": settings.reward_model_weight}}
    return partial(scorer.score_answers, prompt), about


def _judged(settings: PreferenceSettings, work: Path) -> tuple[Preferences, dict[str, Any], ClearData]:
    """Preferences among answers that people judged, the record of their origin, and the data."""
    assert settings.verdicts is not None
    whole = read_source(settings.data)  # a verdict may concern a question beyond the limit
    limited = replace(whole, documents=whole.documents[: settings.limit_documents])
    source = clear_data(limited, settings.against)
    prompt = _prompt(settings.model)
    verdicts = read_judged(settings.verdicts, whole.documents, prompt)
    about = {
        "model": settings.model,
        "data": source.data.describe(),
        "against": source.hashes,
        "verdicts": {"source": verdicts.source, "sha256": verdicts.sha256, "verdicts": verdicts.number},
        "form": settings.form,
        "prompt_sha256": prompt.sha256,
    }
    begin_work(work, about, defaults=DEFAULTS)  # another job may have begun it
    return judged_preferences(verdicts.answers, source.data.documents, prompt), about, source


def _prompt(model: str | None) -> QaPrompt:
    """A run's prompt, or the default prompt where there is no run.

    Raises:
        RunError: the model is no run.
        DataError: it has two turns.
    """
    recipe = None if model is None else resolve_run(model, finished=False).recipe
    prompt = recipe_prompt(recipe or Recipe(output=""))
    if prompt.two_turns:
        raise DataError(
            "a prompt of two turns has no answer in one completion", "Take a run whose prompt has one turn."
        )
    return prompt


def _report(done: Preferences, about: dict[str, Any], path: Path) -> None:
    """Write the report: how preferences were made, and the counts."""
    counts = {
        "kept": len(done.rows),
        "left_out": done.counts,
        "reasons": {reason: REASONS[reason] for reason in done.counts},
        "mean_reward": done.mean_reward,
    }
    run.write_json(path, {**run.environment(), **about, **counts})


def _summarize(done: Preferences, source: DataSet, say: Say) -> None:
    reward = "" if done.mean_reward is None else f". The mean reward of all answers is {done.mean_reward:.3f}"
    number = source.num_questions - sum(done.counts.values())
    say(f"preferences for {number} of {source.num_questions} questions{reward}")
    for reason, count in done.counts.items():
        say(f"  left out: {count} {reason} ({REASONS[reason]})")
