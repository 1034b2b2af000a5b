"""Fifty questions about ten real documents: how many answers are right, wrong and refused, and how long they take.

The questions and their known answers are in ten_documents.yaml, with where each document comes from. The documents are
not part of the project. Ten more questions are asked about the example contract of the project.

    python benchmarks/ten_documents.py --model runs/quickstart --folder documents --folder contracts

An answer is *right* if it equals a known answer after the normalisation of SQuAD (lower case, no punctuation, no
articles). It *contains* the answer if it is longer, and a known answer stands in it as whole words. Every other answer
is *wrong*, and so is every answer to a question that the document does not answer. A refusal is right for those
questions. EM and F1 are SQuAD v2's. The cost is 2 for a wrong answer and 1 for the refusal of a question that has an
answer.

The script uses the public Python API only, so that it measures older releases too: run it with their `src` on
PYTHONPATH. Where the release has `palmette.documents`, it reads the files as `palmette ask` does, and as UTF-8 where it
has not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
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
COLUMNS = ("right", "contains", "wrong", "refused", "rightly refused", "wrongly answered")
# What a wrong answer and a wrong refusal cost, as `palmette calibrate` counts by default.
COST = {"wrong": 2, "wrongly answered": 2, "refused": 1}


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
        best: the best span, whether or not it was given.
        kind: one of COLUMNS.
        exact, f1: SQuAD's scores, 0 to 1.
    """

    document: str
    question: str
    known: tuple[str, ...]
    answer: str
    refusal: str
    probability: float | None
    no_answer_probability: float | None
    best: str
    kind: str
    exact: float
    f1: float


def kind_of(answer: str, known: Sequence[str]) -> str:
    """What an answer is worth.

    >>> kind_of("Within 28 days.", ["28 days"]), kind_of("128 days", ["28 days"]), kind_of("", ["28 days"])
    ('contains', 'wrong', 'refused')
    >>> kind_of("", []), kind_of("28 days", []), kind_of("the Client", ["Client"])
    ('rightly refused', 'wrongly answered', 'right')
    """
    if not known:
        return "wrongly answered" if answer else "rightly refused"
    if not answer:
        return "refused"
    if exact_match(answer, known):
        return "right"
    words = f" {normalize_answer(answer)} "
    return "contains" if any(f" {normalize_answer(one)} " in words for one in known) else "wrong"


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
    outcomes = []
    for (question, known), found in zip(asked.questions, predictions, strict=True):
        outcome = Outcome(
            asked.title,
            question,
            known,
            found.text,
            found.refusal,
            found.probability,
            found.no_answer_probability,
            found.candidates[0].text if found.candidates else "",
            kind_of(found.text, known),
            exact_match(found.text, known or [""]),
            token_f1(found.text, known or [""]),
        )
        outcomes.append(outcome)
    return outcomes, unread


def row(title: str, size: int, outcomes: Sequence[Outcome], seconds: float) -> str:
    """A line of the table."""
    counts = Counter(outcome.kind for outcome in outcomes)
    cells = [title, f"{size / 1000:.0f}", *(str(counts[column]) for column in COLUMNS), f"{seconds:.1f}"]
    return "| " + " | ".join(cells) + " |"


def summary(outcomes: Sequence[Outcome]) -> str:
    """The scores of many questions in a sentence."""
    counts = Counter(outcome.kind for outcome in outcomes)
    exact = 100 * sum(outcome.exact for outcome in outcomes) / len(outcomes)
    f1 = 100 * sum(outcome.f1 for outcome in outcomes) / len(outcomes)
    cost = sum(COST.get(outcome.kind, 0) for outcome in outcomes)
    unsure = sum(outcome.refusal == "unsure" for outcome in outcomes)
    answered = sum(bool(outcome.answer) for outcome in outcomes)
    hits = counts["right"] + counts["contains"]
    return (
        f"{len(outcomes)} questions: EM {exact:.0f}, F1 {f1:.0f}, cost {cost}. "
        f"Of {answered} answers {hits} are right or contain the answer. {unsure} of the refusals say unsure."
    )


def measure(reader: Any, documents: Sequence[Asked], *, read_all: bool) -> Iterator[dict[str, Any]]:
    """Ask about each document in turn, print a line of the table, and give what was found."""
    for asked in documents:
        start = time.perf_counter()
        outcomes, unread = ask(reader, asked, read_all=read_all)
        seconds = time.perf_counter() - start
        size = len(asked.text.encode())
        print(row(asked.title, size, outcomes, seconds), flush=True)
        yield {"title": asked.title, "bytes": size, "seconds": seconds, "unread": unread, "outcomes": outcomes}


def main() -> None:
    """Ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="runs/quickstart", help="a run, a model folder, a GGUF file, or a hub id")
    parser.add_argument("--folder", action="append", type=Path, required=True, help="where documents lie, repeatable")
    parser.add_argument("--read-all", action="store_true", help="read all of each document, where the release can skip")
    parser.add_argument("--no-calibration", action="store_true", help="leave the calibration of the run out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every answer to this file")
    arguments = parser.parse_args()
    documents = [*read_questions(QUESTIONS, arguments.folder), example_contract()]
    start = time.perf_counter()
    try:
        reader = palmette.load(arguments.model, calibrated=not arguments.no_calibration)
    except PalmetteError as error:
        sys.exit(str(error))
    loading = time.perf_counter() - start
    print(f"| document | KB | {' | '.join(COLUMNS)} | seconds |")
    print("|---|" + "---:|" * (len(COLUMNS) + 2))
    results = list(measure(reader, documents, read_all=arguments.read_all))
    real = [outcome for result in results[:-1] for outcome in result["outcomes"]]
    size, seconds = sum(result["bytes"] for result in results[:-1]), sum(result["seconds"] for result in results[:-1])
    print(row("the ten documents together", size, real, seconds))
    print(f"\nThe ten documents. {summary(real)}\nThe example contract. {summary(results[-1]['outcomes'])}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"Loading the model took {loading:.1f} s. The process took {peak:.1f} GB at most.")
    for result in results:
        if result["unread"]:
            print(f"{result['title']}: {result['unread']}")
    if arguments.json:
        record = {
            "palmette": palmette.__file__,
            "model": arguments.model,
            "machine": platform.processor() or platform.machine(),
            "loading_seconds": loading,
            "documents": [{**one, "outcomes": [asdict(outcome) for outcome in one["outcomes"]]} for one in results],
        }
        arguments.json.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
