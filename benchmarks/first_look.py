"""How much a first look at a long document finds, and what it costs, against reading everything.

Paragraphs of SQuAD files are joined: those of one article, or of all articles of a file until a length is reached.

    python benchmarks/first_look.py recall --model runs/quickstart --data train-v2.0.json
    python benchmarks/first_look.py answers --model runs/quickstart --data dev-v2.0.json --by-article
    python benchmarks/first_look.py speed --model runs/quickstart --data train-v2.0.json --characters 475000

`recall` ranks the windows of each question that has an answer, and prints how often the window with the answer is among
the first k, and how often the prior said so. `answers` asks questions of the document, and as many of other articles
(which it does not answer), and compares first looks with reading everything. `speed` measures a first question, ten
more, and the same in a session that finds what was read on disk.
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import resource
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import palmette
from palmette import Document, Question
from palmette.data.joined import BETWEEN, join
from palmette.decode.long_document import AskedQuestion, FirstLook
from palmette.decode.posterior import Decision, WindowScores
from palmette.decode.prediction import Prediction
from palmette.decode.span_decoder import SpanDecoder
from palmette.decode.window_prior import WindowPrior, likeliest_first
from palmette.inference.answerer import Answerer
from palmette.inference.session import Session
from palmette.run import environment
from palmette.tasks.answer_match import exact_match, gold_answers, token_f1

RANKS = (1, 2, 4, 8, 12, 16, 24)


def joined(documents: Sequence[Document], characters: int | None) -> Iterator[Document]:
    """Long documents with the answerable questions of their paragraphs.

    Args:
        documents: paragraphs, with the article's name as their title.
        characters: the least length of a document. With None each article is one.
    """
    some: list[Document] = []
    for index, paragraph in enumerate(documents):
        answerable = tuple(question for question in paragraph.questions if question.answerable)
        some.append(replace(paragraph, questions=answerable))
        long = sum(len(one.text) + len(BETWEEN) for one in some)
        last = index + 1 == len(documents)
        ends = not characters and not last and documents[index + 1].title != paragraph.title
        if (characters and long >= characters) or last or ends:
            document = join(some, f"joined-{index}" if characters else paragraph.title)
            if document.questions and (not characters or long >= characters / 2):
                yield document
            some = []


def recall(answerer: Answerer, documents: Sequence[Document], questions: int, draw: random.Random) -> None:
    """Print how often the window of the answer is among the first, and how likely the prior took that to be."""
    found: list[int] = []
    said: list[list[float]] = []
    num_windows = []
    decoder = answerer.span_decoder()
    for document in documents:
        windows = decoder.windows(document.text)
        window_prior, starts = WindowPrior(document.text, windows), [window.words[0][0] for window in windows]
        for question in draw.sample(document.questions, min(questions, len(document.questions))):
            prior = window_prior.of(question.text)
            order = likeliest_first(prior)
            gold = {max(0, bisect_right(starts, answer.start) - 1) for answer in question.answers}
            found.append(min(order.index(window) for window in gold))
            said.append([float(prior[order[:k]].sum()) for k in RANKS])
            num_windows.append(len(windows))
    ranks = np.array(found)
    print(f"{len(documents)} documents of {np.mean(num_windows):.0f} windows, {len(ranks)} questions\n")
    print("| windows read | 1 | 2 | 4 | 8 | 12 | 16 | 24 |\n|---|---|---|---|---|---|---|---|")
    print("| holds the answer, % | " + " | ".join(f"{100 * (ranks < k).mean():.1f}" for k in RANKS) + " |")
    print("| the prior's word, % | " + " | ".join(f"{100 * x:.1f}" for x in np.mean(said, axis=0)) + " |")


@dataclass
class Score:
    """Sums over the questions of one way to read.

    Attributes:
        held, em, f1, refused: questions that the document answers, and what became of them.
        absent, right: questions that it does not answer, and how many of them were refused.
        read: windows read, over all questions.
        wrong: answers that are wrong, of either kind of question.
        same: decisions equal to those of reading everything.
    """

    held: int = 0
    em: float = 0.0
    f1: float = 0.0
    refused: int = 0
    absent: int = 0
    right: int = 0
    read: int = 0
    wrong: int = 0
    same: int = 0

    def row(self, name: str) -> str:
        """A line of the table."""
        asked = self.held + self.absent
        shares = (self.em / self.held, self.f1 / self.held, self.refused / self.held, self.right / self.absent)
        shares = (*shares, (self.em + self.right) / asked, self.wrong / asked, self.same / asked)
        figures = " | ".join(f"{100 * share:.1f}" for share in shares)
        return f"| {name} | {asked} | {self.read / asked:.1f} | {figures} |"


def ways() -> dict[str, FirstLook | None]:
    """The ways to read that are compared. The last one reads everything, and takes all windows for equally likely."""
    looks: dict[str, FirstLook | None] = {
        f"up to {most}, until {100 * unread:g} % are left": FirstLook(0, most, 4, unread)
        for most, unread in ((4, 0.0), (8, 0.05), (12, 0.1), (12, 0.05), (12, 0.0), (24, 0.05))
    }
    everything = 10**6
    return {**looks, "all, by their prior": FirstLook(0, everything, everything, -1.0), "all": None}


def scores_of_all(
    decoder: SpanDecoder, document: Document, asked: Sequence[Question]
) -> dict[str, dict[int, WindowScores]]:
    """The scores of every window for every question: {question: {window: scores}}."""
    windows, opened = decoder.windows(document.text), decoder.opened(asked)
    found: dict[str, dict[int, WindowScores]] = {question.id: {} for question in asked}
    cache = decoder.new_cache()
    for jobs in decoder.batches((decoder.reading(document, windows, index), opened) for index in range(len(windows))):
        decoder.asking.run(cache, jobs)
        for job in jobs:
            found[job.question][job.reading.index] = job.answer.search.scores()
    return found


def looked(
    question: Question,
    known: dict[int, WindowScores],
    look: FirstLook | None,
    window_prior: WindowPrior,
    decision: Decision,
) -> Prediction:
    """What a way to read comes to, if the scores of all windows are known."""
    asked = AskedQuestion(question, len(known), look, None if look is None else window_prior)
    while True:
        for index in asked.next_windows():
            asked.scores[index] = known[index]
        prediction = decision.decide(asked.posterior())
        if asked.is_done(prediction):
            return prediction


def answers(
    answerer: Answerer, documents: Sequence[Document], questions: int, draw: random.Random, keep: Path | None
) -> None:
    """Print what questions came to, by the way of reading. All windows are scored once, for all ways.

    The scores are kept in a folder, if one is given, so that other ways can be compared without reading again.
    """
    totals = {name: Score() for name in ways()}
    sizes, started = [], time.perf_counter()
    decoder = answerer.span_decoder()
    for document in documents:
        own = draw.sample(document.questions, min(questions, len(document.questions)))
        others = [q for other in documents if other.title != document.title for q in other.questions]
        asked = [*own, *(Question(f"absent/{q.id}", q.text) for q in draw.sample(others, min(len(own), len(others))))]
        if keep is not None and (kept := keep / f"{document.id}.pickle").is_file():
            known = pickle.loads(kept.read_bytes())  # what this program wrote
        else:
            known = scores_of_all(decoder, document, asked)
            if keep is not None:
                keep.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(pickle.dumps(known))
        windows = decoder.windows(document.text)
        window_prior = WindowPrior(document.text, windows)
        sizes.append(len(windows))
        for question in asked:
            found = {
                name: looked(question, known[question.id], look, window_prior, decoder.decision)
                for name, look in ways().items()
            }
            for name, one in found.items():
                count(totals[name], question, one.text, one.num_read)
                totals[name].same += one.text == found["all"].text
        print(
            f"{document.title}: {sizes[-1]} windows, {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True
        )
        table(totals, sizes)


def table(totals: dict[str, Score], sizes: Sequence[int]) -> None:
    """Print the table."""
    print(f"{len(sizes)} documents of {np.mean(sizes):.0f} windows on average\n")
    print("| reads | questions | windows a question | EM, answerable | F1, answerable | refused, answerable |", end="")
    print(" refused, absent | right | wrong answers | as reading all |\n|---|---|---|---|---|---|---|---|---|---|")
    for name, score in totals.items():
        print(score.row(name), flush=True)


def count(score: Score, question: Question, text: str, num_read: int) -> None:
    """Add a question to its sums."""
    score.read += num_read
    if question.answerable:
        gold = gold_answers(question)
        score.held, score.em, score.f1 = (
            score.held + 1,
            score.em + exact_match(text, gold),
            score.f1 + token_f1(text, gold),
        )
        score.refused += not text
        score.wrong += bool(text) and exact_match(text, gold) < 1.0
    else:
        score.absent, score.right, score.wrong = score.absent + 1, score.right + (not text), score.wrong + bool(text)


def speed(answerer: Answerer, documents: Sequence[Document], draw: random.Random, *, whole: bool) -> None:
    """Print seconds of a first question, of ten more, and of the same again with what is on disk."""
    document, others = documents[0], documents[1:]
    own = [q.text for q in draw.sample(document.questions, 6)]
    foreign = [q.text for other in others for q in draw.sample(other.questions, 5)][:5] or own[:5]
    asked = [text for pair in zip(own, [*foreign, own[-1]], strict=True) for text in pair][:11]
    print(f"{len(document.text)} characters, {len(asked)} questions\n")
    print(
        "| session | windows read | first answer, s | ten more, s | processor s, first | ten more | peak memory, MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, read_all in (("nothing known", False), ("read before", False), *((("all", True),) if whole else ())):
        started, work = time.perf_counter(), time.process_time()
        session = Session(answerer, Document("d", document.text, ()), read_all=read_all)
        times, used = [], []
        for text in asked:
            session.ask([text])
            times.append(time.perf_counter() - started)
            used.append(time.process_time() - work)
            started, work = time.perf_counter(), time.process_time()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        row = f"{times[0]:.1f} | {sum(times[1:]):.1f} | {used[0]:.1f} | {sum(used[1:]):.1f} | {memory:.0f}"
        print(f"| {name} | {session.num_computed} of {session.num_windows} | {row} |", flush=True)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("recall", "answers", "speed"))
    parser.add_argument("--model", required=True, help="A run, folder, GGUF file or hub id.")
    parser.add_argument("--data", required=True, nargs="+", help="SQuAD files with articles of many paragraphs.")
    parser.add_argument("--by-article", action="store_true", help="Each article is a document.")
    parser.add_argument("--characters", type=int, default=475_000, help="Else the length of a document.")
    parser.add_argument("--questions", type=int, default=20, help="Questions of each kind per document.")
    parser.add_argument("--documents", type=int, help="At most so many documents.")
    parser.add_argument("--no-whole", action="store_true", help="Leave out reading everything.")
    parser.add_argument("--keep", type=Path, help="Folder for the scores of all windows.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    answerer = palmette.load(options.model)
    paragraphs = [document for name in options.data for document in palmette.read_data(name).documents]
    documents = list(joined(paragraphs, None if options.by_article else options.characters))[: options.documents]
    print(f"{options.model}, {environment()['machine']['processor']}, {json.dumps(vars(options), default=str)}\n")
    draw = random.Random(options.seed)
    if options.what == "recall":
        recall(answerer, documents, options.questions, draw)
    elif options.what == "answers":
        answers(answerer, documents, options.questions, draw, options.keep)
    else:
        speed(answerer, documents, draw, whole=not options.no_whole)


if __name__ == "__main__":
    main()
