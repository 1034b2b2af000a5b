"""The course of a prompt search: what the teacher wrote, call by call, in a file, and the prompts that it left."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from palmette import run
from palmette.data.records import Question
from palmette.errors import RunError, reason_of
from palmette.evaluate.squad import Evaluation
from palmette.evaluate.squad_metrics import ScoredAnswer
from palmette.seeds import derive_seed
from palmette.studies.prompts.guard import ItemGuard
from palmette.synth.prompt_variations import DIRECTIONS, JOINING, Failure, PromptTeacher, Variation, VariationRequest
from palmette.synth.prompt_variations import REASONS as TEACHER_REASONS
from palmette.tasks.qa_prompt import QaPrompt

BASE = "base"
REASONS = {
    **TEACHER_REASONS,
    "known": "the instruction is that of an earlier prompt",
    "copies an item": "the instruction holds words of a document, a question or an answer",
    "does not fit": "the chat template does not take the instruction, or the model has no room for it",
}
_NUM_OTHERS = 3  # other instructions that the teacher is shown
_JOINED_EVERY = 3  # calls, one of which joins two prompts


@dataclass(frozen=True, slots=True)
class Written:
    """What the teacher wrote in one call.

    Attributes:
        call: the number of the call, from 1.
        name: the name of the prompt.
        parent: the prompt that it varies.
        instruction: the new instruction. "" if it was refused.
        reason: why it was refused, a key of `REASONS`. "" if it was not.
        copied: the words that it copies from the data, if that is why.
        completion: what the teacher wrote, or why it wrote nothing.
        partner: the prompt that the parent was joined with. "" if it was varied alone.
    """

    call: int
    name: str
    parent: str
    instruction: str
    reason: str
    copied: str
    completion: str
    partner: str = ""


@dataclass
class Population:
    """The prompts of a search, with their answers to the questions of the search half.

    Attributes:
        prompts: the base and every variation that was not refused, by name, in the order in which they came.
        evaluations: their answers.
        written: what the teacher wrote, call by call.
    """

    prompts: dict[str, QaPrompt]
    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    written: list[Written] = field(default_factory=list)

    def exact(self, name: str) -> float:
        """The exact match of a prompt, in percent."""
        return float(self.evaluations[name].metrics["exact"] or 0.0)

    def ranked(self) -> list[str]:
        """The prompts, best first. Of equally good ones the earlier one comes first."""
        return sorted(self.evaluations, key=lambda name: -self.exact(name))

    @property
    def refused(self) -> dict[str, int]:
        """How many variations were refused for each reason that occurred."""
        counts = Counter(one.reason for one in self.written)
        return {reason: counts[reason] for reason in REASONS if counts[reason]}

    def add(self, one: Written) -> None:
        """Add what the teacher wrote in one call."""
        self.written.append(one)
        if not one.reason:
            self.prompts[one.name] = replace(self.prompts[BASE], system=one.instruction)

    def refuse(self, name: str, reason: str) -> None:
        """Take a prompt out that was added and cannot be measured, for a reason of `REASONS`."""
        del self.prompts[name]
        self.written = [
            replace(one, instruction="", reason=reason) if one.name == name else one for one in self.written
        ]

    def partner(self, parent: str, size: int) -> str:
        """The prompt to join another one with: of the best ones, the one that is right most often where it is wrong.

        Args:
            parent: the prompt.
            size: so many of the best prompts count, and two at least.

        Returns:
            Its name. "" if there is no other prompt. Of equally good partners the better prompt comes first.
        """
        wrong = {answer.question.id for answer in self.evaluations[parent].scored if answer.exact < 1.0}
        others = [name for name in self.ranked()[: max(size, 2)] if name != parent]
        return max(others, key=lambda name: self._right_among(name, wrong), default="")

    def _right_among(self, name: str, questions: Collection[str]) -> int:
        scored = self.evaluations[name].scored
        return sum(answer.exact == 1.0 and answer.question.id in questions for answer in scored)


class Course:
    """Asks the teacher for one round of variations after the other. A round is written into a file as a whole.

    The best prompts are the parents of a round, each of one variation. Every third call joins its parent with another
    of the best prompts, as soon as there are two. What the teacher is asked depends on the seed, the number of the
    call, and the rounds before.

    Args:
        population: the prompts. The base is among them, with its answers.
        teacher: the teacher.
        guard: refuses copies of the data.
        path: the file. Rounds that stand there are not asked again.
        size: how many prompts are the parents of a round.
        num_failures: how many wrongly answered questions the teacher is shown.
        seed: seed of the draw of these questions.

    Raises:
        RunError: the file is damaged.
    """

    def __init__(
        self,
        population: Population,
        teacher: PromptTeacher,
        guard: ItemGuard,
        path: Path,
        *,
        size: int,
        num_failures: int,
        seed: int,
    ) -> None:
        self._population, self._teacher, self._guard, self._path = population, teacher, guard, path
        self._size, self._num_failures, self._seed = size, num_failures, seed
        try:
            self._stored = [Written(**line) for line in run.read_log(path)] if path.is_file() else []
        except TypeError as error:
            raise RunError(f"{path} holds other lines: {reason_of(error)}", "Give another name with --out.") from error

    def next_round(self, most: int) -> list[Written]:
        """The next round, which is added to the population. Its prompts have no answers yet.

        Args:
            most: the most calls.

        Raises:
            EndpointError: the server cannot be used.
            RunError: the file cannot be written.
        """
        population, done = self._population, len(self._population.written)
        ranked = population.ranked()[: self._size]
        calls = range(done + 1, done + 1 + min(self._size, most))
        stored = self._stored[done : done + len(calls)]
        if len(stored) < len(calls):
            stored = self._asked(calls, ranked)
            self._write((*population.written, *stored))
        for one in stored:
            population.add(one)
        return list(stored)

    def refuse(self, name: str) -> None:
        """Refuse a prompt of the last round that the model cannot be asked under.

        Raises:
            RunError: the file cannot be written.
        """
        self._population.refuse(name, "does not fit")
        self._write(self._population.written)

    def _write(self, written: Sequence[Written]) -> None:
        lines = (json.dumps(asdict(one), ensure_ascii=False) for one in written)
        run.write_text(self._path, "".join(f"{line}\n" for line in lines))

    def _asked(self, calls: Sequence[int], ranked: Sequence[str]) -> list[Written]:
        """Ask the teacher, and read what it wrote in the order of the calls."""
        parents = [ranked[index % len(ranked)] for index in range(len(calls))]
        partners = [
            "" if call % _JOINED_EVERY else self._population.partner(parent, self._size)
            for parent, call in zip(parents, calls, strict=True)
        ]
        shown = [self._failures(parent, call) for parent, call in zip(parents, calls, strict=True)]
        requests = [self._request(*one) for one in zip(parents, partners, calls, shown, strict=True)]
        found = dict(self._teacher.write(requests))
        seen = {_plain(prompt.system) for prompt in self._population.prompts.values()}
        written = []
        for index, (parent, call) in enumerate(zip(parents, calls, strict=True)):
            one = self._judged(call, parent, found[index], [answer.question for answer in shown[index]], seen)
            seen.add(_plain(one.instruction))
            written.append(replace(one, partner=partners[index]))
        return written

    def _failures(self, parent: str, call: int) -> list[ScoredAnswer]:
        wrong = [answer for answer in self._population.evaluations[parent].scored if answer.exact < 1.0]
        draw = random.Random(derive_seed(self._seed, call))
        return draw.sample(wrong, min(self._num_failures, len(wrong)))

    def _request(self, parent: str, partner: str, call: int, shown: Sequence[ScoredAnswer]) -> VariationRequest:
        population = self._population
        others = [name for name in population.ranked() if name not in (parent, partner)][:_NUM_OTHERS]
        return VariationRequest(
            population.prompts[parent].system,
            population.exact(parent),
            [_failure(answer) for answer in shown],
            [(population.prompts[name].system, population.exact(name)) for name in others],
            JOINING if partner else DIRECTIONS[(call - 1) % len(DIRECTIONS)],
            (population.prompts[partner].system, population.exact(partner)) if partner else None,
        )

    def _judged(
        self, call: int, parent: str, variation: Variation, shown: Sequence[Question], seen: set[str]
    ) -> Written:
        reason, copied = variation.reason, ""
        if not reason and _plain(variation.instruction) in seen:
            reason = "known"
        if not reason:
            copied = self._guard.copied(variation.instruction, shown)
            reason = "copies an item" if copied else ""
        kept = "" if reason else variation.instruction
        return Written(call, f"c{call:02d}", parent, kept, reason, copied, variation.completion)


def _plain(instruction: str) -> str:
    return " ".join(instruction.split())


def _failure(answer: ScoredAnswer) -> Failure:
    """A wrongly answered question as the teacher sees it."""
    prediction, question = answer.prediction, answer.question
    if prediction.valid_json is False:
        fault = "The reply does not have the form that is asked for."
    elif not question.answerable:
        fault = "The document does not answer the question, and the model gave an answer."
    elif not prediction.text:
        fault = "The document answers the question, and the model said that it does not."
    else:
        fault = "The reply is another text than the right answer."
    right = question.answers[0].text if question.answerable else ""
    return Failure(question.text, right, prediction.completion or prediction.text, fault)
