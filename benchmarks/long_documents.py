"""How well a model answers and refuses questions about long documents, under different rules for their windows.

Paragraphs of each article of SQuAD files are joined: the first 1, 5, 10, ... of them, or whole articles. Each document
is asked questions that it answers, and as many of other articles, which it does not answer. Every window is scored
once, and the same scores are decided by several rules:

- Odds of a document: the sum of the odds of its windows, their mean, or the mean with the temperature and the power of
  the number of windows that the model's calibration has. The last is decided twice: by what is most probable, and with
  all thresholds of the calibration.
- Spans of a neighbour that a window shows: they count as "no answer here" (`counted`), or only "?" does (`ignored`).
  With `ignored` the windows are searched as with `counted`. The odds of all strings change by one factor, which is
  known exactly.

    python benchmarks/long_documents.py --model runs/builtin --data train-v2.0.json
    python benchmarks/long_documents.py --model reader --data dev-v2.0.json --paragraphs 20 --whole
"""

from __future__ import annotations

import argparse
import hashlib
import math
import pickle
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import palmette
from palmette import Document, Question
from palmette.data.joined import join
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores, log_sum_exp
from palmette.decode.search import Search
from palmette.decode.span_decoder import SpanDecoder
from palmette.decode.spans import Window
from palmette.inference.answerer import Answerer
from palmette.run import environment
from palmette.tasks.answer_match import exact_match, gold_answers

# The search goes on where a span that was not scored may be this likely, so that the rules differ and not the search.
LEAST = 0.005
PASSES = 8


@dataclass(frozen=True)
class Scored:
    """A question about a document, and what each window says.

    Attributes:
        question: the question.
        shared: whether its first answer stands where two windows show it.
        windows: the scores of each window, with the spans of its neighbours counted as no answer.
        gains: by how much the log odds of each window are higher if these spans are ignored.
    """

    question: Question
    shared: bool
    windows: Sequence[WindowScores]
    gains: Sequence[float]

    def posterior(self, *, counted: bool, added: bool) -> SpanPosterior:
        """The posterior of the document under a rule.

        Args:
            counted: whether the spans of neighbours count as no answer.
            added: whether the odds of the windows are added up, in place of their mean.
        """
        windows = self.windows
        if not counted:
            pairs = zip(windows, self.gains, strict=True)
            windows = [replace(window.shifted(gain), slack=0.0) for window, gain in pairs]
        merged = SpanPosterior.merge(windows)
        return added_up(merged) if added else merged


@dataclass(frozen=True)
class Outcome:
    """What one question came to under one rule.

    Attributes:
        answerable: whether the document answers it.
        shared: whether its answer stands where two windows show it.
        refused: whether it was refused.
        right: whether the answer, or the refusal, is right.
        no_answer: probability of no answer.
        certified: whether the decision is proved.
    """

    answerable: bool
    shared: bool
    refused: bool
    right: bool
    no_answer: float
    certified: bool


def long_documents(
    documents: Sequence[Document], length: int, questions: int, seed: int, *, whole: bool = False
) -> Iterator[Document]:
    """Articles of so many paragraphs, each with questions of its own and as many of other articles.

    Args:
        documents: paragraphs, with the article's name as their title.
        length: paragraphs to join. Shorter articles are left out.
        questions: questions of each kind.
        seed: chooses them.
        whole: join all paragraphs of an article of at least that length.
    """
    articles: dict[str, list[Document]] = {}
    for document in documents:
        articles.setdefault(document.title, []).append(document)
    draw = random.Random(seed)
    for title, paragraphs in articles.items():
        if len(paragraphs) < length:
            continue
        long = join(paragraphs if whole else paragraphs[:length], title)
        own = [question for question in long.questions if question.answerable]
        others = [
            question
            for other, found in articles.items()
            if other != title
            for paragraph in found
            for question in paragraph.questions
        ]
        asked = draw.sample(own, min(questions, len(own)))
        foreign = [Question(f"{title}/{q.id}", q.text) for q in draw.sample(others, min(len(asked), len(others)))]
        yield replace(long, questions=(*asked, *foreign))


