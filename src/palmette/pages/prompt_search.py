"""The page of a search for a better prompt: its course, the comparison at the end, and every prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from markupsafe import Markup

from palmette.numbers import count, fixed, with_interval
from palmette.pages.charts import StepLine, steps_chart
from palmette.pages.page import render_page, write_page
from palmette.pages.prompt_trial import MOST_SHOWN, FinalCheck, TriedPrompt, final_facts, moved_questions, prompt_row


@dataclass(frozen=True, slots=True)
class SearchedPrompt:
    """A prompt of a search.

    Attributes:
        name: its name.
        parent: the prompt that it varies. "" for the first one.
        partner: the prompt that its parent was joined with. "" if it varies the parent alone.
        call: the number of the teacher's call that it came from. 0 for the first one.
        instruction: its instruction.
        exact: exact match on the search half, in percent.
        interval: its 95 % interval.
    """

    name: str
    parent: str
    partner: str
    call: int
    instruction: str
    exact: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class PromptSearch:
    """What a search found.

    Attributes:
        model: the model's name.
        teacher: the teacher's name.
        data: the questions of the search.
        num_questions: the questions of the search half and of the dev half.
        prompts: every prompt that was measured, in the order in which they came.
        num_calls: how often the teacher was asked.
        refused: how many variations were refused for each reason, and what the reason means.
        chosen: the best prompt on the search half.
        base: the prompt that the search began with.
        dev: both on the dev half, better one first. One, if they are the same.
        final: both on questions about other documents, if any were given.
    """

    model: str
    teacher: str
    data: str
    num_questions: tuple[int, int]
    prompts: tuple[SearchedPrompt, ...]
    num_calls: int
    refused: Mapping[str, tuple[int, str]]
    chosen: str
    base: str
    dev: tuple[TriedPrompt, ...]
    final: FinalCheck | None

    @property
    def confirmed(self) -> bool:
        """Whether the dev half finds the chosen prompt better than the first one, beyond noise."""
        return len(self.dev) > 1 and self.dev[0].name == self.chosen and self.dev[1].standing.worse

    @property
    def kept(self) -> str:
        """The prompt to use: the chosen one if it is confirmed, and the first one otherwise."""
        return self.chosen if self.confirmed else self.base

    def conclusion(self) -> str:
        """What was found, in a few sentences."""
        if len(self.prompts) == 1:
            return "The teacher wrote nothing that could be used, so your prompt stays. A larger model may do better."
        if self.chosen == self.base:
            return "No variation was better than your prompt on the search half. Keep your prompt."
        said = f"{self.chosen} was the best of {count(len(self.prompts), 'prompt')} on the search half."
        if self.confirmed:
            said += " The dev half confirms that it is better than your prompt."
        elif self.dev[0].name == self.base and self.dev[1].standing.worse:
            said += " On the dev half it is worse than your prompt. Keep your prompt."
        else:
            said += " The dev half cannot tell it from your prompt. Keep your prompt."
        return f"{said}{self._last()}"

    def _last(self) -> str:
        """What the last check says."""
        if self.final is None:
            return ""
        found = self.final.difference
        if found is None or found.low <= 0.0 <= found.high:
            return " On the final questions the two cannot be told apart."
        return f" On the final questions it is {'better' if found.low > 0.0 else 'worse'} than your prompt."


def write_prompt_search(path: Path, search: PromptSearch) -> None:
    """Write the page.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(path, render_prompt_search(search))


def render_prompt_search(search: PromptSearch) -> str:
    """The page as HTML."""
    moved = list(moved_questions(search.dev))
    return render_page(
        "prompt_search.html",
        styles=("page.css", "report.css", "prompt_trial.css"),
        scripts=(),
        title=f"A prompt for {search.model}, searched",
        facts=[
            ("Model", search.model),
            ("Teacher", search.teacher),
            ("Data", search.data),
            ("Questions", f"{search.num_questions[0]:,} to search, {search.num_questions[1]:,} to confirm"),
        ],
        conclusion=search.conclusion(),
        kept=search.kept,
        chart=_chart(search),
        course=[course_row(one, search) for one in search.prompts],
        calls=_calls(search),
        refused=[(reason, f"{number}: {meaning}") for reason, (number, meaning) in search.refused.items()],
        rows=[prompt_row(one) for one in search.dev],
        final=list(final_facts(search.final, search.chosen, search.base)),
        effort=list(_effort(search)),
        moved=moved[:MOST_SHOWN],
        num_moved=len(moved),
        names=[one.name for one in search.dev],
        prompts=[(one.name, one.instruction) for one in search.prompts],
    )


def course_row(one: SearchedPrompt, search: PromptSearch) -> dict[str, str]:
    """A prompt in the course of the search, as the page and the terminal show it."""
    return {
        "name": one.name,
        "parent": f"{one.parent} and {one.partner}" if one.partner else one.parent,
        "exact": with_interval(one.exact, one.interval),
        "words": f"{len(one.instruction.split())}",
        "role": "chosen" if one.name == search.chosen else "",
    }


def _chart(search: PromptSearch) -> Markup:
    best = accumulate((one.exact for one in search.prompts), max)
    return steps_chart(
        "course",
        [StepLine([(one.call, exact) for one, exact in zip(search.prompts, best, strict=True)])],
        title="The best prompt so far, on the search half",
        label="exact match (%)",
        unit="call of the teacher",
    )


def _calls(search: PromptSearch) -> str:
    refused = sum(number for number, _ in search.refused.values())
    asked = count(search.num_calls, "call")
    return f"{asked} of the teacher: {count(len(search.prompts) - 1, 'new prompt')}, {refused} refused."


def _effort(search: PromptSearch) -> Iterator[tuple[str, str]]:
    known = count(sum(search.num_questions), "question")
    answers = count(len(search.prompts) * search.num_questions[0], "answer")
    asked = count(search.num_calls, "call")
    yield "This search", f"{known} with known answers, {answers} of the model and {asked} of the teacher"
    exact = {one.name: fixed(one.evaluation.metrics["exact"]) for one in search.dev}
    if search.chosen != search.base:
        yield "It moved", f"exact match on the dev half from {exact[search.base]} to {exact[search.chosen]} %"
