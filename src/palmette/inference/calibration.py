"""The calibration of a model, stored beside its weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from palmette.data.records import Document
from palmette.decode.posterior import Decision
from palmette.errors import DataError, RunError, reason_of
from palmette.numbers import in_percent
from palmette.run import write_json

CALIBRATION = "calibration.json"
COST_WRONG = 2.0  # of a wrong answer, where refusing a question that has an answer costs 1
_AGAIN = "Calibrate again with palmette calibrate, or decide with --no-calibration."


@dataclass(frozen=True, slots=True)
class Calibration:
    """Fitted numbers, and what they were fitted on.

    Attributes:
        decision: the temperature and thresholds.
        guarantee: the guarantee that `decision.min_confidence` keeps, if there is one.
        source, sha256: the data.
        documents: hashes of the documents' texts.
        num_questions: questions they were fitted and tested on.
        fitted_for: what the answers depend on besides the documents (weights, prompt, dtype, longest span).
        created: time of the calibration, in UTC.
        max_windows: the most windows of a document among them. None in a file of a version that did not count them.
        costs: what decisions cost before and after. None in a file of a version that did not count them.
        at_costs: the rule for other costs of a wrong answer, the lowest first. Empty with a guarantee, and in a file of
            a version that fitted one cost.
    """

    decision: Decision
    guarantee: Guarantee | None
    source: str
    sha256: str
    documents: tuple[str, ...]
    num_questions: int
    fitted_for: dict[str, Any]
    created: str
    max_windows: int | None = None
    costs: Costs | None = None
    at_costs: tuple[AtCost, ...] = ()

    def write(self, folder: Path) -> None:
        """Write `calibration.json` beside the weights."""
        write_json(folder / CALIBRATION, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Calibration:
        """Read the calibration beside some weights.

        Raises:
            RunError: it cannot be read.
        """
        path = folder / CALIBRATION
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            guarantee = Guarantee(**value.pop("guarantee")) if value["guarantee"] else value.pop("guarantee")
            costs = Costs(**found) if (found := value.pop("costs", None)) else None
            at_costs = tuple(AtCost(one["min_worth"], Costs(**one["costs"])) for one in value.pop("at_costs", ()))
            documents, decision = tuple(value.pop("documents")), Decision(**value.pop("decision"))
            made = cls(decision, guarantee, documents=documents, costs=costs, at_costs=at_costs, **value)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"cannot read {path}: {reason_of(error)}", _AGAIN) from error
        # Versions that knew no costs compared a span with "?" before the temperature. Then their guarantee was tested
        # on other answers, unless the minimum of confidence or the temperature lets both rules give the same ones.
        if guarantee and costs is None and not (decision.min_confidence >= 0.5 and decision.temperature >= 1.0):
            raise RunError(f"{path}: an earlier version tested its guarantee by another rule of answering", _AGAIN)
        return made

    def at_cost(self, cost_wrong: float) -> Calibration:
        """The same calibration with the rule for another cost of a wrong answer.

        Args:
            cost_wrong: what a wrong answer costs, if refusing a question that has an answer costs 1.

        Raises:
            RunError: no rule was fitted for that cost.
        """
        for one in self.at_costs:
            if one.costs.wrong == cost_wrong:
                decision = replace(self.decision, cost_wrong=cost_wrong, min_worth=one.min_worth)
                return replace(self, decision=decision, costs=one.costs)
        if self.guarantee:
            raise RunError(
                "this calibration keeps a promise about wrong answers, which does not depend on what they cost",
                "Leave the cost out, or calibrate without --target-error.",
            )
        if not self.at_costs:
            raise RunError(f"this calibration has no rule for a cost of {cost_wrong:g}", _AGAIN)
        fitted = ", ".join(f"{one.costs.wrong:g}" for one in self.at_costs)
        raise RunError(
            f"this calibration has no rule for a cost of {cost_wrong:g}",
            f"Give one of {fitted}, or calibrate with --cost-wrong {cost_wrong:g}.",
        )

    def check_fits(self, present: Mapping[str, Any]) -> None:
        """Refuse to decide by numbers that were fitted for something else.

        Raises:
            RunError: naming what differs.
        """
        for name in sorted(self.fitted_for.keys() | present.keys()):
            # A calibration of a version that did not record the base, whose weights the run's manifest may still name.
            if name == "base" and name not in self.fitted_for:
                continue
            fitted, now = self.fitted_for.get(name), present.get(name)
            if fitted != now:
                raise RunError(f"the calibration was fitted for {name} = {fitted!r}, and this is {now!r}", _AGAIN)

    def explain(self) -> Iterator[str]:
        """Lines that say by which rule questions are answered, and what decisions cost."""
        decision, costs = self.decision, self.costs
        yield f"temperature {decision.temperature:.3f}"
        if decision.window_power:
            yield (
                "the odds of an answer in a document of k parts are the mean of those of its parts, times k to the "
                f"power of {decision.window_power:.2f}"
            )
        rules = ["it is more likely than its absence"]
        if self.guarantee:
            rules.append(f"its probability is at least {decision.min_confidence:.3f}")
        elif decision.max_no_answer is not None:
            rules.append(f"the probability of no answer is at most {decision.max_no_answer:.3f}")
        elif costs:
            worth = f"P(the answer) + P(any answer) / {costs.wrong:g}"
            rules.append(f"{worth} is at least {decision.min_worth:.3f}, which is 1 for exact probabilities")
        yield f"gives an answer if {', and '.join(rules)}"
        if costs:
            yield f"a wrong answer costs {costs.wrong:g}, and refusing a question that has an answer costs 1"
            yield (
                f"mean cost of these {self.num_questions} questions: {costs.before:.3f} without the calibration, "
                f"{costs.after:.3f} with it, {costs.refusing:.3f} if all are refused"
            )

    def warn_of_windows(self, num_windows: Iterable[int], *, rows: bool = False) -> str | None:
        """A line about documents that were read in more windows than any that the calibration was fitted on.

        They are answered all the same, since the posterior takes their windows into account. A guarantee says nothing
        about them.

        Args:
            num_windows: the number of windows of each document.
            rows: whether it is given for each row of a file of questions, so that a document may count several times.

        Returns:
            The line, or None if there is no such document, or if it is not known what the calibration was fitted on.
        """
        covered = "The guarantee does not cover that." if self.guarantee else "Its thresholds may not suit that."
        return warn_of_windows(num_windows, self.max_windows, "the calibration was fitted on", covered, rows=rows)

    def check_unseen(self, documents: Sequence[Document], source: str) -> None:
        """Refuse to report figures on documents that the calibration was fitted on.

        Raises:
            DataError: naming one of them.
        """
        fitted = set(self.documents)
        seen = [document.id for document in documents if text_hash(document) in fitted]
        if seen:
            raise DataError(
                f"{source}: {len(seen)} of {len(documents)} documents, {seen[0]!r} among them, "
                "were used to calibrate this model",
                "Evaluate on other documents, or with --no-calibration.",
            )


def warn_of_windows(
    num_windows: Iterable[int], most: int | None, fitted: str, covered: str, *, rows: bool = False
) -> str | None:
    """A line about documents that were read in more windows than any of those that something rests on.

    Args:
        num_windows: the number of windows of each document, or of the document of each row.
        most: the most windows of a document that it rests on. Nothing is said if None.
        fitted: what rests on how long documents, such as "the calibration was fitted on".
        covered: a sentence about what that means.
        rows: whether `num_windows` is given for each row.

    Returns:
        The line, or None if there is no such document.
    """
    if most is None or not (longer := [count for count in num_windows if count > most]):
        return None
    several = f"The documents of {len(longer)} rows" if rows else f"{len(longer)} documents"
    one = "The document of one row" if rows else "This document"
    has = f"{several} have up to" if len(longer) > 1 else f"{one} has"
    return (
        f"{has} {max(longer)} parts, and {fitted} documents of at most {most}. {covered} "
        "Calibrate on documents of that length."
    )


def check_cost(cost_wrong: float) -> None:
    """Refuse a cost of wrong answers that no rule can be fitted to.

    Raises:
        DataError: it is below 1, or not a number.
    """
    if not 1.0 <= cost_wrong < math.inf:
        raise DataError(
            f"the cost of a wrong answer is {cost_wrong:g}, and that of a refusal is 1",
            "Give a number from 1 on. An answer that is less likely than its absence is never shown.",
        )


def calibration_of(trained: Path | None) -> Calibration | None:
    """The calibration beside the weights of a run. None if there is none.

    Raises:
        RunError: it cannot be read.
    """
    return Calibration.read(trained) if trained is not None and (trained / CALIBRATION).is_file() else None


def text_hash(document: Document) -> str:
    """Hash of a document's text."""
    return hashlib.sha256(document.text.encode("utf-8")).hexdigest()