def added_up(posterior: SpanPosterior) -> SpanPosterior:
    """The posterior with the sum of the windows' odds in the place of their mean."""
    shift = math.log(posterior.num_windows)
    return replace(
        posterior,
        spans=tuple((text, start, value + shift) for text, start, value in posterior.spans),
        unscored=posterior.unscored + shift,
        bound=posterior.bound + shift,
        excess=posterior.excess + shift,
    )


def gain(search: Search) -> float:
    """By how much the log odds of a window's strings are higher if only "?" stands for no answer."""
    return search.abstain - log_sum_exp((search.refused, search.ended[0]))


def in_overlap(question: Question, windows: Sequence[Window]) -> bool:
    """Whether the first answer of a question stands where two windows show it whole."""
    if not question.answers:
        return False
    answer = question.answers[0]
    start, end = answer.start, answer.start + len(answer.text)
    return sum(window.start <= start and end <= window.end for window in windows) > 1


def scored(decoder: SpanDecoder, document: Document) -> list[Scored]:
    """All questions of a document, with the scores of all its windows."""
    windows, opened = decoder.windows(document.text), decoder.opened(document.questions)
    readings = ((decoder.reading(document, windows, index), opened) for index in range(len(windows)))
    found: dict[str, dict[int, tuple[WindowScores, float]]] = {one.id: {} for one in document.questions}
    cache = decoder.new_cache()
    for jobs in decoder.batches(readings, dict.fromkeys(found, LEAST)):
        decoder.asking.run(cache, jobs)
        for job in jobs:
            search = job.answer.search
            found[job.question][job.reading.index] = search.scores(), gain(search)
    return [
        Scored(
            question,
            in_overlap(question, windows),
            [found[question.id][index][0] for index in range(len(windows))],
            [found[question.id][index][1] for index in range(len(windows))],
        )
        for question in document.questions
    ]


def all_scored(
    answerer: Answerer, name: str, documents: Iterable[Document], keep: Path | None
) -> Iterator[list[Scored]]:
    """The scores of each document, read from a folder where an earlier run has left them."""
    decoder = answerer.span_decoder(replace(answerer.effort(), max_passes=PASSES))
    for document in documents:
        started = time.perf_counter()
        key = hashlib.sha256(repr((document, name, answerer.weights)).encode()).hexdigest()
        kept = keep / f"{key}.pickle" if keep else None
        if kept is not None and kept.is_file():
            yield pickle.loads(kept.read_bytes())  # what this program wrote
            continue
        found = scored(decoder, document)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(pickle.dumps(found))
        seconds = time.perf_counter() - started
        print(f"{document.title}: {len(found[0].windows)} windows, {seconds:.0f} s", file=sys.stderr, flush=True)
        yield found


def outcome(one: Scored, posterior: SpanPosterior, decision: Decision) -> Outcome:
    """What a question came to."""
    found = decision.decide(posterior)
    right = exact_match(found.text, gold_answers(one.question)) == 1.0
    no_answer = float(found.no_answer_probability or 0.0)
    return Outcome(one.question.answerable, one.shared, not found.text, right, no_answer, found.certified)


def calibration_error(outcomes: Sequence[Outcome]) -> float:
    """Mean difference between P(no answer) and the share of questions without an answer.

    Both are means of a group. There are ten equal groups by P(no answer).
    """
    ordered = sorted(outcomes, key=lambda one: one.no_answer)
    groups = [group for group in np.array_split(np.arange(len(ordered)), 10) if len(group)]
    error = 0.0
    for group in groups:
        some = [ordered[index] for index in group]
        said = sum(one.no_answer for one in some) / len(some)
        true = sum(not one.answerable for one in some) / len(some)
        error += abs(said - true) * len(some) / len(ordered)
    return error


