"""The same questions put to a model under several prompts, and what trials and searches do with the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.leakage import alike_documents
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.decode.reachability import report_unreachable
from palmette.errors import DataError
from palmette.evaluate.answers import evaluate
from palmette.evaluate.bootstrap import Difference, document_of, paired_difference
from palmette.evaluate.record import HELD_OUT_SPLIT
from palmette.evaluate.several import standings
from palmette.evaluate.squad import Evaluation
from palmette.inference.answerer import Answerer, DecoderName
from palmette.numbers import count
from palmette.pages.evaluation.folder import write_evaluation
from palmette.pages.prompt_trial import FinalCheck, TriedPrompt
from palmette.progress import Say
from palmette.studies.measuring import first_questions
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import QaPrompt


def read_asked(data: str, limit_questions: int | None, decoder: DecoderName, say: Say) -> DataSet:
    """The questions of a source, or the first so many of them.

    Args:
        data: the source.
        limit_questions: how many. All if None.
        decoder: what will answer them.
        say: called with a line if some answers cannot be given by the span decoder, and it is what answers.

    Raises:
        DataError: the source cannot be read.
    """
    found = first_questions(read_source(data, default_split=HELD_OUT_SPLIT), limit_questions)
    if decoder == "span":
        report_unreachable(found.documents, say)
    return found


def check_apart(chosen_on: DataSet, checked_on: DataSet) -> None:
    """Refuse a final check on documents that the choice has seen.

    Raises:
        DataError: both sources have a document, or nearly the same one.
    """
    alike = alike_documents(chosen_on.documents, checked_on.documents)
    if alike:
        raise DataError(
            f"{checked_on.source} shares {count(len(alike), 'document')} with {chosen_on.source}, "
            f"{alike[0][1].id!r} among them",
            "Give questions about other documents for the final check.",
        )


@dataclass(frozen=True)
class PromptedModel:
    """The model that is asked, by which decoder, and where the evaluations go.

    Attributes:
        answerer: the model. Its own prompt is not used.
        decoder: plain generation, or the span decoder.
        folder: each evaluation gets a folder PART/NAME in it.
    """

    answerer: Answerer
    decoder: DecoderName
    folder: Path

    def with_prompt(self, prompt: QaPrompt) -> Answerer:
        """The model under another prompt. Its template and its reasoning stay."""
        task = self.answerer.task
        return replace(self.answerer, task=ExtractiveQa(task.template, prompt, reasoning=task.reasoning))

    def evaluate(self, name: str, prompt: QaPrompt, source: DataSet, part: str) -> Evaluation:
        """Answer a source under a prompt, and write the folder of the evaluation. One that is there is read."""
        stem = Path(name).stem
        place = self.folder / part / stem
        if place.is_dir():
            return Evaluation.read(place)
        found = evaluate(self.with_prompt(prompt), source, decoder=self.decoder)
        with run.whole_folder(place) as staging:
            write_evaluation(found, staging, f"{stem} on {Path(source.source).name}", [("Prompt", name)])
        return found

    def tried(
        self, evaluations: Mapping[str, Evaluation], prompts: Mapping[str, QaPrompt], source: DataSet
    ) -> tuple[TriedPrompt, ...]:
        """Prompts with their figures on one source, best first, each compared with the best one."""
        order = standings({name: found.scored for name, found in evaluations.items()})
        return tuple(
            TriedPrompt(
                one.name,
                prompts[one.name].system,
                evaluations[one.name],
                _mean_tokens(self.with_prompt(prompts[one.name]).task, source),
                one,
            )
            for one in order
        )

    def check(self, best: str, first: str, prompts: Mapping[str, QaPrompt], source: DataSet, part: str) -> FinalCheck:
        """Measure the best prompt and the first one, which may be the same, on questions that no choice has seen."""
        found = {name: self.evaluate(name, prompts[name], source, part) for name in dict.fromkeys((best, first))}
        return FinalCheck(found[best], found[first], difference_of(found[best], found[first]))


def difference_of(best: Evaluation, first: Evaluation) -> Difference | None:
    """Exact match of one less that of another, paired by document. None for the same one, or with one document."""
    if best is first or len({document_of(answer) for answer in best.scored}) < 2:
        return None
    return paired_difference(best.scored, first.scored, None)["exact"]


def prompt_records(tried: Sequence[TriedPrompt], prompts: Mapping[str, QaPrompt]) -> list[dict[str, Any]]:
    """The figures of prompts for a record."""
    return [
        {
            "name": one.name,
            "sha256": prompts[one.name].sha256,
            "tokens": one.tokens,
            "metrics": one.evaluation.metrics,
            "intervals": one.evaluation.intervals,
            "to_the_best": asdict(one.standing),
        }
        for one in tried
    ]


def final_record(final: FinalCheck | None) -> dict[str, Any] | None:
    """The figures of a final check for a record."""
    if final is None:
        return None
    return {
        "best": final.best.metrics["exact"],
        "first": final.first.metrics["exact"],
        "difference": final.difference and asdict(final.difference),
    }


def _mean_tokens(task: ExtractiveQa, source: DataSet) -> float:
    """The tokens of a prompt for one question, on average, up to its answer."""
    total = 0
    for document in source.documents:
        for question in document.questions:
            opened = task.open_completion(document.text, question.text)
            total += len(opened.root) + len(opened.document) + len(opened.question) + opened.lead
    return total / source.num_questions