@dataclass(frozen=True, slots=True)
class Costs:
    """What decisions cost on average, per question, on the questions that a calibration was fitted on.

    Attributes:
        wrong: the cost of a wrong answer. Refusing a question that has an answer costs 1, and right decisions cost 0.
        before: the mean cost if the most probable outcome is the answer, without a calibration.
        after: the mean cost under the calibration. Since it was fitted on these questions, others may cost more.
        refusing: the mean cost of refusing every question.
    """

    wrong: float
    before: float
    after: float
    refusing: float


@dataclass(frozen=True, slots=True)
class AtCost:
    """The rule that suits a cost of a wrong answer.

    Attributes:
        min_worth: as in `Decision`.
        costs: the cost, and what decisions then cost on average.
    """

    min_worth: float
    costs: Costs


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A threshold that was tested.

    Attributes:
        target_error: the largest share of wrong answers that is guaranteed.
        confidence: confidence level of the guarantee.
        min_confidence: answers less probable than this are not given.
        num_answered, num_wrong: answers of the testing half at this threshold, and how many of them were wrong.
        num_tested: questions of the testing half that could be answered.
        num_documents: documents that these answers are from. None in a file of a version that did not count them.
        design_effect: how much more the share of wrong answers varies than with independent answers. None as above.
    """

    target_error: float
    confidence: float
    min_confidence: float
    num_answered: int
    num_wrong: int
    num_tested: int
    num_documents: int | None = None
    design_effect: float | None = None

    def explain(self) -> Iterator[str]:
        """Lines that say what is guaranteed, and what that rests on."""
        yield (
            f"guarantee: at most {in_percent(self.target_error)} of the answers given are wrong, "
            f"with {in_percent(self.confidence)} confidence (tested: {self.num_wrong} of {self.num_answered} "
            f"answers wrong, in {self.num_documents} documents. {self.num_tested} answers could be given)"
        )
        yield (
            f"design effect {self.design_effect:.2f}: the guarantee takes into account that the answers of one "
            "document are alike. It rests on documents that are drawn independently, from the same source as later ones"
        )
