"""The pages of multiple-choice benchmarks: one result, or two of the same items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palmette.choice.compare import ResultComparison
from palmette.choice.items import ChoiceItem
from palmette.choice.measures import BRIER, Figure, Outcome
from palmette.choice.results import REPORT, Result, read_texts
from palmette.numbers import count, duration, fixed, interval, rate
from palmette.pages.page import render_page, write_page

_SHOWN = 40  # items of each kind
_CONTEXT = 600  # the most characters of a context that are shown, its end
NAMES = {
    "acc": ("Accuracy", "The choice with the highest log-probability is the right one."),
    "acc_norm": ("Accuracy per character", "The same for the log-probability per character of the choice."),
    "acc_bytes": ("Accuracy per byte", "The same per byte of the choice."),
    "acc_mutual_info": ("Accuracy by mutual information", "The same for what a choice gains from its context."),
    BRIER: ("Brier score", "Squared distance of the choices' probabilities from the truth: 0 is best, 2 is worst."),
}


def write_report(folder: Path) -> None:
    """Write the page of a result into its folder.

    Raises:
        RunError: the folder holds no results, or the page cannot be written.
    """
    result = Result.read(folder)
    texts = read_texts(folder)
    html = _render(
        title=f"{result.settings['title']}, {Path(result.settings['model']).name}",
        facts=_facts(result),
        main_figures=list(_main_figures(result)),
        caption="",
        rows=[],
        groups=[(name, note, _cards(found, texts, result.headline)) for name, note, found in _groups(result)],
        subjects=_subjects(result),
        notes=_notes(result),
    )
    write_page(folder / REPORT, html)


def write_comparison(
    path: Path, found: ResultComparison, texts: Mapping[str, ChoiceItem], names: tuple[str, str]
) -> None:
    """Write the page of two results.

    Args:
        path: the file.
        found: the results, compared.
        texts: the texts of the items by id.
        names: how the page calls the two results.

    Raises:
        RunError: the page cannot be written.
    """
    headline = found.a.headline
    groups = [
        ("Right in B only", "", _pair_cards(found.only_b, texts, headline)),
        ("Right in A only", "", _pair_cards(found.only_a, texts, headline)),
    ]
    facts = [("A", names[0]), ("B", names[1]), *_facts(found.a)[1:]]
    html = _render(
        title=f"{found.a.settings['title']}, two results",
        facts=facts,
        main_figures=[],
        caption="An interval that holds 0 decides nothing, nor do fewer than six items that only one has right.",
        rows=list(comparison_rows(found)),
        groups=groups,
        subjects=[],
        notes=[*found.notes, f"{len(found.only_b)} right in B only, {len(found.only_a)} right in A only."],
    )
    write_page(path, html)


def comparison_rows(found: ResultComparison) -> Iterator[dict[str, str]]:
    """The measures under both results, in words."""
    for one in sorted(found.compared, key=lambda one: one.name != found.a.headline):
        factor, places = (1.0, 3) if one.name == BRIER else (100.0, 1)
        ends = None if one.low is None or one.high is None else (factor * one.low, factor * one.high)
        yield {
            "name": NAMES[one.name][0] + ("" if one.name == BRIER else ", %"),
            "a": fixed(factor * one.a, places),
            "b": fixed(factor * one.b, places),
            "difference": fixed(factor * one.difference, places, sign=True),
            "interval": interval(ends, places, sign=True),
            "better": one.better,
        }


def _render(**values: Any) -> str:
    return render_page("choice.html", styles=("page.css", "choice.css"), scripts=(), **values)


def _facts(result: Result) -> list[tuple[str, str]]:
    settings = result.settings
    examples = f", {count(settings['shots'], 'example')} before each" if settings["shots"] else ""
    return [
        ("Model", settings["model"]),
        ("Rule", f"{settings['rule']}{examples}"),
        ("Asked", "through the chat template" if settings["chat_template"] else "as plain text"),
        ("Items", f"{len(result.outcomes)} of {settings['data']['source']}"),
        ("Day", datetime.now(UTC).date().isoformat()),
    ]


def _main_figures(result: Result) -> Iterator[dict[str, str]]:
    for name in sorted(result.figures, key=lambda name: name != result.headline):
        yield {"name": NAMES[name][0], "meaning": NAMES[name][1], **_shown(result.figures[name], name)}


def _shown(one: Figure, name: str) -> dict[str, str]:
    factor, places = (1.0, 3) if name == BRIER else (100.0, 1)
    ends = None if one.low is None or one.high is None else (factor * one.low, factor * one.high)
    unit = "" if name == BRIER else "%"
    return {"value": fixed(factor * one.value, places), "unit": unit, "interval": interval(ends, places)}


def _notes(result: Result) -> list[str]:
    lines = []
    if tied := result.ties.get(result.headline):
        lines.append(f"In {count(tied, 'item')} the best score is shared. The first choice counts there.")
    for kind, words in (
        ("merged", "a token holds the end of the context and the beginning of a choice"),
        ("cut", "the context lost its beginning"),
    ):
        if number := result.odd.get(kind):
            lines.append(f"In {count(len(number), 'item')} {words}: {', '.join(number[:5])}.")
    if result.seconds:
        lines.append(f"Scored in {duration(result.seconds)}, {rate(len(result.outcomes) / result.seconds)}.")
    return lines


def _subjects(result: Result) -> list[dict[str, str]]:
    return [
        {"name": name.replace("_", " "), "items": str(found[result.headline].number)}
        | _shown(found[result.headline], result.headline)
        for name, found in result.subjects.items()
    ]


def _groups(result: Result) -> Iterator[tuple[str, str, list[Outcome]]]:
    """Items worth reading: those that the model is surely wrong about, those it can hardly decide, and right ones."""
    name = result.headline
    wrong = [one for one in result.outcomes if not one.right(name)]
    right = [one for one in result.outcomes if one.right(name)]
    yield "Wrong, and sure of it", "The largest lead over the right choice first.", sorted(wrong, key=_lead(name))
    yield "Hardly decided", "The smallest lead of the best choice first.", sorted(result.outcomes, key=_margin(name))
    yield (
        "Right, and sure of it",
        "The largest lead over every other choice first.",
        sorted(right, key=lambda one: -_margin(name)(one)),
    )


def _lead(name: str) -> Any:
    return lambda one: one.scores(name)[one.gold] - max(one.scores(name))


def _margin(name: str) -> Any:
    def margin(one: Outcome) -> float:
        best, second = sorted(one.scores(name))[-1:-3:-1]
        return best - second

    return margin


def _cards(outcomes: Sequence[Outcome], texts: Mapping[str, ChoiceItem], name: str) -> list[dict[str, Any]]:
    return [
        {
            **_head(one, texts),
            "choices": [
                _choice(one, name, index, f"{one.scores(name)[index]:.3f}") for index in range(len(one.choices))
            ],
        }
        for one in outcomes[:_SHOWN]
    ]


def _pair_cards(
    pairs: Sequence[tuple[Outcome, Outcome]], texts: Mapping[str, ChoiceItem], name: str
) -> list[dict[str, Any]]:
    cards = []
    for a, b in pairs[:_SHOWN]:
        choices = []
        for index in range(len(a.choices)):
            marks = [mark for mark, one in (("A", a), ("B", b)) if one.taken(name) == index]
            score = f"{a.scores(name)[index]:.3f} / {b.scores(name)[index]:.3f}"
            choices.append({**_choice(a, name, index, score), "taken": " ".join(marks)})
        cards.append({**_head(a, texts), "choices": choices})
    return cards


def _head(one: Outcome, texts: Mapping[str, ChoiceItem]) -> dict[str, str]:
    context = texts[one.id].contexts[one.gold]
    return {"id": one.id, "context": context if len(context) <= _CONTEXT else f"… {context[-_CONTEXT:]}"}


def _choice(one: Outcome, name: str, index: int, score: str) -> dict[str, Any]:
    taken = "taken" if one.taken(name) == index else ""
    return {"text": one.choices[index], "right": index == one.gold, "taken": taken, "score": score}
