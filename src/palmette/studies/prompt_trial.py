"""Prompts tried on the same questions, and the best one measured once more on questions that no choice has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.leakage import alike_documents
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.evaluate.answers import evaluate
from palmette.evaluate.bootstrap import Difference, document_of, paired_difference
from palmette.evaluate.record import HELD_OUT_SPLIT
from palmette.evaluate.several import Standing, standings
from palmette.evaluate.squad import Evaluation
from palmette.inference.answerer import Answerer, DecoderName, load_answerer
from palmette.numbers import count
from palmette.pages.evaluation.folder import write_evaluation
from palmette.pages.prompt_trial import FinalCheck, PromptTrial, TriedPrompt, write_prompt_trial
from palmette.progress import Say
from palmette.studies.measuring import first_questions
from palmette.tasks.extractive_qa import ExtractiveQa
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
    chosen_on = _read(data, limit_questions)
    checked_on = _read(final, limit_questions) if final else None
    if checked_on is not None:
        _check_apart(chosen_on, checked_on)
    answerer = load_answerer(model, calibrated=False)
    with run.whole_folder(out) as folder:
        asked = _Asked(answerer, decoder, folder)
        evaluations = {}
        for name, prompt in prompts.items():
            say(f"prompt {name}")
            evaluations[name] = asked.evaluate(name, prompt, chosen_on, _CHOICE)
        order = standings({name: found.scored for name, found in evaluations.items()})
        tried = tuple(asked.tried(one, prompts[one.name], evaluations[one.name], chosen_on) for one in order)
        check = None
        if checked_on is not None:
            say("final check")
            check = asked.check(order[0].name, names[0], prompts, checked_on)
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


def _read(data: str, limit_questions: int | None) -> DataSet:
    return first_questions(read_source(data, default_split=HELD_OUT_SPLIT), limit_questions)


def _check_apart(chosen_on: DataSet, checked_on: DataSet) -> None:
    """Refuse a final check on documents that the choice has seen."""
    alike = alike_documents(chosen_on.documents, checked_on.documents)
    if alike:
        raise DataError(
            f"{checked_on.source} shares {count(len(alike), 'document')} with {chosen_on.source}, "
            f"{alike[0][1].id!r} among them",
            "Give questions about other documents for the final check.",
        )


@dataclass(frozen=True)
class _Asked:
    """The model that is asked, by which decoder, and where the evaluations go."""

    answerer: Answerer
    decoder: DecoderName
    folder: Path

    def with_prompt(self, prompt: QaPrompt) -> Answerer:
        """The model under another prompt. Its template and its reasoning stay."""
        task = self.answerer.task
        return replace(self.answerer, task=ExtractiveQa(task.template, prompt, reasoning=task.reasoning))

    def evaluate(self, name: str, prompt: QaPrompt, source: DataSet, part: str) -> Evaluation:
        """Answer a source under a prompt, and write the folder of the evaluation."""
        found = evaluate(self.with_prompt(prompt), source, decoder=self.decoder)
        folder = self.folder / part / Path(name).stem
        folder.mkdir(parents=True)
        write_evaluation(found, folder, f"{Path(name).stem} on {Path(source.source).name}", [("Prompt", name)])
        return found

    def tried(self, standing: Standing, prompt: QaPrompt, evaluation: Evaluation, source: DataSet) -> TriedPrompt:
        """A prompt with its figures."""
        tokens = _mean_tokens(self.with_prompt(prompt).task, source)
        return TriedPrompt(standing.name, prompt.system, evaluation, tokens, standing)

    def check(self, best: str, first: str, prompts: Mapping[str, QaPrompt], source: DataSet) -> FinalCheck:
        """Measure the best prompt and the first one, which may be the same, on questions that no choice has seen."""
        found = {name: self.evaluate(name, prompts[name], source, _FINAL) for name in dict.fromkeys((best, first))}
        return FinalCheck(found[best], found[first], _difference(found[best], found[first]))


def _difference(best: Evaluation, first: Evaluation) -> Difference | None:
    if best is first or len({document_of(answer) for answer in best.scored}) < 2:
        return None
    return paired_difference(best.scored, first.scored, None)["exact"]


def _mean_tokens(task: ExtractiveQa, source: DataSet) -> float:
    """The tokens of a prompt for one question, on average, up to its answer."""
    total = 0
    for document in source.documents:
        for question in document.questions:
            opened = task.open_completion(document.text, question.text)
            total += len(opened.root) + len(opened.document) + len(opened.question) + opened.lead
    return total / source.num_questions


def _record(
    trial: PromptTrial, prompts: Mapping[str, QaPrompt], decoder: str, sources: Sequence[DataSet | None]
) -> dict[str, Any]:
    return {
        "model": trial.model,
        "decoder": decoder,
        "conclusion": trial.conclusion(),
        "data": [source.describe() for source in sources if source is not None],
        "prompts": [
            {
                "name": one.name,
                "sha256": prompts[one.name].sha256,
                "tokens": one.tokens,
                "metrics": one.evaluation.metrics,
                "intervals": one.evaluation.intervals,
                "to_the_best": asdict(one.standing),
            }
            for one in trial.prompts
        ],
        "final": trial.final
        and {
            "best": trial.final.best.metrics["exact"],
            "first": trial.final.first.metrics["exact"],
            "difference": trial.final.difference and asdict(trial.final.difference),
        },
    }
