"""The page of a retraining: before and after, what flipped, what it cost, and what it takes to see a smaller gain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette.evaluate.changes import Changes, Pair
from palmette.evaluate.compare import Compared
from palmette.numbers import count, duration, fixed, interval, places_of, readable
from palmette.pages.evaluation.before import SHOWN, measure_row
from palmette.pages.page import render_page, write_page

_METHODS = {"sft": "fine-tuning on the right answers", "dpo": "DPO on pairs", "kto": "KTO on labels"}
_MOST_SHOWN = 50  # flipped answers of each kind


@dataclass(frozen=True)
class RetrainingPage:
    """What the page shows.

    Attributes:
        old, new: the names of both runs.
        method: "sft", "dpo" or "kto".
        compared: each measure before and after. Empty if no question of the audit set was judged.
        changes: the answers that changed. None in the same case.
        material: counts of what was learned from and measured on, and its cost.
        needs: what it takes to see a smaller gain. None if that is not known.
    """

    old: str
    new: str
    method: str
    compared: Sequence[Compared]
    changes: Changes | None
    material: Mapping[str, Any]
    needs: Mapping[str, Any] | None


def write_retraining(path: Path, page: RetrainingPage) -> None:
    """Write the page.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(path, render_retraining(page))


def render_retraining(page: RetrainingPage) -> str:
    """The page as HTML."""
    material = page.material
    facts = [("Before", page.old), ("After", page.new), ("Learned by", _METHODS[page.method])]
    won, lost = (page.changes.won, page.changes.lost) if page.changes else ((), ())
    return render_page(
        "retraining.html",
        styles=("page.css", "report.css", "retraining.css"),
        scripts=(),
        title=f"Retraining, {Path(page.new).name}",
        facts=facts,
        main_figures=list(_main_figures(page)),
        conclusion=_conclusion(page),
        rows=[measure_row(one, "before", "after") for one in page.compared if one.measure.key in SHOWN],
        flips=[("Right only after", _cards(won)), ("Right only before", _cards(lost))],
        num_flips=[len(won), len(lost)],
        num_other=page.changes.num_other if page.changes else 0,
        learned=list(_learned(page)),
        cost=list(_cost(material)),
        needs=list(_needs(page.needs)),
        seen=_seen(page.needs),
        cautions=list(_cautions(page)),
    )


def _main_figures(page: RetrainingPage) -> Iterator[dict[str, Any]]:
    exact = _exact(page)
    if exact is not None:
        ends = (exact.difference.low, exact.difference.high) if exact.difference else None
        places = places_of(ends, 1)
        asked = count(page.material["audit_questions"], "question")
        yield _figure("Before", fixed(exact.a, places), "%", f"Exact match of the old run, {asked} of the audit set.")
        yield _figure("After", fixed(exact.b, places), "%", "Exact match of the new run, the same questions.")
        between = interval(ends, places, sign=True)
        meaning = "Percentage points. The range is the 95 % interval, over documents."
        yield _figure("Difference", fixed(exact.b - exact.a, places, sign=True), "", meaning, between)
    value, unit = duration(page.material["seconds"]).split()
    yield _figure("People's time", value, unit, f"For {count(page.material['verdicts'], 'verdict')} that were learned.")


def _figure(name: str, value: str, unit: str, meaning: str, aside: str = "") -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "meaning": meaning, "range": aside, "bar": ""}


def _exact(page: RetrainingPage) -> Compared | None:
    return next((one for one in page.compared if one.measure.key == "exact"), None)


def _conclusion(page: RetrainingPage) -> str:
    exact = _exact(page)
    if exact is None:
        return "There is no comparison: no question of the audit set has a right answer yet. Judge some of them."
    if exact.difference is None:
        return "All judged questions of the audit set are about one document, so nothing is known about others."
    if exact.equal:
        return "No answer became right or wrong."
    return {
        "B": "The new run is better: the interval of the difference lies above 0.",
        "A": "The new run is worse: the interval of the difference lies below 0. Keep the old one.",
    }.get(exact.verdict, "Unclear: other documents of this kind could reverse the order, since the interval holds 0.")


def _cards(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    return [
        {
            "question": before.question.text,
            "before": before.prediction.text,
            "after": after.prediction.text,
            "right": [answer.text for answer in before.question.answers],
        }
        for before, after in pairs[:_MOST_SHOWN]
    ]


def _learned(page: RetrainingPage) -> Iterator[tuple[str, str]]:
    material = page.material
    asked, documents = count(material["questions"], "question"), count(material["documents"], "document")
    yield "Right answers", f"{asked} about {documents}"
    yield "Pairs", f"{material['pairs']:,}"
    yield "Labels", f"{material['labels']['good']:,} good, {material['labels']['bad']:,} bad"
    if material["replayed"]:
        yield (
            "Learned again",
            f"{count(material['replayed'], 'document')} of the old run's own data, against forgetting",
        )
    left_out = [f"{number:,} {reason}" for reason, number in material["left_out"].items()]
    yield "Left out", ", ".join(left_out) or "nothing"
    answered, drawn = material["audit_questions"], material["audit_drawn"]
    yield "Audit set", f"{answered:,} of {count(drawn, 'question')} have a right answer, never trained on"


def _cost(material: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    number = material["verdicts"]
    yield "Verdicts learned", f"{number:,} in {duration(material['seconds'])}"
    if number:
        yield "A verdict", duration(material["seconds"] / number)
    audit = material["audit_seconds"]
    yield "Verdicts on the audit set", f"{len(audit):,} in {duration(sum(audit))}"
    yield "People", f"{material['annotators']:,}"
    if material["undone"]:
        yield "Taken back", f"{material['undone']:,}"


def _needs(needs: Mapping[str, Any] | None) -> Iterator[dict[str, str]]:
    for row in needs["rows"] if needs else ():
        seconds = row["seconds"]
        yield {
            "gain": f"{row['gain']:g}",
            "verdicts": f"{row['verdicts']:,}",
            "time": duration(seconds) if seconds is not None else "",
        }


def _seen(needs: Mapping[str, Any] | None) -> str:
    if needs is None:
        return "How far the difference would vary is not known, since no answer changed or there is one document only."
    asked, seen = count(needs["questions"], "question"), readable(needs["seen"], 2)
    return f"With {asked}, a true gain of {seen} points of exact match would be seen with a probability of 80 %."


def _cautions(page: RetrainingPage) -> Iterator[str]:
    material = page.material
    yield (
        "People judged the old run's suggestions, and tend to accept what they see. That favours the old run on the "
        "audit set."
    )
    shown, blind = material["accept_rate"], material["accept_rate_blind"]
    if shown is not None and blind is not None:
        yield f"People found {100 * shown:.0f} % right of what they saw, and {100 * blind:.0f} % of what was hidden."
    if material["audit_seen_before"] is None:
        yield "It is not known whether the old run was trained on documents of the audit set, since its data are gone."
    elif material["audit_seen_before"]:
        seen = count(material["audit_seen_before"], "document")
        yield f"The old run was trained on {seen} of the audit set, so both runs look better than they are."
    yield "Both runs answered without calibration. Calibrate the new run before it is used."
    yield "The audit set was used for this comparison. The more retrainings it decides, the less an interval says."
