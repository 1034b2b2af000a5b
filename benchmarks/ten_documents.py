"""Fifty questions about ten real documents: how many answers are right, wrong and refused, and how long they take.

The questions and their known answers are in ten_documents.yaml, with where each document comes from. The documents are
not part of the project. Ten more questions are asked about the example contract of the project.

    python benchmarks/ten_documents.py --model runs/quickstart --folder documents --folder contracts

An answer is *right* if it equals a known answer after the normalisation of SQuAD (lower case, no punctuation, no
articles). It *contains* the answer if it is longer, and a known answer stands in it as whole words. Every other answer
is *wrong*, and so is every answer to a question that the document does not answer. A refusal is right for those
questions. Refusals of the others are *unsure* or *called absent*, as the model said. EM and F1 are SQuAD v2's. The cost
is 2 for a wrong answer and 1 for the refusal of a question that has an answer.

    python benchmarks/ten_documents.py --folder documents --folder contracts --show before.json

prints the table of answers that were written with --json, compared with the known answers as they are now.

The script uses the public Python API only, so that it measures older releases too: run it with their `src` on
PYTHONPATH. Where the release has `palmette.documents`, it reads the files as `palmette ask` does, and as UTF-8 where it
has not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

import palmette
from palmette.errors import PalmetteError
from palmette.tasks.answer_match import exact_match, normalize_answer, token_f1

HERE = Path(__file__).parent
QUESTIONS = HERE / "ten_documents.yaml"
CONTRACT = HERE.parent / "src" / "palmette" / "data" / "examples" / "contract.json"
COLUMNS = ("right", "contains", "wrong", "unsure", "called absent", "rightly refused", "wrongly answered")
# What a wrong answer and a wrong refusal cost, as `palmette calibrate` counts by default.
COST = {"wrong": 2, "wrongly answered": 2, "unsure": 1, "called absent": 1}
NUM_SHOWN = 3  # candidates that a person would look at after a refusal


@dataclass(frozen=True)
class Asked:
    """A document and its questions.

    Attributes:
        title: what the tables call it.
        text: its text.
        questions: (question, known answers). Without answers if the document does not answer it.
    """

    title: str
    text: str
    questions: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class Outcome:
    """What one question came to.

    Attributes:
        document: the title of the document.
        question: the question.
        known: the known answers.
        answer: the answer. "" for a refusal.
        refusal: "absent", "unsure" or "".
        probability: of the answer, or of no answer.
        no_answer_probability: that the document does not answer.
        candidates: the best spans, best first, whether or not one of them was given.
    """

    document: str
    question: str
    known: tuple[str, ...]
    answer: str
    refusal: str
    probability: float | None
    no_answer_probability: float | None
    candidates: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What it is worth, one of COLUMNS."""
        if not self.known:
            return "wrongly answered" if self.answer else "rightly refused"
        if self.answer:
            return worth(self.answer, self.known)
        return "unsure" if self.refusal == "unsure" else "called absent"

    @property
    def exact(self) -> float:
        """SQuAD's exact match, 0 or 1."""
        return exact_match(self.answer, self.known or [""])

    @property
    def f1(self) -> float:
        """SQuAD's F1, 0 to 1."""
        return token_f1(self.answer, self.known or [""])

    @property
    def shown(self) -> bool:
        """Whether one of the candidates that a person looks at is right."""
        return any(worth(candidate, self.known) != "wrong" for candidate in self.candidates[:NUM_SHOWN])


def worth(answer: str, known: Sequence[str]) -> str:
    """What an answer to a question that has one is worth.

    >>> worth("Within 28 days.", ["28 days"]), worth("128 days", ["28 days"]), worth("the Client", ["Client"])
    ('contains', 'wrong', 'right')
    """
    if exact_match(answer, known):
        return "right"
    words = f" {normalize_answer(answer)} "
    return "contains" if any(f" {normalize_answer(one)} " in words for one in known) else "wrong"