def row(name: str, outcomes: Sequence[Outcome]) -> str:
    """A line of the table."""
    held = [one for one in outcomes if one.answerable]
    absent = [one for one in outcomes if not one.answerable]
    shared = [one for one in held if one.shared]

    def share(some: Sequence[Outcome], *, refused: bool = False, wrong: bool = False) -> str:
        if not some:
            return "-"
        hits = (one.refused if refused else not one.refused and not one.right if wrong else one.right for one in some)
        return f"{100 * sum(hits) / len(some):.0f}"

    def said(some: Sequence[Outcome]) -> str:
        return f"{sum(one.no_answer for one in some) / len(some):.2f}" if some else "-"

    cells = (
        *(share(held), share(held, wrong=True), share(held, refused=True)),
        *(share(absent, wrong=True), share(absent, refused=True)),
        *(share(shared), share(shared, wrong=True), share(shared, refused=True)),
        *(said(held), said(absent), f"{calibration_error(outcomes):.2f}"),
        f"{100 * sum(one.certified for one in outcomes) / len(outcomes):.0f}",
    )
    return f"| {name} | {' | '.join(cells)} |"


HEAD = (
    "| odds, spans of neighbours | right | wrong answer | refused | wrong answer, absent | refused, absent "
    "| right, in overlap | wrong | refused | P(no answer) | absent | calibration error | certified |\n"
    f"|---|{'---|' * 12}"
)


def rules(decision: Decision) -> Iterator[tuple[str, bool, Decision]]:
    """The name of each rule for the odds, whether it adds them up, and how it decides."""
    yield "sum", True, Decision()
    yield "mean", False, Decision()
    if decision != Decision():
        fitted = Decision(temperature=decision.temperature, window_power=decision.window_power)
        yield f"mean times k^{decision.window_power:.2f}, temperature {decision.temperature:.2f}", False, fitted
        yield "the same, thresholds of the calibration", False, decision


def table(found: Sequence[Scored], decision: Decision) -> Iterator[str]:
    """The lines of the table."""
    yield HEAD
    for name, added, rule in rules(decision):
        for kind in ("ignored", "counted"):
            posteriors = (one.posterior(counted=kind == "counted", added=added) for one in found)
            yield row(f"{name}, {kind}", [outcome(one, p, rule) for one, p in zip(found, posteriors, strict=True)])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="A run, folder, GGUF file or hub id.")
    parser.add_argument("--data", required=True, nargs="+", help="SQuAD v2 files with articles of many paragraphs.")
    parser.add_argument("--paragraphs", type=int, nargs="+", default=[1, 5, 10, 20, 40])
    parser.add_argument("--whole", action="store_true", help="Whole articles of at least that many paragraphs.")
    parser.add_argument("--questions", type=int, default=10, help="Questions of each kind per document.")
    parser.add_argument("--documents", type=int, help="At most so many documents of each length.")
    parser.add_argument("--keep", type=Path, help="Folder for the scores, which another run reads again.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    answerer = palmette.load(options.model)
    paragraphs = [document for name in options.data for document in palmette.read_data(name).documents]
    names = ", ".join(Path(name).name for name in options.data)
    print(f"{options.model} on {names}, {environment()['machine']['processor']}")
    for length in options.paragraphs:
        asked = list(long_documents(paragraphs, length, options.questions, options.seed, whole=options.whole))
        read = list(all_scored(answerer, options.model, asked[: options.documents], options.keep))
        found = [one for document in read for one in document]
        if not found:
            print(f"\nno article has {length} paragraphs")
            continue
        windows = sum(len(document[0].windows) for document in read) / len(read)
        held, shared = sum(one.question.answerable for one in found), sum(one.shared for one in found)
        at_least = "at least " if options.whole else ""
        print(
            f"\n{len(read)} documents of {at_least}{length} paragraphs ({windows:.1f} windows): {held} questions that "
            f"they answer, {shared} of them in an overlap, and {len(found) - held} absent ones\n"
        )
        print("\n".join(table(found, answerer.decision)), flush=True)


if __name__ == "__main__":
    main()
