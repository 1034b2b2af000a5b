"""Calibration: a temperature and a threshold fitted on questions with known answers, stored beside the adapter.

The temperature calibrates the probability of an answer. It is fitted as in Guo et al. (2017), on the log odds of any
answer against none. Where documents have different numbers of windows, so is the power of that number by which these
odds grow (`Decision.window_power`). Then `min_worth` is fitted to a stated cost: a wrong answer costs `cost_wrong`,
refusing a question that has an answer costs 1, and right decisions cost nothing. `Decision` derives the rule. With
exact probabilities `min_worth` would be 1, and the fit takes the number under which the decisions on the given
questions cost least. `min_confidence` keeps a promise about the answers given instead (see `guarantee`). A calibration
records what it was fitted for, and on which documents, so that nobody reports figures on them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from scipy import optimize

from palmette.data.records import DataSet, Document, Question
from palmette.decode.effort import Effort
from palmette.decode.posterior import Decision, Evidence, SpanPosterior
from palmette.errors import DataError
from palmette.evaluate.guarantee import JudgedAnswer, check_promise, choose_threshold
from palmette.inference.answerer import Answerer
from palmette.inference.calibration import COST_WRONG, AtCost, Calibration, Costs, check_cost, text_hash
from palmette.progress import progress
from palmette.tasks.answer_match import exact_match, gold_answers, normalize_answer

_LOWEST, _HIGHEST = 0.02, 50.0  # of a temperature
COSTS = (1.0, 1.5, 2.0, 3.0, 5.0, 10.0)  # of a wrong answer, for each of which a rule is kept
_POWERS = (-1.0, 3.0)  # of the number of windows. 0 is the mean of their odds, and 1 is the sum


@dataclass(frozen=True, slots=True)
class Case:
    """A question whose answer is known, and the posterior of its answers."""

    document: Document
    question: Question
    posterior: SpanPosterior

    def right(self, text: str) -> bool:
        """Whether a text matches the answer exactly, after normalisation. "" is right where there is no answer."""
        return exact_match(text, gold_answers(self.question)) == 1.0

    def cost(self, text: str, cost_wrong: float) -> float:
        """The cost of a decision: 0 if it is right, 1 for refusing a question that has an answer, else `cost_wrong`."""
        if self.right(text):
            return 0.0
        return cost_wrong if text else 1.0


class PassageCase(Case):
    """A question that a passage answers by saying so, such as a field of type yes/no.

    People mark a sentence where a model names three words of it. So a passage is right if one of the two holds the
    other, word for word.
    """

    def right(self, text: str) -> bool:
        """Whether a passage says what a known one says. "" is right where there is none."""
        if not text or not self.question.answerable:
            return not text and not self.question.answerable
        found = f" {normalize_answer(text)} "
        known = [f" {normalize_answer(one)} " for one in gold_answers(self.question)]
        return bool(found.strip()) and any(found in one or one in found for one in known)


def check_data(
    documents: Sequence[Document], source: str, *, target_error: float | None = None, confidence: float = 0.95
) -> None:
    """Refuse, before anything is decoded, data on which nothing can be fitted or promised.

    Raises:
        DataError: a number is out of range, there is no question with an answer or none without, or there is one
            document where two halves are needed.
    """
    if target_error is not None:
        check_promise(target_error, confidence)
    parts = halves(documents) if target_error is not None else (documents,)
    for part in parts:
        kinds = {question.answerable for document in part for question in document.questions}
        if kinds != {True, False}:
            missing = "with an answer" if True not in kinds else "without one"
            where = "a half of its documents" if len(parts) > 1 else "it"
            raise DataError(
                f"{source}: {where} has no question {missing}",
                "Calibrate on more documents, with both kinds of questions.",
            )


def fit(
    cases: Sequence[Case],
    data: DataSet,
    fitted_for: dict[str, Any],
    *,
    cost_wrong: float = COST_WRONG,
    target_error: float | None = None,
    confidence: float = 0.95,
) -> Calibration:
    """Fit a temperature, and a threshold of the worth of an answer to a cost.

    With a target, the threshold is one of the answer's own probability. Then all is fitted on half of the documents,
    the promise is tested on the other half, and an answer is given where its span is more probable than no answer and
    probable enough.

    Args:
        cases: the questions, each with the best span proved (`Decision.forces_span` while decoding).
        data: where they are from.
        fitted_for: see `Calibration`.
        cost_wrong: what a wrong answer costs, if refusing a question that has an answer costs 1. The costs are recorded
            in any case. With a target, the threshold does not depend on them.
        target_error: the largest share of wrong answers to promise. No promise if None.
        confidence: the confidence level of the promise.

    Raises:
        DataError: as for `check_cost` and `check_data`, or the promise cannot be made.
    """
    check_cost(cost_wrong)
    documents = list({text_hash(case.document): case.document for case in cases}.values())
    fits, tests = list(cases), list[Case]()
    if target_error is not None:
        fits, tests = split(cases)
    decision = fit_odds(fits)
    guarantee, at_costs = None, tuple[AtCost, ...]()
    if target_error is None:
        at_costs = tuple(fit_cost(cases, decision, cost) for cost in sorted({*COSTS, cost_wrong}))
        (own,) = (one for one in at_costs if one.costs.wrong == cost_wrong)
        decision = replace(decision, cost_wrong=cost_wrong, min_worth=own.min_worth)
    else:
        chooses, testing = ([judged for case in half if (judged := judge(case, decision))] for half in (fits, tests))
        guarantee = choose_threshold(chooses, testing, target_error, confidence)
        decision = replace(decision, min_confidence=guarantee.min_confidence)
    return Calibration(
        decision,
        guarantee,
        data.source,
        data.sha256,
        documents=tuple(sorted(map(text_hash, documents))),
        num_questions=len(cases),
        fitted_for=fitted_for,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        max_windows=max(case.posterior.num_windows for case in cases),
        costs=costs_of(cases, decision, cost_wrong),
        at_costs=at_costs,
    )


def fit_cost(cases: Sequence[Case], decision: Decision, cost_wrong: float) -> AtCost:
    """The rule for a cost of a wrong answer, with the temperature and the `window_power` of a decision."""
    decision = replace(decision, cost_wrong=cost_wrong)
    decision = replace(decision, min_worth=fit_min_worth(cases, decision))
    return AtCost(decision.min_worth, costs_of(cases, decision, cost_wrong))


def costs_of(cases: Sequence[Case], decision: Decision, cost_wrong: float) -> Costs:
    """What a decision costs on these questions, beside the most probable outcome and refusing all of them."""
    return Costs(
        cost_wrong,
        before=mean_cost(cases, Decision(), cost_wrong),
        after=mean_cost(cases, decision, cost_wrong),
        refusing=sum(case.cost("", cost_wrong) for case in cases) / len(cases),
    )


def mean_cost(cases: Sequence[Case], decision: Decision, cost_wrong: float) -> float:
    """The mean cost of a decision's answers and refusals, per question. See `Case.cost`."""
    return sum(case.cost(decision.decide(case.posterior).text, cost_wrong) for case in cases) / len(cases)