@dataclass(frozen=True)
class Result:
    """What the questions about one document came to.

    Attributes:
        title: what the tables call the document.
        bytes: the size of its text.
        seconds, cpu_seconds: the time of all its questions together, and the processor time.
        unread: what was not read, in a sentence. "" if all was read.
        outcomes: one of each question.
    """

    title: str
    bytes: int
    seconds: float
    cpu_seconds: float
    unread: str
    outcomes: tuple[Outcome, ...]


def read_questions(path: Path, folders: Sequence[Path]) -> Iterator[Asked]:
    """The documents that a file of questions names, found in folders and checked.

    Raises:
        SystemExit: a document is missing, is another file, or does not hold a known answer.
    """
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        name = entry["file"]
        found = next((place for folder in folders for place in sorted(folder.rglob(name))), None)
        if found is None:
            sys.exit(f"{name} is in none of the folders. It comes from {entry['source']}.")
        digest = hashlib.sha256(found.read_bytes()).hexdigest()
        if digest != entry["sha256"]:
            sys.exit(f"{found} has sha256 {digest}, not {entry['sha256']}. Fetch it from {entry['source']}.")
        text = text_of(found)
        questions = tuple((one["question"], tuple(one["answers"])) for one in entry["questions"])
        for question, known in questions:
            for answer in known:
                if answer not in " ".join(text.split()):
                    sys.exit(f"{name} does not hold the known answer {answer!r} of {question!r}. Correct {path}.")
        yield Asked(entry["title"], text, questions)


def text_of(path: Path) -> str:
    """The text of a document, read as this release reads it."""
    try:
        from palmette.documents import read_document
    except ImportError:
        return path.read_bytes().decode("utf-8-sig")
    text: str = read_document(path).text
    return text


def example_contract() -> Asked:
    """The contract that comes with the project, with its ten questions."""
    (document,) = palmette.read_data(CONTRACT).documents
    questions = tuple((one.text, tuple(answer.text for answer in one.answers)) for one in document.questions)
    return Asked("the example contract", document.text, questions)


def ask(reader: Any, asked: Asked, *, read_all: bool) -> tuple[list[Outcome], str]:
    """Ask all questions about a document, as `palmette ask` does, and what was left unread."""
    questions = [question for question, _ in asked.questions]
    if hasattr(reader, "open_document"):
        session = reader.open_document(asked.text, name=asked.title, read_all=read_all)
        predictions, unread = session.ask(questions), session.unread or ""
    else:
        predictions, unread = reader.answer(asked.text, questions), ""
    outcomes = [
        Outcome(
            asked.title,
            question,
            known,
            found.text,
            found.refusal,
            found.probability,
            found.no_answer_probability,
            tuple(candidate.text for candidate in found.candidates),
        )
        for (question, known), found in zip(asked.questions, predictions, strict=True)
    ]
    return outcomes, unread


def measure(reader: Any, documents: Sequence[Asked], *, read_all: bool) -> Iterator[Result]:
    """Ask about each document in turn."""
    for asked in documents:
        start, busy = time.perf_counter(), time.process_time()
        outcomes, unread = ask(reader, asked, read_all=read_all)
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - busy
        yield Result(asked.title, len(asked.text.encode()), seconds, cpu_seconds, unread, tuple(outcomes))


def written(path: Path, documents: Sequence[Asked]) -> Iterator[Result]:
    """The results in a file, with the known answers as they are now.

    Raises:
        SystemExit: the file has answers to other questions.
    """
    known = {(asked.title, question): answers for asked in documents for question, answers in asked.questions}
    for result in json.loads(path.read_text(encoding="utf-8"))["documents"]:
        outcomes = result.pop("outcomes")
        for one in outcomes:
            key = (one["document"], one["question"])
            if key not in known:
                sys.exit(f"{path} has an answer to {key[1]!r} about {key[0]}, which is not asked now. Ask again.")
            one |= {"known": known[key], "candidates": tuple(one["candidates"])}
        yield Result(**result, outcomes=tuple(Outcome(**one) for one in outcomes))


