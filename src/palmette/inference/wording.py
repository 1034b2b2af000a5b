"""Predictions in words: what a person reads about an answer, its probability, and how it was decided.

The words for probabilities are those of the Intergovernmental Panel on Climate Change (Mastrandrea et al., 2010,
Guidance note for lead authors of the IPCC Fifth Assessment Report, table 1).
"""

from __future__ import annotations

from collections.abc import Iterator

from palmette.decode.prediction import Prediction
from palmette.inference.excerpt import one_line

# A probability of at least the first number is called by the word.
LIKELIHOODS = (
    (0.99, "virtually certain"),
    (0.9, "very likely"),
    (0.66, "likely"),
    (0.33, "about as likely as not"),
    (0.1, "unlikely"),
    (0.01, "very unlikely"),
    (0.0, "exceptionally unlikely"),
)
ABSENT, UNSURE = "not in the document", "unsure"
# From the first probability on, an absence is stated without a reservation, and from the second on as probable.
FIRM, PROBABLE = 0.9, 0.66


def likelihood(probability: float) -> str:
    """A probability in words.

    >>> likelihood(0.81), likelihood(0.4)
    ('likely', 'about as likely as not')
    """
    return next(word for least, word in LIKELIHOODS if probability >= least)


def decimals(probability: float) -> str:
    """A probability with two decimals. It is never called 0 or 1 by rounding.

    >>> decimals(0.813), decimals(0.9996), decimals(0.001)
    ('0.81', 'above 0.99', 'below 0.01')
    """
    if probability > 0.995:
        return "above 0.99"
    return "below 0.01" if probability < 0.005 else f"{probability:.2f}"


def headline(prediction: Prediction) -> str:
    """The answer on one line, or what stands in its place."""
    if not prediction.valid_json:
        return f"the model did not answer in the format asked for: {one_line(prediction.completion)}"
    if prediction.text:
        return one_line(prediction.text)
    return {"absent": absence(prediction), "unsure": UNSURE, "": "no answer"}[prediction.refusal]


def absence(prediction: Prediction) -> str:
    """An absence, as firmly as its probability and what was read of the document allow.

    >>> absence(Prediction("", "absent", no_answer_probability=0.7, num_read=8, num_windows=146))
    'probably not in the parts that were read'
    """
    probability = prediction.no_answer_probability
    firm = probability is None or probability >= FIRM
    reservation = "" if firm else "probably " if probability is not None and probability >= PROBABLE else "perhaps "
    what = ABSENT if prediction.num_read >= prediction.num_windows else "not in the parts that were read"
    return reservation + what


def certainty(prediction: Prediction) -> str:
    """How probable the answer or the absence is: "likely, 0.81", or "" where the decoder gives no probability.

    Of an answer with uncertain ends the place comes first: "likely here, 0.78, its ends uncertain (exactly these words:
    0.44)".
    """
    if prediction.probability is None or not prediction.valid_json:
        return ""
    if prediction.text and prediction.ends_uncertain and prediction.place_probability is not None:
        here = f"{likelihood(prediction.place_probability)} here, {decimals(prediction.place_probability)}"
        return f"{here}, its ends uncertain (exactly these words: {decimals(prediction.probability)})"
    return f"{likelihood(prediction.probability)}, {decimals(prediction.probability)}"


def refusal(prediction: Prediction) -> str:
    """A refusal with its number: "not in the document (0.93)"."""
    probability = prediction.no_answer_probability
    if prediction.refusal == "unsure" and prediction.ends_uncertain and prediction.place_probability is not None:
        here = "probably" if prediction.place_probability >= PROBABLE else "perhaps"
        return f"unsure: {here} here, its ends uncertain ({decimals(prediction.place_probability)})"
    if prediction.refusal == "unsure":
        return "unsure: the document may answer this, but no passage is likely enough"
    return headline(prediction) if probability is None else f"{headline(prediction)} ({decimals(probability)})"


def reasons(prediction: Prediction) -> Iterator[str]:
    """Lines about how a decision came about."""
    if prediction.num_passes:
        proof = (
            "proved: scoring every other passage could not change it"
            if prediction.certified
            else f"not proved: passages with a probability of {decimals(prediction.unscored)} together were not scored"
        )
        yield f"the decision is {proof}"
        windows = (
            f"{prediction.num_read} of {prediction.num_windows} parts of the document were"
            if prediction.num_windows > 1
            else ""
        )
        yield f"{windows or 'the document was'} read, in {_counted(prediction.num_passes, 'forward pass', 'es')}"
    if prediction.text and prediction.start is None:
        yield "these words are not in the document"


def _counted(number: int, word: str, ending: str = "s") -> str:
    return f"{number} {word}{ending if number != 1 else ''}"
