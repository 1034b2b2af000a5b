"""The page of prompts that were tried on the same questions: figures, what is noise, and the questions that move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.evaluate.bootstrap import Difference
from palmette.evaluate.several import Standing
from palmette.evaluate.squad import Evaluation
from palmette.numbers import count, fixed, interval
from palmette.pages.page import render_page, write_page

MOST_SHOWN = 25  # questions that move


@dataclass(frozen=True)
class TriedPrompt:
    """A prompt and what it gave.

    Attributes:
        name: its name or file.
        system: its instruction.
        evaluation: its answers to the questions of the choice.
        tokens: tokens of a prompt for one question, on average.
        standing: where it stands among the others.
    """

    name: str
    system: str
    evaluation: Evaluation
    tokens: float
    standing: Standing


@dataclass(frozen=True)
class FinalCheck:
    """The best prompt and the first one on questions that no choice has seen.

    Attributes:
        best, first: their evaluations. The same one if the first is the best.
        difference: exact match of the best less that of the first. None if they are the same, or with one document.
    """

    best: Evaluation
    first: Evaluation
    difference: Difference | None


@dataclass(frozen=True)
class PromptTrial:
    """What a trial found.

    Attributes:
        model: the model's name.
        data: the questions of the choice.
        prompts: the prompts, best first.
        first: the prompt that was named first, which the best one is checked against.
        final: the check on other questions, if any were given.
    """

    model: str
    data: str
    prompts: tuple[TriedPrompt, ...]
    first: str
    final: FinalCheck | None

    def conclusion(self) -> str:
        """What was found, in a sentence or two."""
        best, *others = self.prompts
        equal = [one.name for one in others if not one.standing.worse]
        said = f"{best.name} has the highest exact match"
        said += f", and these questions cannot tell it from {', '.join(equal)}." if equal else ", beyond noise."
        if not any(one.standing.difference for one in others):
            said += " There are no intervals, since they need at least two documents."
        if self.final is None:
            return f"{said} Its own figure is too good, since it was chosen by these questions."
        if best.name == self.first:
            return f"{said} It is the prompt that you named first."
        found = self.final.difference
        if found is None or found.low <= 0.0 <= found.high:
            return f"{said} On the final questions it is no better than {self.first} beyond noise."
        side = "better" if found.low > 0.0 else "worse"
        return f"{said} On the final questions it is {side} than {self.first}."


def write_prompt_trial(path: Path, trial: PromptTrial) -> None:
    """Write the page.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(path, render_prompt_trial(trial))


def render_prompt_trial(trial: PromptTrial) -> str:
    """The page as HTML."""
    asked = trial.prompts[0].evaluation.scored
    documents = len({answer.document.id for answer in asked})
    moved = list(moved_questions(trial.prompts))
    return render_page(
        "prompt_trial.html",
        styles=("page.css", "report.css", "prompt_trial.css"),
        scripts=(),
        title=f"Prompts for {trial.model}",
        facts=[
            ("Model", trial.model),
            ("Data", trial.data),
            ("Questions", f"{len(asked):,} about {count(documents, 'document')}"),
        ],
        conclusion=trial.conclusion(),
        rows=[prompt_row(one) for one in trial.prompts],
        final=list(final_facts(trial.final, trial.prompts[0].name, trial.first)),
        effort=list(_effort(trial)),
        moved=moved[:MOST_SHOWN],
        num_moved=len(moved),
        names=[one.name for one in trial.prompts],
        prompts=[(one.name, one.system) for one in trial.prompts],
    )


def prompt_row(one: TriedPrompt) -> dict[str, str]:
    """The figures of a prompt, as the page and the terminal show them."""
    metrics, found = one.evaluation.metrics, one.standing.difference
    rate = metrics["questions_per_second"]
    return {
        "name": one.name,
        "exact": fixed(metrics["exact"]),
        "interval": interval(one.evaluation.intervals.get("exact")),
        "f1": fixed(metrics["f1"]),
        "refused": fixed(metrics.get("correct_no_answer")),
        "valid": fixed(metrics.get("valid_json")),
        "tokens": f"{one.tokens:.0f}",
        "rate": fixed(rate) if rate else "",
        "difference": fixed(found.value, sign=True) if found else "",
        "between": interval((found.low, found.high), sign=True) if found else "",
        "p": f"{one.standing.p:.3f}" if one.standing.p is not None else "",
        "verdict": "worse" if one.standing.worse else "noise" if found else "",
    }


def final_facts(check: FinalCheck | None, best: str, first: str) -> Iterator[tuple[str, str]]:
    """What a final check found, in words.

    Args:
        check: the check, if there was one.
        best: the name of the best prompt.
        first: the name of the first one, which may be the same.
    """
    if check is None:
        return
    asked = len(check.best.scored)
    yield "Questions", f"{asked:,}, which no choice has seen"
    yield best, f"{fixed(check.best.metrics['exact'])} % exact match"
    if best != first:
        yield first, f"{fixed(check.first.metrics['exact'])} % exact match"
    if check.difference is not None:
        between = interval((check.difference.low, check.difference.high), sign=True)
        yield "Difference", f"{fixed(check.difference.value, sign=True)} (95 % interval {between})"


def _effort(trial: PromptTrial) -> Iterator[tuple[str, str]]:
    """What the trial asked for and what it moved, in words."""
    best, asked = trial.prompts[0], len(trial.prompts[0].evaluation.scored)
    answers = count(len(trial.prompts) * asked, "answer")
    yield "This trial", f"{count(asked, 'question')} with known answers, and {answers} of the model"
    first = next(one for one in trial.prompts if one.name == trial.first)
    if best is not first:
        moved = [fixed(one.evaluation.metrics["exact"]) for one in (first, best)]
        yield "It moved", f"exact match from {moved[0]} to {moved[1]} % on the questions that chose"
    if best is not first and trial.final is not None:
        moved = [fixed(one.metrics["exact"]) for one in (trial.final.first, trial.final.best)]
        yield "On the final questions", f"from {moved[0]} to {moved[1]} %"


def moved_questions(prompts: Sequence[TriedPrompt]) -> Iterator[Mapping[str, Any]]:
    """Questions that some prompts answer rightly and others do not, those that divide the prompts most evenly first."""
    by_question: dict[str, list[Any]] = {}
    for one in prompts:
        for answer in one.evaluation.scored:
            by_question.setdefault(answer.question.id, []).append(answer)
    divided = []
    for answers in by_question.values():
        right = sum(answer.exact == 1.0 for answer in answers)
        if 0 < right < len(answers):
            divided.append((abs(2 * right - len(answers)), answers))
    for _, answers in sorted(divided, key=lambda one: one[0]):
        gold = [answer.text for answer in answers[0].question.answers]
        yield {
            "question": answers[0].question.text,
            "right": gold[0] if gold else "",
            "answers": [{"text": answer.prediction.text, "right": answer.exact == 1.0} for answer in answers],
        }