def row(title: str, results: Sequence[Result]) -> str:
    """A line of the table."""
    counts = Counter(outcome.kind for result in results for outcome in result.outcomes)
    size, seconds = sum(result.bytes for result in results), sum(result.seconds for result in results)
    cells = [title, f"{size / 1000:.0f}", *(str(counts[column]) for column in COLUMNS), f"{seconds:.1f}"]
    return "| " + " | ".join(cells) + " |"


def summary(outcomes: Sequence[Outcome]) -> str:
    """The scores of many questions in a few sentences."""
    exact = 100 * sum(outcome.exact for outcome in outcomes) / len(outcomes)
    f1 = 100 * sum(outcome.f1 for outcome in outcomes) / len(outcomes)
    cost = sum(COST.get(outcome.kind, 0) for outcome in outcomes)
    answered = [outcome for outcome in outcomes if outcome.answer]
    hits = sum(outcome.kind in ("right", "contains") for outcome in answered)
    unsure, absent = ([one for one in outcomes if one.kind == kind] for kind in ("unsure", "called absent"))
    return (
        f"{len(outcomes)} questions: EM {exact:.0f}, F1 {f1:.0f}, cost {cost}. {hits} of {len(answered)} answers are "
        f"right or contain the answer. {sum(one.shown for one in unsure)} of {len(unsure)} that were called unsure and "
        f"{sum(one.shown for one in absent)} of {len(absent)} that were called absent have a known answer among the "
        f"first {NUM_SHOWN} candidates."
    )


def report(results: Iterable[Result]) -> list[Result]:
    """Print the table, a line as soon as it is known, and the scores below it."""
    print(f"| document | KB | {' | '.join(COLUMNS)} | seconds |")
    print("|---|" + "---:|" * (len(COLUMNS) + 2))
    done = []
    for result in results:
        print(row(result.title, [result]), flush=True)
        done.append(result)
    *real, contract = done
    print(row("the ten documents together", real))
    print(f"\nThe ten documents. {summary([outcome for result in real for outcome in result.outcomes])}")
    print(f"The example contract. {summary(contract.outcomes)}")
    print(f"All documents took {sum(result.cpu_seconds for result in done):.0f} s of processor time.")
    for result in done:
        if result.unread:
            print(f"{result.title}: {result.unread}")
    return done


def main() -> None:
    """Ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/quickstart", help="a run, a model folder, a GGUF file, or a hub id")
    parser.add_argument("--folder", action="append", type=Path, required=True, help="where documents lie, repeatable")
    parser.add_argument("--read-all", action="store_true", help="read all of each document, where the release can skip")
    parser.add_argument("--no-calibration", action="store_true", help="leave the calibration of the run out")
    parser.add_argument("--cost-wrong", type=float, help="what a wrong answer costs, where the release can be told")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every answer to this file")
    parser.add_argument("--show", type=Path, metavar="FILE", help="print the table of answers written before")
    arguments = parser.parse_args()
    documents = [*read_questions(QUESTIONS, arguments.folder), example_contract()]
    if arguments.show:
        report(written(arguments.show, documents))
        return
    start = time.perf_counter()
    try:
        cost = {} if arguments.cost_wrong is None else {"cost_wrong": arguments.cost_wrong}
        reader = palmette.load(arguments.model, calibrated=not arguments.no_calibration, **cost)
    except PalmetteError as error:
        sys.exit(str(error))
    loading = time.perf_counter() - start
    results = report(measure(reader, documents, read_all=arguments.read_all))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"Loading the model took {loading:.1f} s. The process took {peak:.1f} GB at most.")
    if arguments.json:
        record = {"model": arguments.model, "loading_seconds": loading, "documents": [asdict(one) for one in results]}
        arguments.json.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
