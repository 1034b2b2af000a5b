"""How much a verdict on a question promises to teach: numbers by which a queue ranks questions, highest first.

All but `k_centres` rest on the posterior of the span decoder. Letters: N questions, D dimensions, K centres.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from palmette.decode.prediction import Prediction
from palmette.errors import DataError

Floats = npt.NDArray[np.float64]
Hidden = npt.NDArray[np.float16]  # the hidden state of a question, [D]
_CHUNK = 256  # centres that are compared with all questions at a time


def outcomes(prediction: Prediction) -> dict[str, float]:
    """The probabilities of the likeliest answers, by text. "" is no answer.

    What all other spans have together is missing from the sum.

    Raises:
        DataError: the decoder gave no probabilities.
    """
    if prediction.no_answer_probability is None:
        raise DataError(
            "a model without probabilities cannot say where it is uncertain",
            "Use the span decoder, or the strategy random.",
        )
    found = {"": prediction.no_answer_probability}
    for one in prediction.candidates:
        found[one.text] = found.get(one.text, 0.0) + one.probability
    return found


def entropy(prediction: Prediction) -> float:
    """The entropy of the posterior, in nats. The spans that are not among the candidates count as one outcome.

    >>> round(entropy(Prediction("", no_answer_probability=0.5)), 6) == round(math.log(2), 6)
    True
    """
    return _entropy(outcomes(prediction).values())


def closeness(prediction: Prediction) -> float:
    """1 less the margin by which the likeliest outcome exceeds the second, 0 to 1.

    >>> closeness(Prediction("", no_answer_probability=0.75))
    0.25
    """
    first, second, *_ = *sorted(outcomes(prediction).values(), reverse=True), 0.0
    return 1.0 - (first - second)


def disagreement(predictions: Sequence[Prediction]) -> float:
    """How much several runs disagree: the entropy of their mean posterior less their mean entropy, in nats.

    It is the Jensen-Shannon divergence, the mutual information of the answer and the run. Uncertainty that all runs
    share does not count. The spans that are among no run's candidates count as one outcome. So it is exact where the
    candidates are all the spans that were scored, but for what was not scored.

    Raises:
        DataError: there is only one run.
    """
    if len(predictions) < 2:
        raise DataError("only one run cannot disagree", "Name several runs, or use the strategy uncertain.")
    found = [outcomes(one) for one in predictions]
    texts = {text for one in found for text in one}
    mean = [sum(one.get(text, 0.0) for one in found) / len(found) for text in texts]
    own = sum(_entropy(one.values()) for one in found) / len(found)
    return max(0.0, _entropy(mean) - own)


def k_centres(states_ND: Floats, num_centres: int, near_KD: Floats | None = None) -> tuple[list[int], list[float]]:
    """Questions that cover all others (Gonzalez, 1985; for learning, Sener and Savarese, 2018).

    Each is the one that is farthest from all before it. The largest distance that is left is at most twice the least
    that any choice of so many could leave.

    Args:
        states_ND: a hidden state of each question.
        num_centres: how many are wanted.
        near_KD: states of questions that are judged already, one at least. Without them the first is the one farthest
            from the mean, which then counts no more.

    Returns:
        The indices of the questions, and the distance of each from the nearest one before it.

    >>> k_centres(np.array([[0.0], [1.0], [9.0], [10.0]]), 2, np.array([[0.0]]))
    ([3, 1], [10.0, 1.0])
    """
    states_ND = np.asarray(states_ND, dtype=np.float64)
    start_KD = states_ND.mean(0, keepdims=True) if near_KD is None else np.asarray(near_KD, dtype=np.float64)
    square_N = np.einsum("nd,nd->n", states_ND, states_ND)
    distance_N = np.full(len(states_ND), np.inf)
    for start in range(0, len(start_KD), _CHUNK):
        distance_N = np.minimum(distance_N, _distances(states_ND, square_N, start_KD[start : start + _CHUNK]))
    chosen: list[int] = []
    distances: list[float] = []
    for _ in range(min(num_centres, len(states_ND))):
        best = int(np.argmax(distance_N))
        chosen.append(best)
        distances.append(float(distance_N[best]))
        nearest_N = np.full(len(states_ND), np.inf) if near_KD is None and len(chosen) == 1 else distance_N
        distance_N = np.minimum(nearest_N, _distances(states_ND, square_N, states_ND[best][None]))
        distance_N[chosen] = -np.inf
    return chosen, distances


def _distances(states_ND: Floats, square_N: Floats, centres_KD: Floats) -> Floats:
    """The distance of each question from the nearest of some centres, by |x|^2 - 2 x c + |c|^2."""
    square_K = np.einsum("kd,kd->k", centres_KD, centres_KD)
    square_NK = square_N[:, None] - 2.0 * states_ND @ centres_KD.T + square_K
    distance_N: Floats = np.sqrt(np.maximum(square_NK.min(1), 0.0))
    return distance_N


def _entropy(probabilities: Iterable[float]) -> float:
    """The entropy of some probabilities, in nats, with what they lack of 1 as one more outcome."""
    values = list(probabilities)
    values.append(max(0.0, 1.0 - sum(values)))
    return -sum(value * math.log(value) for value in values if value > 0.0)