def halves(documents: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """The documents in two halves, in the order of the hashes of their texts. Equal texts stay together."""
    order = {key: rank for rank, key in enumerate(sorted({text_hash(document) for document in documents}))}
    first = [document for document in documents if order[text_hash(document)] % 2 == 0]
    return first, [document for document in documents if order[text_hash(document)] % 2]


def split(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """The questions of both halves of the documents."""
    first = {text_hash(document) for document in halves([case.document for case in cases])[0]}
    fits = [case for case in cases if text_hash(case.document) in first]
    return fits, [case for case in cases if text_hash(case.document) not in first]


def judge(case: Case, decision: Decision) -> JudgedAnswer | None:
    """The answer that a decision gives before any minimum of confidence, or None if it gives none."""
    prediction = decision.decide(case.posterior)
    if not prediction.text:
        return None
    wrong = not case.right(prediction.text)
    return JudgedAnswer(float(prediction.probability or 0.0), wrong, text_hash(case.document))


def negative_log_likelihood(cases: Sequence[tuple[Case, Evidence]], decision: Decision) -> float:
    """Mean of -log P(the question has an answer, or has none, as it does), in nats.

    Spans that were not scored count as answers, as in `Decision`.

    Args:
        cases: the questions, each with the evidence of its posterior, which depends on no decision.
        decision: gives the probability of no answer.
    """
    total = 0.0
    for case, evidence in cases:
        no_answer = decision.no_answer(decision.corrected(evidence, case.posterior).answered)
        # A kind that was proved impossible would make the sum infinite, whatever the temperature.
        total -= math.log(max((1.0 - no_answer) if case.question.answerable else no_answer, 1e-12))
    return total / len(cases)


def fit_odds(cases: Sequence[Case]) -> Decision:
    """The temperature under which the kinds of the questions, answerable or not, are most probable.

    Where documents have different numbers of windows, the power of this number is fitted too. Else it is 0.
    """

    def at(values: Sequence[float]) -> Decision:
        return Decision(math.exp(values[0]), float(values[1]))

    known = [(case, case.posterior.evidence) for case in cases]  # it does not depend on the decision
    bounds = [(math.log(_LOWEST), math.log(_HIGHEST)), (0.0, 0.0)]
    if len({case.posterior.num_windows for case in cases}) > 1:
        bounds[1] = _POWERS
    best = min(
        (
            optimize.minimize(lambda values: negative_log_likelihood(known, at(values)), start, bounds=bounds)
            for start in ([0.0, 0.0], [1.0, 0.0])
        ),
        key=lambda found: float(found.fun),
    )
    return at(best.x.tolist())


def fit_min_worth(cases: Sequence[Case], decision: Decision) -> float:
    """The smallest worth at which answering makes the decisions of these questions cost least.

    Only answers that are more probable than no answer count, since no others are ever given. Of several thresholds that
    cost the same, the one that gives the fewest answers is taken. It lies in the middle between two answers.

    Args:
        cases: the questions.
        decision: its temperature, `window_power` and `cost_wrong`.
    """
    shown = []
    for case in cases:
        evidence = decision.evidence(case.posterior)
        best, answered = evidence.best, evidence.answered
        if decision.likelier(best, answered):
            cost = case.cost(case.posterior.spans[0][0], decision.cost_wrong) - case.cost("", decision.cost_wrong)
            shown.append((decision.worth(best, answered), cost))
    shown.sort(key=lambda answer: -answer[0])
    worths = np.array([worth for worth, _ in shown])
    # The first edge is so high that never to answer can be best, since no worth exceeds 1 + 1 / cost.
    edges = np.concatenate([[3.0], worths, [0.0]])
    totals = np.concatenate([[0.0], np.cumsum([cost for _, cost in shown])])
    totals[1:-1][np.diff(worths) == 0.0] = math.inf  # a threshold lies between two different worths
    least = int(np.argmin(totals))
    return float((edges[least] + edges[least + 1]) / 2)


def calibrate(
    opened: Answerer,
    source: DataSet,
    effort: Effort,
    *,
    cost_wrong: float = COST_WRONG,
    target_error: float | None = None,
    confidence: float = 0.95,
) -> Calibration:
    """Answer a data set, and fit the calibration to it. Arguments and errors are those of `fit`."""
    check_cost(cost_wrong)
    decoder = opened.span_decoder(effort, Decision(always_answer=True))
    posteriors = {}
    with progress(source.num_questions, "calibrating", "questions") as bar:
        for question, posterior in decoder.posteriors(source.documents):
            posteriors[question] = posterior
            bar.update()
    cases = [Case(d, q, posteriors[q.id]) for d in source.documents for q in d.questions]
    return fit(
        cases,
        source,
        opened.fitted_for(effort),
        cost_wrong=cost_wrong,
        target_error=target_error,
        confidence=confidence,
    )
