"""Prompts tried on the same questions, and the best one measured once more on questions that no choice has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.records import DataSet
from palmette.errors import DataError
from palmette.inference.answerer import DecoderName, load_answerer
from palmette.pages.prompt_trial import PromptTrial, write_prompt_trial
from palmette.progress import Say
from palmette.studies.prompts.asking import PromptedModel, check_apart, final_record, prompt_records, read_asked
from palmette.tasks.qa_prompt import QaPrompt, load_prompt

RECORD, PAGE = "prompts.json", "prompts.html"
_CHOICE, _FINAL = "choice", "final"


def try_prompts(
    model: str,
    names: Sequence[str],
    data: str,
    *,
    out: Path,
    final: str | None = None,
    decoder: DecoderName = "greedy",
    limit_questions: int | None = None,
    say: Say = lambda _: None,
) -> PromptTrial:
    """Answer the same questions under each prompt, and compare them.

    The folder gets prompts.html, prompts.json, and below choice/ and final/ the folder of each evaluation.

    Args:
        model: a run folder, a model folder, a GGUF file, or a hub id. A calibration is not used, since it holds for one
            prompt.
        names: two or more prompts, by name or file. The first is what the best one is checked against.
        data: the questions of the choice.
        out: a folder, which must not exist.
        final: other questions, about other documents.
        decoder: plain generation, which shows whether the format is kept, or the span decoder.
        limit_questions: use only the first N questions of each source.
        say: told which prompt is tried.

    Raises:
        DataError: there are fewer than two prompts or two of the same name, a prompt cannot be read, the data cannot be
            read, or both sources share a document.
        ModelError: the model cannot be loaded.
        RunError: the folder exists.
    """
    run.check_absent(out)
    _check_names(names)
    prompts = {name: load_prompt(name) for name in names}
    chosen_on = read_asked(data, limit_questions, decoder, say)
    checked_on = read_asked(final, limit_questions, decoder, say) if final else None
    if checked_on is not None:
        check_apart(chosen_on, checked_on)
    answerer = load_answerer(model, calibrated=False)
    with run.whole_folder(out) as folder:
        asked = PromptedModel(answerer, decoder, folder)
        evaluations = {}
        for name, prompt in prompts.items():
            say(f"prompt {name}")
            evaluations[name] = asked.evaluate(name, prompt, chosen_on, _CHOICE)
        tried = asked.tried(evaluations, prompts, chosen_on)
        check = None
        if checked_on is not None:
            say("final check")
            check = asked.check(tried[0].name, names[0], prompts, checked_on, _FINAL)
        trial = PromptTrial(Path(model).name, data, tried, names[0], check)
        run.write_json(folder / RECORD, _record(trial, prompts, decoder, (chosen_on, checked_on)))
        write_prompt_trial(folder / PAGE, trial)
    return trial


def _check_names(names: Sequence[str]) -> None:
    """Refuse fewer than two prompts, and two whose folders would have one name."""
    if len({Path(name).stem for name in names}) < max(2, len(names)):
        raise DataError(
            f"prompts {', '.join(names)}: two or more different ones are needed",
            "Give each a name, or a file name, of its own.",
        )


def _record(
    trial: PromptTrial, prompts: Mapping[str, QaPrompt], decoder: str, sources: Sequence[DataSet | None]
) -> dict[str, Any]:
    return {
        "model": trial.model,
        "decoder": decoder,
        "conclusion": trial.conclusion(),
        "data": [source.describe() for source in sources if source is not None],
        "prompts": prompt_records(trial.prompts, prompts),
        "final": final_record(trial.final),
    }
