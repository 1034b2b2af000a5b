"""How the review page's server bears many people at once, on SQLite: times of a verdict, and whether any is lost.

    python benchmarks/review_load.py                      # 20 people for a minute, a second of thought each time
    python benchmarks/review_load.py --think 0            # as fast as the server answers

The server is a process of its own, with a model that answers at once, so nothing but the server and the store is
measured. Each person is a thread with a session of its own: it reads the question, thinks, sends a verdict, and gets
the next question with the confirmation. One verdict in ten is sent twice, as a page does whose answer got lost. At the
end the server is killed without warning. Then the store must hold every verdict that was confirmed, and none twice.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import httpx2

from palmette.data.records import Document, Question
from palmette.decode.prediction import Candidate, Prediction
from palmette.review.showing import Choosing, Run
from palmette.review.store import Store
from palmette.web.review.opening import open_review
from palmette.web.serving import known_names, listen, run_application

QUESTIONS = 20  # of a document
TWICE = 0.1  # share of verdicts that are sent twice
SENTENCE = "Boat {boat} leaves from pier {pier} at {hour} o'clock, and carries {load} crates of lamp oil. "


class InstantDecoder:
    """A model that answers at once, from the words of its documents."""

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        """(question id, prediction) for every question."""
        for document in documents:
            for number, question in enumerate(document.questions):
                generator = random.Random(question.id)
                starts = [n for n in range(len(document.text) - 8) if document.text.startswith("pier ", n)]
                places = [(n, n + 6) for n in generator.sample(starts, 4)]
                shares = (0.3 + 0.05 * (number % 8), 0.1, 0.05, 0.02)
                found = tuple(
                    Candidate(document.text[start:end], start, end, share)
                    for (start, end), share in zip(places, shares, strict=True)
                )
                best = found[0]
                yield question.id, Prediction(best.text, "", best.start, best.end, best.probability, 0.1, found)


def documents(number: int) -> list[Document]:
    """Documents of about 250 words."""
    made = []
    for name in range(number):
        generator = random.Random(name)
        lines = [
            SENTENCE.format(
                boat=boat, pier=generator.randrange(9), hour=generator.randrange(24), load=generator.randrange(99)
            )
            for boat in range(20)
        ]
        asked = tuple(Question(f"{name}-{n}", f"Where does boat {n} leave?") for n in range(QUESTIONS))
        made.append(Document(str(name), f"Harbour {name}. " + "".join(lines), asked))
    return made


def serve(store: str, names: Sequence[str], number: int, started: Connection) -> None:
    """The server, in a process of its own. It says its port and the tokens."""
    opened = listen("127.0.0.1", 0)
    port = opened.getsockname()[1]
    review = open_review(
        Store.open(store),
        documents(number),
        InstantDecoder(),
        Run("instant"),
        data="harbour",
        annotators=names,
        names=known_names("127.0.0.1"),
        port=port,
        choosing=Choosing("mixed", overlap_share=0.2, blind_share=0.1),
    )
    review.answers.wait()
    started.send((port, review.sessions.tokens))
    run_application(review.app, opened)


@dataclass
class Person:
    """Somebody who judges, and what came of it.

    Attributes:
        name: the name.
        times: seconds from sending each verdict to its confirmation.
        confirmed: (question's key, kind) of every confirmed verdict.
        failed: answers of the server that were no confirmation.
    """

    name: str
    times: list[float] = field(default_factory=list)
    confirmed: list[tuple[int, str]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    def work(self, port: int, token: str, think: float, end: float) -> None:
        """Judge until the end."""
        generator = random.Random(self.name)
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30.0) as client:
            client.post("/api/session", json={"token": token})
            asked = client.get("/api/review/desk").json()["asked"]
            while asked is not None and time.monotonic() < end:
                if think:
                    time.sleep(generator.expovariate(1.0 / think))
                kind = generator.choice(["no_answer", "skip"] if asked["blind"] else ["accept", "reject", "no_answer"])
                span = asked["suggestion"] if kind == "accept" else None
                body = {"asked": asked["key"], "kind": kind, "span": span, "seconds": think}
                for _ in range(2 if generator.random() < TWICE else 1):
                    begun = time.perf_counter()
                    answer = client.post("/api/review/verdicts", json=body)
                    self.times.append(time.perf_counter() - begun)
                if answer.status_code != 200:
                    self.failed[f"{answer.status_code} {answer.text[:80]}"] += 1
                    return
                self.confirmed.append((asked["key"], kind))
                asked = answer.json()["asked"]


def check(store: Path, people: Sequence[Person]) -> tuple[int, int]:
    """(verdicts that were confirmed and are not in the store, questions that one person judged twice)."""
    with Store.open(store) as opened:
        events = list(opened.events())
    keys = {event.id: (event.annotator, event.question) for event in events if event.kind == "shown"}
    stored = Counter(
        (event.annotator, event.question, event.verdict.kind)
        for event in events
        if event.kind == "verdict" and event.verdict
    )
    confirmed = Counter((*keys[key], kind) for person in people for key, kind in person.confirmed)
    people_questions = Counter((name, question) for name, question, _ in stored.elements())
    return sum((confirmed - stored).values()), sum(count > 1 for count in people_questions.values())


def measure(number: int, seconds: float, think: float, num_documents: int) -> None:
    """Let people judge, kill the server, and print what came of it."""
    people = [Person(f"person {n}") for n in range(number)]
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "review.db"
        here, there = multiprocessing.Pipe()
        arguments = (str(store), [one.name for one in people], num_documents, there)
        server = multiprocessing.get_context("spawn").Process(target=serve, args=arguments, daemon=True)
        server.start()
        port, tokens = here.recv()
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=one.work, args=(port, tokens[one.name], think, end)) for one in people]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        server.kill()
        server.join()
        lost, twice = check(store, people)
    times = sorted(1000.0 * one for person in people for one in person.times)
    shares = statistics.quantiles(times, n=100)
    rows = {
        "people": f"{number}",
        "seconds": f"{seconds:g}",
        "thought, seconds": f"{think:g}",
        "verdicts confirmed": f"{sum(len(one.confirmed) for one in people):,}",
        "verdicts a second": f"{len(times) / seconds:.1f}",
        "ms until confirmed, median": f"{shares[49]:.1f}",
        "ms, p95": f"{shares[94]:.1f}",
        "ms, p99": f"{shares[98]:.1f}",
        "ms, longest": f"{times[-1]:.1f}",
        "confirmed and not stored": f"{lost}",
        "stored twice": f"{twice}",
        "refused": f"{sum(sum(one.failed.values()) for one in people)}",
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")
    for person in people:
        for failure, count in person.failed.items():
            print(f"{person.name}: {count} times {failure}")


def main() -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--people", type=int, default=20, help="People who judge at the same time.")
    parser.add_argument("--seconds", type=float, default=60.0, help="How long they judge.")
    parser.add_argument("--think", type=float, default=1.0, help="Mean seconds of thought for each question.")
    parser.add_argument("--documents", type=int, default=250, help=f"Documents, of {QUESTIONS} questions each.")
    given = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "uvicorn", "sqlalchemy"))
    print(f"Python {platform.python_version()}, {packages}, {os.cpu_count()} cores\n")
    measure(given.people, given.seconds, given.think, given.documents)


if __name__ == "__main__":
    main()
