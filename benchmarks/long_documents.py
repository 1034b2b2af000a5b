"""How well a model answers and refuses questions about long documents, by the number of windows they are read in.

Paragraphs of each article of a SQuAD file are joined into documents of 1, 5, 10, ... paragraphs. Each document is asked
questions that its own paragraphs answer, and as many questions of other articles, which it does not answer. The same
posteriors are decided twice: as `decode/posterior.py` does, with the mean of the windows' odds, and with their sum,
which a document of many windows can hardly be refused under.

    python benchmarks/long_documents.py --model runs/quickstart --data train-v2.0.json
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import palmette
from palmette import Document, Question
from palmette.decode.posterior import Decision, SpanPosterior
from palmette.run import environment
from palmette.tasks.answer_match import exact_match, gold_answers


@dataclass(frozen=True)
class Outcome:
    """What one question came to under one rule.

    Attributes:
        answerable: whether the document answers it.
        refused: whether it was refused.
        right: whether the answer, or the refusal, is right.
        no_answer: probability of no answer.
        num_windows: windows of the document.
        certified: whether the decision is proved.
    """

    answerable: bool
    refused: bool
    right: bool
    no_answer: float
    num_windows: int
    certified: bool


def long_documents(documents: Sequence[Document], length: int, questions: int, seed: int) -> Iterator[Document]:
    """Articles of so many paragraphs, each with questions of its own and as many of other articles.

    Args:
        documents: paragraphs, with the article's name as their title.
        length: paragraphs to join. Shorter articles are left out.
        questions: questions of each kind.
        seed: chooses them.
    """
    articles: dict[str, list[Document]] = {}
    for document in documents:
        articles.setdefault(document.title, []).append(document)
    draw = random.Random(seed)
    for title, paragraphs in articles.items():
        chosen = paragraphs[:length]
        if len(chosen) < length:
            continue
        own = [question for paragraph in chosen for question in paragraph.questions if question.answerable]
        others = [
            question
            for other, found in articles.items()
            if other != title
            for paragraph in found
            for question in paragraph.questions
        ]
        asked = draw.sample(own, min(questions, len(own)))
        foreign = [Question(f"{title}/{q.id}", q.text) for q in draw.sample(others, len(asked))]
        text = "\n\n".join(paragraph.text for paragraph in chosen)
        # Offsets moved with the joining, and only the texts of gold answers are compared here.
        yield Document(title, text, (*asked, *foreign), title)


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


def outcome(question: Question, posterior: SpanPosterior, decision: Decision) -> Outcome:
    """What a question came to."""
    found = decision.decide(posterior)
    right = exact_match(found.text, gold_answers(question)) == 1.0
    no_answer = float(found.no_answer_probability or 0.0)
    return Outcome(question.answerable, not found.text, right, no_answer, posterior.num_windows, found.certified)


def row(name: str, length: int, outcomes: Sequence[Outcome]) -> str:
    """A line of the table."""
    held = [one for one in outcomes if one.answerable]
    absent = [one for one in outcomes if not one.answerable]
    error = abs(sum(one.no_answer for one in outcomes) - len(absent)) / len(outcomes)
    shares = (
        sum(one.right for one in held) / len(held),
        sum(one.refused for one in held) / len(held),
        sum(one.refused for one in absent) / len(absent),
        sum(one.certified for one in outcomes) / len(outcomes),
    )
    windows = sum(one.num_windows for one in outcomes) / len(outcomes)
    figures = " | ".join(f"{100 * share:.0f}" for share in shares)
    return f"| {length} | {windows:.1f} | {name} | {len(outcomes)} | {figures} | {error:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="A run, folder, GGUF file or hub id.")
    parser.add_argument("--data", required=True, help="A SQuAD v2 file with articles of many paragraphs.")
    parser.add_argument("--paragraphs", type=int, nargs="+", default=[1, 5, 10, 20, 40])
    parser.add_argument("--questions", type=int, default=10, help="Questions of each kind per document.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    answerer = palmette.load(options.model)
    decoder = answerer.span_decoder(decision=replace(answerer.decision, always_answer=True))
    documents = palmette.read_data(options.data).documents
    print(f"{options.model} on {Path(options.data).name}, {environment()['machine']['processor']}\n")
    print(
        "| paragraphs | windows | odds | questions | EM, answerable | refused, answerable | refused, unanswerable |",
        end="",
    )
    print(" certified | error of P(no answer) |\n|---|---|---|---|---|---|---|---|---|")
    for length in options.paragraphs:
        asked = list(long_documents(documents, length, options.questions, options.seed))
        known = {question.id: question for document in asked for question in document.questions}
        posteriors = dict(decoder.posteriors(asked))
        for name, change in (("mean", lambda posterior: posterior), ("sum", added_up)):
            found = [outcome(known[key], change(one), answerer.decision) for key, one in posteriors.items()]
            print(row(name, length, found), flush=True)


if __name__ == "__main__":
    main()
